import { keepDeployments, setAside, takeOver } from './adoption-programme.ts';
import {
  type Change,
  type Condition,
  type Ground,
  isSetWeight,
  newReplicaSetName,
  type Slot,
} from './deployment-state.ts';
import { entryAt } from './entry-at.ts';
import {
  enoughOld,
  firstMeshSeconds,
  type Instruction,
  meshTakes,
  removeReplicaSets,
  removeSplits,
  setWeights,
} from './instructions.ts';
import { byWorkload, type Pair, pairsOf } from './pairs.ts';
import { slotOfObject } from './slot-of-object.ts';

/** P, P0, S1-S7 and F1-F7 of programme.ts: what is done for each pair is done for all of them before what comes next. */
export function forwardProgramme(state: Ground): Instruction[] {
  const pairs = pairsOf(state);
  const work = pairs.length === 0 ? replace(state) : canary(state, pairs);
  return [{ id: 'P.survey', kind: 'survey' }, ...applyObjects(state), ...work, { id: 'end', kind: 'end' }];
}

function applyObjects(state: Ground): Instruction[] {
  const existing = new Set(state.survey?.existing.map((object) => object.index));
  return state.outline.objects.map((_, index) => ({
    id: `P0.object.${index}`,
    kind: 'write',
    slot: slotOfObject(state.outline, index),
    change: existing.has(index) ? { op: 'apply' } : { op: 'create' },
  }));
}

/** No earlier version with pods: the new one goes straight to 100 %, and the strategy's steps are skipped. */
function replace(state: Ground): Instruction[] {
  // A version that was alone from the start has just been seen to have its pods.
  const removed = state.outline.workloads.flatMap((_, index) => {
    const { mode, old } = state.survey?.workloads[index] ?? {};
    return mode === 'adopt' || old ? [index] : [];
  });
  return [
    ...removeLeftovers(state),
    ...createNewReplicaSets(state),
    ...firstPodsReady(state),
    ...takeOver(state, false),
    ...removeOldReplicaSets(state),
    ...stillWhole(state, removed),
    ...keepDeployments(state),
  ];
}

function canary(state: Ground, pairs: Pair[]): Instruction[] {
  const { steps } = state.outline;
  const first = steps.findIndex(isSetWeight);
  const leading = steps.slice(0, first === -1 ? steps.length : first).map((_, index) => pauseInstruction(index));
  const start = startInstructions(state, pairs).map((instruction) =>
    first === -1 ? instruction : { ...instruction, step: first },
  );
  const shifting =
    first === -1 ? [] : steps.slice(first).flatMap((_, offset) => stepInstructions(state, pairs, first + offset));
  return [...leading, ...start, ...shifting, ...finishInstructions(state, pairs)];
}

function pauseInstruction(index: number): Instruction {
  return { id: `step.${index + 1}`, kind: 'pause', step: index };
}

function startInstructions(state: Ground, pairs: Pair[]): Instruction[] {
  const { outline } = state;
  return [
    { id: 'S1.survey', kind: 'survey' },
    ...removeLeftovers(state),
    ...setAside(state),
    ...pinRoots(pairs, 'S2', ({ old }) => old.hash),
    ...pairs.map((pair) =>
      podsBehind(state, pair, 'S2.wait', {
        service: pair.route.rootServiceName,
        hash: pair.old.hash,
        ready: null,
        limitSeconds: outline.readyTimeoutSeconds,
        follows: [`S2.pin.${pair.index}`],
      }),
    ),
    ...pairs.map(
      ({ index, route, hash }): Instruction => ({
        id: `S3.canary.${index}`,
        kind: 'write',
        slot: `canary.${index}`,
        change: route.canaryServiceGiven ? { op: 'pin', hash } : { op: 'create' },
      }),
    ),
    ...createNewReplicaSets(state),
    ...firstPodsReady(state),
    ...pairs.map((pair) =>
      podsBehind(state, pair, 'S5.wait', {
        service: pair.route.canaryServiceName,
        hash: pair.hash,
        ready: pair.replicas,
        limitSeconds: outline.readyTimeoutSeconds,
      }),
    ),
    ...pairs.map(
      ({ index }): Instruction => ({
        id: `S6.create.${index}`,
        kind: 'write',
        slot: `split.${index}`,
        change: { op: 'create' },
      }),
    ),
    ...meshTakes(state, pairs, 'S6', toRoot, { limitSeconds: firstMeshSeconds, onLimit: 'rollBack' }),
  ];
}

