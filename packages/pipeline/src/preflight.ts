import { isLive, isReady } from './conditions.ts';
import {
  type MeshConfirmation,
  newReplicaSetName,
  type Outline,
  type Problem,
  partOf,
  type Slot,
  type Survey,
  type Tracked,
} from './deployment-state.ts';
import { entryAt } from './entry-at.ts';
import type { KubernetesObject } from './kubernetes.ts';
import { annotationKeys, deploymentKey, hashKey, instanceKey } from './marks.ts';
import type { DeploymentPlan, SmiRoute, Workload } from './plan.ts';
import { meshWeights } from './traffic/smi.ts';

/**
 * What a preflight reads from the cluster, all of one namespace: the root Services and everything that could make a
 * canary over them go wrong (design.md, "Preflight P"). `undefined` where an object does not exist.
 */
export type Surroundings = {
  services: KubernetesObject[];
  pods: KubernetesObject[];
  replicaSets: KubernetesObject[];
  splits: KubernetesObject[];
  /** Linkerd's ServiceProfiles. */
  serviceProfiles: KubernetesObject[];
  /** Deployments with the workloads' names, in the plan's order. */
  deployments: (KubernetesObject | undefined)[];
  /** HorizontalPodAutoscalers and KEDA ScaledObjects. */
  autoscalers: KubernetesObject[];
  /** The plan's other objects as they are now, in the plan's order. */
  existing: (KubernetesObject | undefined)[];
  splitApiVersion: string | undefined;
  meshConfirmation: MeshConfirmation;
  /** The id of this control plane, as on objects that it wrote. */
  instance: string;
  /** Of the deployments that objects in the namespace are marked with: those that are over. */
  finalDeployments: ReadonlySet<string>;
};

type Run = { id: string; hashes: string[]; outline: Outline };

/** Looks at a target before anything is changed. Problems are all found at once, each with what to do. */
export function survey(plan: DeploymentPlan, run: Run, seen: Surroundings): Survey {
  const problems: Problem[] = [];
  const warnings: string[] = [];
  const say: Say = (object, message) => problems.push({ object, message });
  const looks = plan.workloads.map((_, index) => lookAtWorkload(say, warnings, plan, run, index, seen));
  const pairs = plan.routes.map((route) => checkRoot(say, plan, route, run, looks, seen));
  checkUnrouted(say, plan, pairs);
  checkServiceChanges(
    say,
    plan,
    seen,
    looks.flatMap(({ oldPods }) => oldPods),
  );
  const leftovers: Survey['leftovers'] = [];
  for (const [index, route] of plan.routes.entries()) {
    const look = looks[pairs[index] ?? 0];
    if (look?.mode === 'canary') checkBackends(say, leftovers, plan, index, look, run, seen);
    checkOtherSplits(say, route, seen);
    checkServiceProfile(say, warnings, plan, route, seen);
  }
  if (looks.some(({ mode }) => mode === 'canary') && seen.splitApiVersion === undefined) {
    say(
      `cluster of account ${plan.account}`,
      'does not serve TrafficSplits (split.smi-spec.io); install the SMI extension of the mesh',
    );
  }
  for (const look of looks) warnings.push(...otherServices(plan, look, seen));
  warnings.push(...sharedConfiguration(plan, seen, looks));

  const serviceOf = (name: string) => seen.services.find(({ metadata }) => metadata.name === name);
  return {
    problems,
    warnings,
    workloads: looks.map(({ mode, old, oldHash, oldPods }) => ({
      mode,
      old: old
        ? {
            name: old.metadata.name,
            hash: oldHash ?? '',
            uid: old.metadata.uid ?? '',
            resourceVersion: old.metadata.resourceVersion ?? '',
            pods: oldPods.length,
            ready: oldPods.filter(isReady).length,
          }
        : null,
    })),
    routes: plan.routes.map(({ rootServiceName, canaryServiceName, canaryServiceGiven }) => ({
      root: track(serviceOf(rootServiceName)),
      canary: canaryServiceGiven ? track(serviceOf(canaryServiceName)) : null,
    })),
    pairs: pairs.map((workload) => workload ?? 0),
    existing: seen.existing.flatMap((object, index) => {
      const tracked = track(object);
      return tracked ? [{ index, uid: tracked.uid, resourceVersion: tracked.resourceVersion }] : [];
    }),
    // In this order leftovers are deleted: first what sends traffic, then where it would go.
    leftovers: leftovers.toSorted((a, b) => rank(a.slot) - rank(b.slot)),
    splitApiVersion: seen.splitApiVersion ?? '',
    meshConfirmation: seen.meshConfirmation,
  };
}

