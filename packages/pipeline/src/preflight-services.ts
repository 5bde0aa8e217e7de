import { isLive } from './conditions.ts';
import type { KubernetesObject } from './kubernetes.ts';
import { deploymentKey, hashKey, instanceKey } from './marks.ts';
import type { DeploymentPlan, SmiRoute } from './plan.ts';
import type { Look, Versions } from './preflight-look.ts';

/** The rows of a preflight about Services. */

type ServiceSpec = {
  type?: string;
  clusterIP?: string;
  selector?: Record<string, string>;
  publishNotReadyAddresses?: boolean;
  ports?: { name?: string; port: number; targetPort?: number | string; protocol?: string }[];
};

function specOf(service: KubernetesObject): ServiceSpec {
  return (service.spec as ServiceSpec | undefined) ?? {};
}

function isSelected(selector: Record<string, string>, labels: Record<string, string> = {}): boolean {
  return Object.entries(selector).every(([key, value]) => labels[key] === value);
}

export function serviceNamed({ seen }: Look, name: string): KubernetesObject | undefined {
  return seen.services.find(({ metadata }) => metadata.name === name);
}

/** A Service as it will be once this file's manifests are applied; undefined where it is nowhere. */
function afterApply(look: Look, name: string): KubernetesObject | undefined {
  const stored = serviceNamed(look, name);
  const manifest = look.plan.objects.find((object) => isServiceOf(look.plan, object) && object.metadata.name === name);
  if (!manifest) return stored;
  return { ...manifest, spec: { ...(stored?.spec as object | undefined), ...(manifest.spec as object) } };
}

function isServiceOf(plan: DeploymentPlan, { kind, apiVersion, metadata }: KubernetesObject): boolean {
  return kind === 'Service' && apiVersion === 'v1' && metadata.namespace === plan.namespace;
}

/** Checks a root Service; answers the workload that it leads to, null where that cannot be told. */
export function checkRoot(look: Look, { rootServiceName }: SmiRoute, versions: Versions[]): number | null {
  const { plan, seen } = look;
  const stored = serviceNamed(look, rootServiceName);
  if (stored) checkStranger(look, stored);
  const wrong = (message: string): null => {
    look.say(`Service ${plan.namespace}/${rootServiceName}`, message);
    return null;
  };
  const root = afterApply(look, rootServiceName);
  if (!root) return wrong('is neither in the cluster nor in the manifests; add it to the manifests');
  const { clusterIP, type, selector, publishNotReadyAddresses } = specOf(root);
  if (clusterIP === 'None') return wrong('is headless: traffic to it cannot be split; use a Service with a cluster IP');
  if (type === 'ExternalName')
    return wrong('is of type ExternalName and leads to no pods of this cluster; name a Service with a selector');
  if (!selector || Object.keys(selector).length === 0)
    return wrong('has no selector, so it leads to no pods; give it the labels of the pods');
  if (publishNotReadyAddresses === true)
    return wrong('publishes pods that are not ready; set publishNotReadyAddresses to false');
  if (hashKey in selector) return wrong(pinnedAlready(plan.namespace, rootServiceName));
  const led = versions.filter(({ labels }) => isSelected(selector, labels));
  const [only, second] = led;
  if (!only)
    return wrong('does not select the pods of a Deployment in the manifests; make its selector match their labels');
  if (second) {
    const names = led.map(({ workload }) => workload.name).join(', ');
    return wrong(`selects the pods of several Deployments: ${names}; narrow its selector to one`);
  }
  const index = versions.indexOf(only);
  const foreign = seen.pods.filter(
    ({ metadata, ...pod }) =>
      isLive({ metadata, ...pod }) &&
      isSelected(selector, metadata.labels) &&
      !only.oldPods.some((known) => known.metadata.name === metadata.name),
  );
  if (foreign.length > 0) {
    const names = foreign.slice(0, 3).map((pod) => pod.metadata.name);
    wrong(
      `selects pods that are not of the previous version: ${names.join(', ')}${foreign.length > 3 ? ', …' : ''}; remove them or narrow its selector`,
    );
  }
  return index;
}

