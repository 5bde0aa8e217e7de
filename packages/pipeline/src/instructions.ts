import {
  type Change,
  type Condition,
  type Ground,
  newReplicaSetName,
  type Slot,
  type Weights,
} from './deployment-state.ts';
import type { Pair } from './pairs.ts';

/** One thing that a run does or waits for. */
export type Instruction = {
  /** `<phase>.<what>`, then the index of its route or workload; unique in its list and stable over releases: it is stored. */
  id: string;
  /** Index of the strategy step it belongs to. */
  step?: number;
} & (
  | { kind: 'survey' }
  | {
      kind: 'write';
      slot: Slot;
      change: Change;
      /** Usually in force already: the cluster is read, unless its watches tell, and written only if it is not. */
      lookFirst?: true;
    }
  | {
      kind: 'wait';
      condition: Condition;
      limitSeconds: number | null;
      onLimit: 'rollBack' | 'goOn' | 'divert';
      /** The writes that the condition follows from: looked at again in turn while it does not hold, in case others undid one. */
      follows?: string[];
      /** The object whose version the condition shows: what is sent next is sent on that version. */
      shows?: Slot;
      /** It only spares requests: at its limit the run goes on without asking the cluster. */
      optional?: true;
    }
  | { kind: 'drain' }
  | { kind: 'pause' }
  | { kind: 'end' }
);

export type Wait = Extract<Instruction, { kind: 'wait' }>;
export type Write = Extract<Instruction, { kind: 'write' }>;

/** The index at the end of an instruction's id: of a route, a workload or an object, by what the instruction is about. */
export function indexOf(id: string): number {
  return Number(id.slice(id.lastIndexOf('.') + 1));
}

/** A mesh that has not taken the first split by then is taken for no mesh. */
export const firstMeshSeconds = 30;

/** One write a pair. */
export function setWeights(pairs: Pair[], phase: string, weights: Weights): Instruction[] {
  return pairs.map(({ index }) => ({
    id: `${phase}.weight.${index}`,
    kind: 'write',
    slot: `split.${index}`,
    change: { op: 'weights', weights },
  }));
}

/** Nothing to wait for where the stored TrafficSplit is all the confirmation there is. */
export function meshTakes(
  state: Ground,
  pairs: Pair[],
  phase: string,
  weights: Weights,
  limit: Pick<Wait, 'limitSeconds' | 'onLimit'> & { orNone?: true } = { limitSeconds: null, onLimit: 'goOn' },
): Instruction[] {
  if (state.survey?.meshConfirmation !== 'linkerd-smi') return [];
  const { limitSeconds, onLimit, ...orNone } = limit;
  return pairs.map(({ index, route }) => {
    const id = `${phase}.mesh.${index}`;
    const names = { root: route.rootServiceName, canary: route.canaryServiceName };
    const condition: Condition = {
      key: id,
      namespace: state.outline.namespace,
      kind: 'mesh',
      ...names,
      weights,
      ...orNone,
    };
    return { id, kind: 'wait', condition, limitSeconds, onLimit, follows: [`${phase}.weight.${index}`] };
  });
}

/** The split away, and out of the mesh. */
export function removeSplits(state: Ground, pairs: Pair[], phase: 'F4' | 'R2'): Instruction[] {
  const deletes = pairs.map(
    ({ index }): Instruction => ({
      id: `${phase}.delete.${index}`,
      kind: 'write',
      slot: `split.${index}`,
      change: { op: 'delete' },
    }),
  );
  if (state.survey?.meshConfirmation !== 'linkerd-smi') return deletes;
  const { namespace } = state.outline;
  const dropped = pairs.map(({ index, route }): Instruction => {
    const id = `${phase}.mesh.${index}`;
    const condition: Condition = { key: id, namespace, kind: 'meshDropped', root: route.rootServiceName };
    return { id, kind: 'wait', condition, limitSeconds: firstMeshSeconds, onLimit: 'goOn' };
  });
  return [...deletes, ...dropped];
}

/** The old version must be able to take traffic back: as many ready pods as at the start, or as many as the new one has. */
export function enoughOld(state: Ground, pair: Pair, phase: string, follows: string[] = []): Instruction {
  const { route, old, hash, index } = pair;
  const id = `${phase}.enough.${index}`;
  return {
    follows,
    id,
    kind: 'wait',
    condition: {
      key: id,
      namespace: state.outline.namespace,
      kind: 'enough',
      service: route.rootServiceName,
      hash: old.hash,
      atLeast: old.ready,
      other: { service: route.canaryServiceName, hash },
    },
    limitSeconds: null,
    onLimit: 'goOn',
  };
}

/** ReplicaSets of workloads, by index: to no pods, until these are gone, and away. */
export function removeReplicaSets(
  state: Ground,
  phase: 'F6' | 'R4',
  workloads: number[],
  limitSeconds: number | null,
): Instruction[] {
  const { namespace } = state.outline;
  const part = phase === 'F6' ? 'oldReplicaSet' : 'newReplicaSet';
  const nameOf = (index: number) =>
    part === 'newReplicaSet'
      ? { replicaSet: newReplicaSetName(state, index), hash: state.hashes[index] ?? '' }
      : {
          replicaSet: state.survey?.workloads[index]?.old?.name ?? '',
          hash: state.survey?.workloads[index]?.old?.hash ?? '',
        };
  const write = (index: number, what: string, change: Change): Instruction => ({
    id: `${phase}.${what}.${index}`,
    kind: 'write',
    slot: `${part}.${index}`,
    change,
  });
  return [
    ...workloads.map((index) => write(index, 'scale', { op: 'scale', replicas: 0 })),
    ...workloads.map((index): Instruction => {
      const id = `${phase}.gone.${index}`;
      const condition: Condition = { key: id, namespace, kind: 'gone', ...nameOf(index) };
      const follows = [`${phase}.scale.${index}`];
      return { id, kind: 'wait', condition, limitSeconds, onLimit: 'goOn', follows, shows: `${part}.${index}` };
    }),
    ...workloads.map((index) => write(index, 'delete', { op: 'delete' })),
  ];
}