function rank(slot: Slot): number {
  return partOf(slot).part === 'split' ? 0 : 1;
}

/** What a preflight finds that may not look: the target fails, and is told every right that is missing. */
export function blindSurvey(plan: DeploymentPlan, refused: readonly string[]): Survey {
  return {
    problems: [
      {
        object: `cluster of account ${plan.account}`,
        message: `its credential may not ${refused.join(', ')} in namespace ${plan.namespace} (403); give it that right`,
      },
    ],
    warnings: [],
    workloads: plan.workloads.map(() => ({ mode: 'first', old: null })),
    routes: plan.routes.map(() => ({ root: null, canary: null })),
    pairs: plan.routes.map(() => 0),
    existing: [],
    leftovers: [],
    splitApiVersion: '',
    meshConfirmation: 'stored',
  };
}

type Say = (object: string, message: string) => void;

/** What runs of one workload now. `oldHash` is null where nothing does. */
type Look = {
  workload: Workload;
  template: Record<string, string>;
  mode: 'first' | 'canary';
  old: KubernetesObject | undefined;
  oldHash: string | null;
  oldPods: KubernetesObject[];
};

function lookAtWorkload(
  say: Say,
  warnings: string[],
  plan: DeploymentPlan,
  run: Run,
  index: number,
  seen: Surroundings,
): Look {
  const workload = entryAt(plan.workloads, index);
  const { namespace } = plan;
  const { name } = workload;
  if (seen.deployments[index]) {
    say(
      `Deployment ${namespace}/${name}`,
      'not supported yet: a Deployment object of that name runs in the cluster; taking it over comes later',
    );
  }
  const previous = previousVersions(plan, run, index, seen);
  if (previous.length > 1) {
    const names = previous.map(({ metadata }) => metadata.name).join(', ');
    say(`ReplicaSet ${namespace}/${name}`, `several earlier versions have pods: ${names}; scale all but one to 0`);
  }
  const old = previous[0];
  const oldHash = old ? (old.metadata.labels?.[hashKey] ?? '') : null;
  const oldPods = seen.pods.filter((pod) => isLive(pod) && pod.metadata.labels?.[hashKey] === oldHash);
  const mode = old && oldPods.length > 0 && workload.replicas > 0 ? 'canary' : 'first';
  if (old && mode === 'first') {
    warnings.push(
      `${name}: the earlier version has no pods or the new one asks for none: it is replaced without splitting traffic`,
    );
  }
  checkAutoscalers(say, workload, old, seen);
  return { workload, template: podLabels(workload), mode, old, oldHash, oldPods };
}

/** ReplicaSets of this application, target and Deployment that still have pods or want some (behaviour.md §2, ownership). */
function previousVersions(plan: DeploymentPlan, run: Run, index: number, seen: Surroundings): KubernetesObject[] {
  const workload = entryAt(plan.workloads, index);
  const ours = seen.replicaSets.filter((replicaSet) => {
    const { name, labels, annotations } = replicaSet.metadata;
    const hash = labels?.[hashKey];
    return (
      labels?.[deploymentKey] !== undefined &&
      hash !== undefined &&
      name === `${workload.name}-${hash}` &&
      name !== newReplicaSetName(run, index) &&
      annotations?.[annotationKeys.application] === plan.application &&
      annotations?.[annotationKeys.environment] === plan.target
    );
  });
  const wanted = ours.filter((replicaSet) => ((replicaSet.spec as { replicas?: number }).replicas ?? 1) > 0);
  return wanted.length > 0 ? wanted : ours.slice(-1);
}

/** A Service as it will be once this file's manifests are applied. */
function afterApply(
  plan: DeploymentPlan,
  stored: KubernetesObject | undefined,
  name: string,
): KubernetesObject | undefined {
  const manifest = plan.objects.find(({ kind, metadata }) => kind === 'Service' && metadata.name === name);
  if (!manifest) return stored;
  return { ...manifest, spec: { ...(stored?.spec as object | undefined), ...(manifest.spec as object) } };
}