function pinnedAlready(namespace: string, service: string): string {
  const patch = `{"spec":{"selector":{"${hashKey}":null}}}`;
  return `its selector already holds ${hashKey}; remove it: kubectl -n ${namespace} patch service ${service} --type merge -p '${patch}'`;
}

/** Another control plane, or another deployment in progress, has hold of the Service as it stands. */
function checkStranger({ run, seen, say }: Look, service: KubernetesObject): void {
  const { name, namespace, labels, annotations } = service.metadata;
  const instance = annotations?.[instanceKey];
  const owner = labels?.[deploymentKey];
  if (instance !== undefined && instance !== seen.instance) {
    say(`Service ${namespace}/${name}`, 'is driven by another control plane; wait until its deployment has ended');
  } else if (owner !== undefined && owner !== run.id && !seen.finalDeployments.has(owner)) {
    say(`Service ${namespace}/${name}`, `is driven by deployment ${owner}; wait until that has ended`);
  }
}

/** A canary Service that the file names is used as it is, and must be fit for that. */
export function checkGivenCanary(look: Look, route: SmiRoute, { labels }: Versions): void {
  const { namespace } = look.plan;
  const { rootServiceName, canaryServiceName } = route;
  const stored = serviceNamed(look, canaryServiceName);
  if (stored) checkStranger(look, stored);
  const wrong = (message: string) => look.say(`Service ${namespace}/${canaryServiceName}`, message);
  const canary = afterApply(look, canaryServiceName);
  if (!canary)
    return wrong('is named as canaryServiceName but does not exist; create it or leave canaryServiceName out');
  const { selector, ports } = specOf(canary);
  const root = afterApply(look, rootServiceName);
  const known = new Set(ports?.map(({ port }) => port));
  const missing = (root ? (specOf(root).ports ?? []) : []).filter(({ port }) => !known.has(port));
  if (missing.length > 0) wrong(`lacks port ${missing.map(({ port }) => port).join(', ')} of the root Service; add it`);
  if (!selector || Object.keys(selector).length === 0 || !isSelected(withoutHash(selector), labels))
    wrong('cannot select the new pods; make its selector match their labels');
  if (selector && hashKey in selector) wrong(pinnedAlready(namespace, canaryServiceName));
}

function withoutHash({ [hashKey]: _, ...selector }: Record<string, string>): Record<string, string> {
  return selector;
}

/** A Service change that would break the old version must be deployed on its own first. */
export function checkServiceChanges({ plan, seen, say }: Look, oldPods: KubernetesObject[]): void {
  for (const [index, manifest] of plan.objects.entries()) {
    const existing = seen.existing[index];
    if (!isServiceOf(plan, manifest) || !existing) continue;
    const name = `Service ${plan.namespace}/${manifest.metadata.name}`;
    const before = specOf(existing);
    const after = specOf(manifest);
    const served = oldPods.filter(
      ({ metadata }) => before.selector !== undefined && isSelected(before.selector, metadata.labels),
    );
    const isLost = ({ metadata }: KubernetesObject) => !after.selector || !isSelected(after.selector, metadata.labels);
    if (served.some(isLost))
      say(name, 'its new selector would no longer match the old pods; deploy this Service change on its own first');
    for (const port of before.ports ?? []) {
      if (after.ports?.some((candidate) => portForm(candidate) === portForm(port))) continue;
      say(name, `port ${port.port} is removed or leads elsewhere; deploy this Service change on its own first`);
    }
  }
}

/** A ServicePort (core/v1) with the defaults that a cluster fills in, as text. */
function portForm({ port, targetPort = port, protocol = 'TCP' }: NonNullable<ServiceSpec['ports']>[number]): string {
  return `${port} ${targetPort} ${protocol}`;
}

/** Other Services that would send traffic to both versions, past the split. */
export function warnOfOthers({ plan, seen, warn }: Look, { labels }: Versions): void {
  const own = plan.routes.flatMap(({ rootServiceName, canaryServiceName }) => [rootServiceName, canaryServiceName]);
  for (const service of seen.services) {
    const { name } = service.metadata;
    const { selector = {} } = specOf(service);
    if (own.includes(name) || Object.keys(selector).length === 0 || !isSelected(selector, labels)) continue;
    warn(`Service ${name} selects the new pods as well: it receives both versions unsplit`);
  }
}