/** Of runs that ended without it: what sends traffic first. */
function removeLeftovers({ survey }: Ground): Instruction[] {
  const leftovers = survey?.leftovers ?? [];
  return leftovers.map(({ slot }) => ({ id: `S1.remove.${slot}`, kind: 'write', slot, change: { op: 'delete' } }));
}

const toRoot = { stable: 100, canary: 0 };
const toNew = { stable: 0, canary: 100 };

function pinRoots(pairs: Pair[], phase: 'S2' | 'F2', hashOf: (pair: Pair) => string): Instruction[] {
  return pairs.map((pair) => ({
    id: `${phase}.pin.${pair.index}`,
    kind: 'write',
    slot: `root.${pair.index}`,
    change: { op: 'pin', hash: hashOf(pair) },
  }));
}

/** Waits until the pods of one version are behind a Service; without a limit of time it waits for good. */
function podsBehind(
  state: Ground,
  { index }: Pair,
  id: string,
  wanted: {
    service: string;
    hash: string;
    ready: number | null;
    amongOthers?: true;
    limitSeconds?: number;
    follows?: string[];
  },
): Instruction {
  const { limitSeconds, follows, ...pods } = wanted;
  const key = `${id}.${index}`;
  return {
    id: key,
    kind: 'wait',
    condition: { key, namespace: state.outline.namespace, kind: 'endpoints', ...pods },
    limitSeconds: limitSeconds ?? null,
    onLimit: limitSeconds === undefined ? 'goOn' : 'rollBack',
    ...(follows === undefined ? {} : { follows }),
  };
}

function createNewReplicaSets(state: Ground): Instruction[] {
  const { namespace, workloads } = state.outline;
  return workloads.flatMap(({ replicas }, index): Instruction[] => {
    const slot: Slot = `newReplicaSet.${index}`;
    const id = `S4.noted.${index}`;
    const condition: Condition = { key: id, namespace, kind: 'noted', replicaSet: newReplicaSetName(state, index) };
    return [
      { id: `S4.create.${index}`, kind: 'write', slot, change: { op: 'create' } },
      // Its controller writes a first status at once, and what is sent on the version before that is refused.
      { id, kind: 'wait', condition, limitSeconds: 1, onLimit: 'goOn', shows: slot, optional: true },
      { id: `S4.scale.${index}`, kind: 'write', slot, change: { op: 'scale', replicas } },
    ];
  });
}

/** Of workloads that have no earlier version to shift traffic from. */
function firstPodsReady({ survey, outline, hashes }: Ground): Instruction[] {
  const { namespace, readyTimeoutSeconds } = outline;
  return outline.workloads.flatMap(({ replicas }, index): Instruction[] => {
    if (survey?.workloads[index]?.mode === 'canary') return [];
    const id = `S5.pods.${index}`;
    const condition: Condition = {
      key: id,
      namespace,
      kind: 'podsReady',
      hash: hashes[index] ?? '',
      ready: replicas,
    };
    return [{ id, kind: 'wait', condition, limitSeconds: readyTimeoutSeconds, onLimit: 'rollBack' }];
  });
}

/** S7: one write a weight and pair. A weight that gives traffic back to the old side first waits until that side can take it. */
function stepInstructions(state: Ground, pairs: Pair[], index: number): Instruction[] {
  const step = state.outline.steps[index];
  if (!isSetWeight(step)) return [pauseInstruction(index)];
  const weights = { stable: 100 - step.weight, canary: step.weight };
  const before = state.outline.steps.slice(0, index).findLast(isSetWeight)?.weight ?? 0;
  const phase = `S7.${index + 1}`;
  const list = [
    ...pairs.flatMap((pair) => [
      ...(step.weight < before ? [enoughOld(state, pair, phase)] : []),
      ...setWeights([pair], phase, weights),
    ]),
    ...meshTakes(state, pairs, phase, weights),
  ];
  return list.map((instruction) => ({ ...instruction, step: index }));
}