/** Checks a root Service; answers the workload that it leads to, null where that cannot be told. */
function checkRoot(
  say: Say,
  plan: DeploymentPlan,
  route: SmiRoute,
  run: Run,
  looks: Look[],
  seen: Surroundings,
): number | null {
  const { namespace } = plan;
  const { rootServiceName } = route;
  const stored = seen.services.find(({ metadata }) => metadata.name === rootServiceName);
  if (stored) checkStranger(say, stored, run, seen);
  const root = afterApply(plan, stored, rootServiceName);
  const wrong = (message: string): null => {
    say(`Service ${namespace}/${rootServiceName}`, message);
    return null;
  };
  if (!root) return wrong('is neither in the cluster nor in the manifests; add it to the manifests');
  const spec = serviceSpec(root);
  if (spec.clusterIP === 'None')
    return wrong('is headless: traffic to it cannot be split; use a Service with a cluster IP');
  if (spec.type === 'ExternalName')
    return wrong('is of type ExternalName and leads to no pods of this cluster; name a Service with a selector');
  const { selector } = spec;
  if (!selector || Object.keys(selector).length === 0)
    return wrong('has no selector, so it leads to no pods; give it the labels of the pods');
  if (spec.publishNotReadyAddresses === true)
    return wrong('publishes pods that are not ready; set publishNotReadyAddresses to false');
  if (hashKey in selector) return wrong(pinnedAlready(namespace, rootServiceName));
  const led = looks.filter(({ template }) => matches(selector, template));
  const [look] = led;
  if (!look)
    return wrong('does not select the pods of the Deployment in the manifests; make its selector match their labels');
  if (led.length > 1) {
    const names = led.map(({ workload }) => workload.name).join(', ');
    return wrong(`selects the pods of several Deployments: ${names}; narrow its selector to one`);
  }
  const index = looks.indexOf(look);
  const foreign = seen.pods.filter(
    (pod) =>
      isLive(pod) && matches(selector, pod.metadata.labels ?? {}) && pod.metadata.labels?.[hashKey] !== look.oldHash,
  );
  if (foreign.length > 0 && !seen.deployments[index]) {
    const names = foreign.slice(0, 3).map((pod) => pod.metadata.name);
    wrong(
      `selects pods that are not of the previous version: ${names.join(', ')}${foreign.length > 3 ? ', …' : ''}; remove them or narrow its selector`,
    );
  }
  return index;
}

/** Every Deployment needs a root Service to be shifted by; of roots that lead nowhere people hear first. */
function checkUnrouted(say: Say, plan: DeploymentPlan, pairs: (number | null)[]): void {
  if (pairs.includes(null)) return;
  for (const [index, { name }] of plan.workloads.entries()) {
    if (pairs.includes(index)) continue;
    say(
      `Deployment ${plan.namespace}/${name}`,
      'no root Service of trafficManagement selects its pods; add an smi entry for it',
    );
  }
}

/** What the run makes or uses beside a root Service. */
function checkBackends(
  say: Say,
  leftovers: Survey['leftovers'],
  plan: DeploymentPlan,
  index: number,
  { template }: Look,
  run: Run,
  seen: Surroundings,
): void {
  const route = entryAt(plan.routes, index);
  const split = seen.splits.find(({ metadata }) => metadata.name === route.trafficSplitName);
  const canary = seen.services.find(({ metadata }) => metadata.name === route.canaryServiceName);
  if (split) inTheWay(say, leftovers, `split.${index}`, split, run, seen);
  if (!route.canaryServiceGiven) {
    if (canary) inTheWay(say, leftovers, `canary.${index}`, canary, run, seen);
    return;
  }
  if (canary) checkStranger(say, canary, run, seen);
  checkGivenCanary(say, plan, route, canary, template, seen);
}

function pinnedAlready(namespace: string, service: string): string {
  const patch = `{"spec":{"selector":{"${hashKey}":null}}}`;
  return `its selector already holds ${hashKey}; remove it: kubectl -n ${namespace} patch service ${service} --type merge -p '${patch}'`;
}

/** Another control plane, or another deployment in progress, has hold of the Service as it stands. */
function checkStranger(say: Say, service: KubernetesObject, run: Run, seen: Surroundings): void {
  const { name, namespace, labels, annotations } = service.metadata;
  const instance = annotations?.[instanceKey];
  const owner = labels?.[deploymentKey];
  if (instance !== undefined && instance !== seen.instance) {
    say(`Service ${namespace}/${name}`, 'is driven by another control plane; wait until its deployment has ended');
  } else if (owner !== undefined && owner !== run.id && !seen.finalDeployments.has(owner)) {
    say(`Service ${namespace}/${name}`, `is driven by deployment ${owner}; wait until that has ended`);
  }
}

