import type { Slot, Survey } from './deployment-state.ts';
import type { KubernetesObject } from './kubernetes.ts';
import { deploymentKey, instanceKey } from './marks.ts';
import type { SmiRoute } from './plan.ts';
import type { Look } from './preflight-look.ts';
import { meshWeights } from './traffic/smi.ts';

/** The rows of a preflight about what splits traffic, and about objects that stand where the run makes its own. */

type Leftover = Survey['leftovers'][number];

/** A leftover of ours goes; anything else in the way fails the target. */
export function inTheWay(look: Look, slot: Slot, object: KubernetesObject | undefined): Leftover[] {
  if (!object) return [];
  if (isLeftover(look, object)) {
    const { uid = '', resourceVersion = '' } = object.metadata;
    return [{ slot, uid, resourceVersion }];
  }
  const owner = object.metadata.labels?.[deploymentKey];
  look.say(
    `${object.kind} ${object.metadata.namespace}/${object.metadata.name}`,
    owner === undefined
      ? 'exists and is not ours; delete or rename it'
      : `belongs to deployment ${owner}; wait until that is over, or delete it`,
  );
  return [];
}

function isLeftover({ run, seen }: Look, object: KubernetesObject): boolean {
  const owner = object.metadata.labels?.[deploymentKey];
  if (owner === undefined || owner === run.id) return false;
  return object.metadata.annotations?.[instanceKey] === seen.instance && seen.finalDeployments.has(owner);
}

/** The mesh's adaptor keeps one ServiceProfile a root Service: a second split of it, under whatever name, would win or lose. */
export function checkOtherSplits({ seen, say }: Look, route: SmiRoute): void {
  for (const { metadata, spec } of seen.splits) {
    const { service } = (spec as { service?: unknown } | undefined) ?? {};
    const root = typeof service === 'string' ? service.split('.')[0] : undefined;
    if (metadata.name === route.trafficSplitName || root !== route.rootServiceName) continue;
    say(
      `TrafficSplit ${metadata.namespace}/${metadata.name}`,
      `splits Service ${route.rootServiceName} already; a root Service can have one TrafficSplit, so delete it`,
    );
  }
}

/** Linkerd's adaptor writes the split into root's ServiceProfile; one that it skips or that others use cannot carry ours. */
export function checkServiceProfile({ plan, seen, say, warn }: Look, route: SmiRoute): void {
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
    return warn(`${name}: still has the weights 100/0 of an earlier split; they are overwritten`);
  }
  say(name, 'already overrides where traffic goes (spec.dstOverrides); remove them first');
}