function finishInstructions(state: Ground, pairs: Pair[]): Instruction[] {
  return [
    ...setWeights(pairs, 'F1', toNew),
    ...meshTakes(state, pairs, 'F1', toNew),
    { id: 'F1.drain', kind: 'drain' },
    ...pinRoots(pairs, 'F2', ({ hash }) => hash),
    ...fullNew(pairs, 'F2'),
    ...pairs.map((pair) =>
      podsBehind(state, pair, 'F2.wait', {
        service: pair.route.rootServiceName,
        hash: pair.hash,
        ready: pair.replicas,
        follows: [`F2.pin.${pair.index}`, `F2.new.${pair.workload}`],
      }),
    ),
    { id: 'F2.drain', kind: 'drain' },
    ...setWeights(pairs, 'F3', toRoot),
    ...meshTakes(state, pairs, 'F3', toRoot, { limitSeconds: null, onLimit: 'goOn', orNone: true }),
    { id: 'F3.drain', kind: 'drain' },
    ...removeSplits(state, pairs, 'F4'),
    ...pairs.map(
      ({ index, route }): Instruction => ({
        id: `F5.canary.${index}`,
        kind: 'write',
        slot: `canary.${index}`,
        change: { op: route.canaryServiceGiven ? 'unpin' : 'delete' },
      }),
    ),
    ...fullNew(pairs, 'F6'),
    ...pairs.map((pair) =>
      podsBehind(state, pair, 'F6.ready', {
        service: pair.route.rootServiceName,
        hash: pair.hash,
        ready: pair.replicas,
        amongOthers: true,
        follows: [`F6.new.${pair.workload}`],
      }),
    ),
    ...takeOver(state, true),
    ...removeOldReplicaSets(state),
    ...pairs.map(
      ({ index }): Instruction => ({
        id: `F7.unpin.${index}`,
        kind: 'write',
        slot: `root.${index}`,
        change: { op: 'unpin' },
      }),
    ),
    ...stillWhole(
      state,
      state.outline.workloads.map((_, index) => index),
    ),
    ...keepDeployments(state),
  ];
}

/**
 * Nothing but the new version is left, and it has all its pods: the last thing that is seen. Where the watches tell of no
 * change it costs no request.
 */
function stillWhole(state: Ground, workloads: number[]): Instruction[] {
  const { outline, hashes } = state;
  const running = workloads.filter((index) => entryAt(outline.workloads, index).replicas > 0);
  return [
    ...running.map((index): Instruction => {
      const { replicas } = entryAt(outline.workloads, index);
      return {
        id: `F7.new.${index}`,
        kind: 'write',
        slot: `newReplicaSet.${index}`,
        change: { op: 'scale', replicas },
        lookFirst: true,
      };
    }),
    ...running.map((index): Instruction => {
      const { replicas: ready } = entryAt(outline.workloads, index);
      const id = `F7.ready.${index}`;
      const condition: Condition = {
        key: id,
        namespace: outline.namespace,
        kind: 'podsReady',
        hash: entryAt(hashes, index),
        ready,
      };
      const follows = [`F7.new.${index}`];
      return { id, kind: 'wait', condition, limitSeconds: null, onLimit: 'goOn', follows };
    }),
  ];
}

/** The new version has all traffic: whoever scaled it down meanwhile is overruled. */
function fullNew(pairs: Pair[], phase: 'F2' | 'F6'): Instruction[] {
  return byWorkload(pairs).map(({ workload, replicas }) => {
    const change: Change = { op: 'scale', replicas };
    return {
      id: `${phase}.new.${workload}`,
      kind: 'write',
      slot: `newReplicaSet.${workload}`,
      change,
      lookFirst: true,
    };
  });
}

function removeOldReplicaSets(state: Ground): Instruction[] {
  const workloads = state.survey?.workloads.flatMap(({ old }, index) => (old === null ? [] : [index])) ?? [];
  return removeReplicaSets(state, 'F6', workloads, null);
}
