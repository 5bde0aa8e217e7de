import { isSetWeight } from '../deployment-state.ts';
import { deploymentKey, hashKey } from '../marks.ts';
import { splitWeights } from '../traffic/smi.ts';
import { get } from './model-cluster.ts';
import { readyBehind, weightsInForce } from './model-controllers.ts';
import type { Setup, SetupPair, World } from './world.ts';

/**
 * The pairs of a target go in lock step (design.md, "The SMI canary"): before anything of a phase is written for one of
 * them, what comes before that phase is done for all. Judged by the cluster, whatever the machine believes.
 */
export function outOfStep(setup: Setup, before: World, after: World): string[] {
  const { effect } = after.state;
  if (setup.pairs.length === 1) return [];
  if (effect === null || effect.key === before.state.effect?.key || effect.kind !== 'write' || after.disturbed)
    return [];
  const [phase = '', what = ''] = effect.key.split('.');
  const known = ready[phase] ?? ready[`${phase}.${what}`];
  const late = setup.pairs.filter((pair) => known && !known({ setup, pair, world: after }));
  return [
    ...late.map(({ route }) => `${effect.key} is sent before ${route.rootServiceName} is as far`),
    ...(phase === 'S7' ? weightsApart(setup, after, Number(what) - 1) : []),
  ];
}

type Asked = { setup: Setup; pair: SetupPair; world: World };

/** By phase, or phase and instruction: what must be so of every pair. */
const ready: Record<string, (asked: Asked) => boolean> = {
  S3: (asked) => asked.pair.first || pinOf(asked) === asked.pair.oldHash,
  S4: (asked) => asked.pair.first || hasCanary(asked),
  S6: ({ pair, world }) =>
    pair.first || readyBehind(world.cluster, pair.route.canaryServiceName, pair.newHash) >= pair.replicas,
  S7: (asked) => asked.pair.first || hasSplit(asked),
  F1: (asked) => asked.pair.first || hasSplit(asked),
  F3: (asked) => asked.pair.first || pinOf(asked) === asked.pair.newHash,
  F5: (asked) => isGone(asked, 'TrafficSplit') || !hasSplit(asked),
  'F6.scale': (asked) => isGone(asked, 'Service') || !hasCanary(asked),
  F7: ({ pair, world }) => get(world.cluster, 'ReplicaSet', `${pair.deployment}-${pair.oldHash}`) === undefined,
  R2: ({ setup, pair, world }) =>
    (weightsInForce(world.cluster, pair.route, setup.mesh)?.canary ?? 0) === 0 || isDiverted(world),
  R3: (asked) => isGone(asked, 'TrafficSplit') || !hasSplit(asked),
  'R4.scale': (asked) => isGone(asked, 'Service') || !hasCanary(asked) || isDiverted(asked.world),
  R5: (asked) =>
    isGone(asked, 'ReplicaSet') ||
    get(asked.world.cluster, 'ReplicaSet', `${asked.pair.deployment}-${asked.pair.newHash}`) === undefined,
};

/** A late copy of a create may bring an object back that was removed in time. */
function isGone({ world }: Asked, kind: string): boolean {
  return world.lateCreates.includes(kind);
}

function isDiverted({ state }: World): boolean {
  return state.routes.some(({ diverted }) => diverted);
}

function pinOf({ pair, world }: Asked): string | undefined {
  const root = get(world.cluster, 'Service', pair.route.rootServiceName);
  return (root?.spec as { selector?: Record<string, string> } | undefined)?.selector?.[hashKey];
}

function hasCanary({ pair, world }: Asked): boolean {
  const canary = get(world.cluster, 'Service', pair.route.canaryServiceName);
  return canary?.metadata.labels?.[deploymentKey] === world.state.id;
}

function hasSplit({ pair, world }: Asked): boolean {
  return get(world.cluster, 'TrafficSplit', pair.route.trafficSplitName) !== undefined;
}

/** While a step's weight is written, every pair has that weight or still the one before. */
function weightsApart({ plan, pairs }: Setup, { cluster }: World, index: number): string[] {
  const step = plan.steps[index];
  const earlier = plan.steps.slice(0, index).findLast(isSetWeight)?.weight ?? 0;
  const may = [earlier, isSetWeight(step) ? step.weight : earlier];
  return pairs.flatMap(({ route, first }) => {
    const split = get(cluster, 'TrafficSplit', route.trafficSplitName);
    const weight = split && splitWeights(split, route)?.canary;
    if (first || (weight != null && may.includes(weight))) return [];
    return [`step ${index + 1} is written while ${route.rootServiceName} is at ${weight}`];
  });
}
