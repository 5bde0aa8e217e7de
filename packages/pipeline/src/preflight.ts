import { isReady } from './conditions.ts';
import { claimedBy } from './deployment-object.ts';
import { type Problem, partOf, type Survey, type Tracked } from './deployment-state.ts';
import type { KubernetesObject } from './kubernetes.ts';
import { deploymentKey } from './marks.ts';
import type { DeploymentPlan } from './plan.ts';
import { checkDeployments } from './preflight-deployments.ts';
import { checkKinds } from './preflight-kinds.ts';
import { type Look, type Surroundings, type Versions, versionsOf } from './preflight-look.ts';
import { checkGivenCanary, checkRoot, checkServiceChanges, serviceNamed, warnOfOthers } from './preflight-services.ts';
import { checkOtherSplits, checkServiceProfile, inTheWay } from './preflight-traffic.ts';
import { wantsStringWeights } from './traffic/smi.ts';

/** Looks at a target before anything is changed. Problems are all found at once, each with what to do. */
export function survey(plan: DeploymentPlan, run: Look['run'], seen: Surroundings): Survey {
  const problems: Problem[] = [];
  const warnings: string[] = [];
  const look: Look = {
    plan,
    run,
    seen,
    say: (object, message) => void problems.push({ object, message }),
    warn: (text) => void warnings.push(text),
  };
  const versions = plan.workloads.map((_, index) => versionsOf(look, index));
  const pairs = plan.routes.map((route) => checkRoot(look, route, versions));
  checkUnrouted(look, pairs);
  const oldPods = versions.flatMap((version) => version.oldPods);
  checkServiceChanges(look, oldPods);
  const leftovers = plan.routes.flatMap((_, index) => lookAtRoute(look, index, versions[pairs[index] ?? 0]));
  if (versions.some(({ mode }) => mode === 'canary') && seen.splitApiVersion === undefined) {
    look.say(
      `cluster of account ${plan.account}`,
      'does not serve TrafficSplits (split.smi-spec.io); install the SMI extension of the mesh',
    );
  }
  for (const version of versions) warnOfOthers(look, version);
  warnOfSharedConfiguration(look, versions);
  checkDeployments(look);
  checkKinds(look);

  return {
    problems,
    warnings,
    workloads: versions.map(({ mode, old, oldHash, oldPods: pods, deployment }) => ({
      mode,
      ...(deployment ? { deployment } : {}),
      old: old
        ? {
            name: old.metadata.name,
            hash: oldHash ?? '',
            uid: old.metadata.uid ?? '',
            resourceVersion: old.metadata.resourceVersion ?? '',
            pods: pods.length,
            ready: pods.filter(isReady).length,
            ...labelsOf(old),
            ...(old.metadata.labels?.[deploymentKey] === undefined ? { mark: look.run.id } : {}),
          }
        : null,
    })),
    routes: plan.routes.map(({ rootServiceName, canaryServiceName, canaryServiceGiven }) => ({
      root: track(serviceNamed(look, rootServiceName)),
      canary: canaryServiceGiven ? track(serviceNamed(look, canaryServiceName)) : null,
    })),
    pairs: pairs.map((workload) => workload ?? 0),
    existing: seen.existing.flatMap((object, index) => {
      const tracked = track(object);
      return tracked ? [{ index, uid: tracked.uid, resourceVersion: tracked.resourceVersion }] : [];
    }),
    // In this order leftovers are deleted: first what sends traffic, then where it would go.
    leftovers: leftovers.toSorted((a, b) => Number(isBackend(a)) - Number(isBackend(b))),
    splitApiVersion: seen.splitApiVersion ?? '',
    ...(wantsStringWeights(seen.splitSchema) ? { stringWeights: true } : {}),
    meshConfirmation: seen.meshConfirmation,
  };
}

function isBackend({ slot }: Survey['leftovers'][number]): boolean {
  return partOf(slot).part === 'canary';
}

function labelsOf(old: KubernetesObject): { labels?: Record<string, string> } {
  const labels = claimedBy(old);
  return labels ? { labels } : {};
}

/**
 * What a preflight finds that may not look: the target fails, and is told every right that is missing.
 *
 * @param refused as in `list pods in namespace shop`
 * @param help what gives the right
 */
export function blindSurvey(plan: DeploymentPlan, refused: string, help = ''): Survey {
  return {
    blind: true,
    problems: [
      {
        object: `cluster of account ${plan.account}`,
        message: `its credential may not ${refused} (403); give it that right${help}`,
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

/** What stands beside a root Service that leads to `versions`. Answers the leftovers of earlier runs. */
function lookAtRoute(look: Look, index: number, versions: Versions | undefined): Survey['leftovers'] {
  const route = look.plan.routes[index];
  if (!route) return [];
  checkOtherSplits(look, route);
  checkServiceProfile(look, route);
  const split = look.seen.splits.find(({ metadata }) => metadata.name === route.trafficSplitName);
  const leftovers = inTheWay(look, `split.${index}`, split);
  if (versions?.mode !== 'canary') return leftovers;
  if (!route.canaryServiceGiven) {
    return [...leftovers, ...inTheWay(look, `canary.${index}`, serviceNamed(look, route.canaryServiceName))];
  }
  checkGivenCanary(look, route, versions);
  return leftovers;
}

/** Every Deployment needs a root Service to be shifted by; of roots that lead nowhere people hear first. */
function checkUnrouted({ plan, say }: Look, pairs: (number | null)[]): void {
  if (pairs.includes(null)) return;
  for (const [index, { name }] of plan.workloads.entries()) {
    if (pairs.includes(index)) continue;
    say(
      `Deployment ${plan.namespace}/${name}`,
      'no root Service of trafficManagement selects its pods; add an smi entry for it',
    );
  }
}

/** A ConfigMap or Secret that old pods use and this run changes cannot be isolated by a canary. */
function warnOfSharedConfiguration({ plan, seen, warn }: Look, versions: Versions[]): void {
  const used = JSON.stringify(versions.map(({ old }) => (old?.spec as { template?: unknown } | undefined)?.template));
  for (const [index, manifest] of plan.objects.entries()) {
    const { kind, metadata } = manifest;
    const existing = seen.existing[index];
    if (!existing || (kind !== 'ConfigMap' && kind !== 'Secret')) continue;
    if (!used.includes(JSON.stringify(metadata.name)) || contentOf(manifest) === contentOf(existing)) continue;
    warn(`${kind} ${metadata.name} is used by the old pods too: they see the change, canary or not`);
  }
}

/** What pods see of a ConfigMap or Secret, as text to compare two of them; `stringData` as a cluster stores it. */
function contentOf({ data, binaryData, stringData }: KubernetesObject): string {
  const encoded = Object.entries((stringData as Record<string, string> | undefined) ?? {}).map(([key, value]) => {
    const bytes = Array.from(new TextEncoder().encode(value), (byte) => String.fromCodePoint(byte));
    return [key, btoa(bytes.join(''))];
  });
  const entries = Object.entries({ ...(data as object), ...(binaryData as object), ...Object.fromEntries(encoded) });
  return JSON.stringify(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}

function track(object: KubernetesObject | undefined): Tracked | null {
  if (!object) return null;
  const { uid = '', resourceVersion = '' } = object.metadata;
  return { uid, resourceVersion, made: null };
}