/** A Service change that would break the old version must be deployed on its own first. */
function checkServiceChanges(say: Say, plan: DeploymentPlan, seen: Surroundings, oldPods: KubernetesObject[]): void {
  for (const [index, manifest] of plan.objects.entries()) {
    const existing = seen.existing[index];
    if (manifest.kind !== 'Service' || manifest.apiVersion !== 'v1' || !existing) continue;
    const name = `Service ${manifest.metadata.namespace}/${manifest.metadata.name}`;
    const before = serviceSpec(existing);
    const after = serviceSpec(manifest);
    const lost = oldPods.some((pod) => {
      const labels = pod.metadata.labels ?? {};
      return matches(before.selector ?? {}, labels) && after.selector !== undefined && !matches(after.selector, labels);
    });
    if (lost)
      say(name, 'its new selector would no longer match the old pods; deploy this Service change on its own first');
    for (const port of before.ports ?? []) {
      const same = (after.ports ?? []).find((candidate) => candidate.port === port.port);
      const target = (value: typeof port) => value.targetPort ?? value.port;
      if (same && target(same) === target(port)) continue;
      say(name, `port ${port.port} is removed or leads elsewhere; deploy this Service change on its own first`);
    }
  }
}

function checkGivenCanary(
  say: Say,
  plan: DeploymentPlan,
  route: SmiRoute,
  stored: KubernetesObject | undefined,
  template: Record<string, string>,
  seen: Surroundings,
): void {
  const { namespace } = plan;
  const storedRoot = seen.services.find(({ metadata }) => metadata.name === route.rootServiceName);
  const root = afterApply(plan, storedRoot, route.rootServiceName);
  const name = `Service ${namespace}/${route.canaryServiceName}`;
  const canary = afterApply(plan, stored, route.canaryServiceName);
  if (!canary)
    return say(name, 'is named as canaryServiceName but does not exist; create it or leave canaryServiceName out');
  const spec = serviceSpec(canary);
  const ports = new Set(spec.ports?.map(({ port }) => port));
  const missing = (root ? (serviceSpec(root).ports ?? []) : []).filter(({ port }) => !ports.has(port));
  if (missing.length > 0)
    say(name, `lacks port ${missing.map(({ port }) => port).join(', ')} of the root Service; add it`);
  if (!spec.selector || !matches(spec.selector, template))
    say(name, 'cannot select the new pods; make its selector match their labels');
  if (spec.selector && hashKey in spec.selector) say(name, pinnedAlready(namespace, route.canaryServiceName));
}

/** An object stands where the run will create its own: a leftover of ours goes, anything else fails the target. */
function inTheWay(
  say: Say,
  leftovers: Survey['leftovers'],
  slot: Slot,
  object: KubernetesObject,
  run: Run,
  seen: Surroundings,
): void {
  if (isLeftover(object, run, seen)) {
    const { uid = '', resourceVersion = '' } = object.metadata;
    leftovers.push({ slot, uid, resourceVersion });
    return;
  }
  const owner = object.metadata.labels?.[deploymentKey];
  say(
    `${object.kind} ${object.metadata.namespace}/${object.metadata.name}`,
    owner === undefined
      ? 'exists and is not ours; delete or rename it'
      : `belongs to deployment ${owner}; wait until that is over, or delete it`,
  );
}

function isLeftover(object: KubernetesObject, run: Run, seen: Surroundings): boolean {
  const owner = object.metadata.labels?.[deploymentKey];
  if (owner === undefined || owner === run.id) return false;
  return object.metadata.annotations?.[instanceKey] === seen.instance && seen.finalDeployments.has(owner);
}

function checkOtherSplits(say: Say, route: SmiRoute, seen: Surroundings): void {
  for (const split of seen.splits) {
    if (split.metadata.name === route.trafficSplitName) continue;
    if ((split.spec as { service?: unknown } | undefined)?.service !== route.rootServiceName) continue;
    say(
      `TrafficSplit ${split.metadata.namespace}/${split.metadata.name}`,
      `splits Service ${route.rootServiceName} already; a root Service can have one TrafficSplit, so delete it`,
    );
  }
}

/** Linkerd's adaptor writes the split into root's ServiceProfile; one that it skips or that others use cannot carry ours. */
function checkServiceProfile(
  say: Say,
  warnings: string[],
  plan: DeploymentPlan,
  route: SmiRoute,
  seen: Surroundings,
): void {
  const prefix = `${route.rootServiceName}.${plan.namespace}.svc.`;
  const profile = seen.serviceProfiles.find(({ metadata }) => metadata.name.startsWith(prefix));
  if (!profile) return;
  const name = `ServiceProfile ${profile.metadata.namespace}/${profile.metadata.name}`;
  if (profile.metadata.annotations && 'smi.linkerd.io/skip' in profile.metadata.annotations) {
    return say(name, 'is annotated smi.linkerd.io/skip, so the mesh would not take the split; remove that annotation');
  }
  const overrides = (profile.spec as { dstOverrides?: unknown[] } | undefined)?.dstOverrides ?? [];
  if (overrides.length === 0) return;
  const weights = meshWeights(profile, route.rootServiceName, route.canaryServiceName);
  if (weights?.stable === 100 && weights.canary === 0) {
    warnings.push(`${name}: still has the weights 100/0 of an earlier split; they are overwritten`);
    return;
  }
  say(name, 'already overrides where traffic goes (spec.dstOverrides); remove them first');
}

function checkAutoscalers(say: Say, workload: Workload, old: KubernetesObject | undefined, seen: Surroundings): void {
  for (const scaler of seen.autoscalers) {
    const target = (scaler.spec as { scaleTargetRef?: { name?: string } } | undefined)?.scaleTargetRef?.name;
    if (target !== workload.name && (old === undefined || target !== old.metadata.name)) continue;
    say(
      `${scaler.kind} ${scaler.metadata.namespace}/${scaler.metadata.name}`,
      'not supported yet: it scales this workload; delete it before deploying',
    );
  }
}

/** Other Services that would send traffic to both versions, past the split. */
function otherServices(plan: DeploymentPlan, { template }: Look, seen: Surroundings): string[] {
  const own = plan.routes.flatMap(({ rootServiceName, canaryServiceName }) => [rootServiceName, canaryServiceName]);
  return seen.services.flatMap(({ metadata, ...service }) => {
    if (own.includes(metadata.name)) return [];
    const { selector } = serviceSpec({ metadata, ...service });
    if (!selector || Object.keys(selector).length === 0 || !matches(selector, template)) return [];
    return [`Service ${metadata.name} selects the new pods as well: it receives both versions unsplit`];
  });
}

/** A ConfigMap or Secret that old pods use and this run changes cannot be isolated by a canary. */
function sharedConfiguration(plan: DeploymentPlan, seen: Surroundings, looks: Look[]): string[] {
  const used = JSON.stringify(looks.map(({ old }) => (old?.spec as { template?: unknown } | undefined)?.template));
  return plan.objects.flatMap((manifest, index) => {
    const existing = seen.existing[index];
    if (!existing || (manifest.kind !== 'ConfigMap' && manifest.kind !== 'Secret')) return [];
    if (!used.includes(JSON.stringify(manifest.metadata.name))) return [];
    const same = manifest.kind === 'ConfigMap' && sameJson(manifest.data ?? {}, existing.data ?? {});
    return same
      ? []
      : [`${manifest.kind} ${manifest.metadata.name} is used by the old pods too: they see the change, canary or not`];
  });
}

type ServiceSpec = {
  type?: string;
  clusterIP?: string;
  selector?: Record<string, string>;
  publishNotReadyAddresses?: boolean;
  ports?: { name?: string; port: number; targetPort?: number | string }[];
};

function serviceSpec(service: KubernetesObject): ServiceSpec {
  return (service.spec as ServiceSpec | undefined) ?? {};
}

function podLabels({ manifest }: Workload): Record<string, string> {
  const spec = manifest.spec as { template?: { metadata?: { labels?: Record<string, string> } } };
  return spec.template?.metadata?.labels ?? {};
}

function matches(selector: Record<string, string>, labels: Record<string, string>): boolean {
  return Object.entries(selector).every(([key, value]) => labels[key] === value);
}

function track(object: KubernetesObject | undefined): Tracked | null {
  if (!object) return null;
  const { uid = '', resourceVersion = '' } = object.metadata;
  return { uid, resourceVersion, made: null };
}

function sameJson(a: unknown, b: unknown): boolean {
  const sorted = (value: unknown): unknown =>
    value !== null && typeof value === 'object' && !Array.isArray(value)
      ? Object.fromEntries(
          Object.entries(value)
            .sort()
            .map(([key, entry]) => [key, sorted(entry)]),
        )
      : value;
  return JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
}
