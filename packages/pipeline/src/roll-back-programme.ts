import { restoreDeployments } from './adoption-programme.ts';
import type { DeploymentState } from './deployment-state.ts';
import { enoughOld, type Instruction, meshTakes, removeReplicaSets, removeSplits, setWeights } from './instructions.ts';
import { byWorkload, type Pair, pairsOf } from './pairs.ts';
import { slotOfObject } from './slot-of-object.ts';

/** How long a roll back waits for the mesh before it leads both backends to the old pods. */
const divertSeconds = 10;

/** R1-R6 of programme.ts on what stood when the roll back began: R1 of all pairs, then R2 of all, and so on. */
export function rollBackProgramme(state: DeploymentState): Instruction[] {
  const { undo, outline } = state;
  const pairs = pairsOf(state);
  const undone = (index: number) => undo?.routes[index];
  const split = pairs.filter(({ index }) => undone(index)?.split);
  const shifted = split
    .filter(({ index }) => undone(index)?.shifted)
    .toSorted((a, b) => Number(undone(b.index)?.starved) - Number(undone(a.index)?.starved));
  const newReplicaSets = undo?.newReplicaSets.flatMap((exists, index) => (exists ? [index] : [])) ?? [];
  return [
    ...giveBack(state, shifted),
    ...removeSplits(state, split, 'R2'),
    ...pairs.flatMap(({ index }): Instruction[] => {
      const canary = undone(index)?.canary ?? null;
      if (canary === null) return [];
      const change = { op: canary === 'created' ? 'delete' : 'unpin' } as const;
      return [{ id: `R3.canary.${index}`, kind: 'write', slot: `canary.${index}`, change }];
    }),
    ...removeReplicaSets(state, 'R4', newReplicaSets, outline.readyTimeoutSeconds),
    ...pairs.flatMap(({ index }): Instruction[] =>
      undone(index)?.rootPinned
        ? [{ id: `R5.unpin.${index}`, kind: 'write', slot: `root.${index}`, change: { op: 'unpin' } }]
        : [],
    ),
    ...(undo?.changed ?? []).map(
      (index): Instruction => ({
        id: `R6.object.${index}`,
        kind: 'write',
        slot: slotOfObject(outline, index),
        change: { op: 'restore' },
      }),
    ),
    ...restoreDeployments(state),
    { id: 'end', kind: 'end' },
  ];
}

/** R1: root leads to the old pods, as many of them are asked for as there were, and only then traffic goes back. */
function giveBack(state: DeploymentState, pairs: Pair[]): Instruction[] {
  if (pairs.length === 0) return [];
  const weights = { stable: 100, canary: 0 };
  return [
    ...pairs.map(
      ({ index, old }): Instruction => ({
        id: `R1.root.${index}`,
        kind: 'write',
        slot: `root.${index}`,
        change: { op: 'pin', hash: old.hash },
        lookFirst: true,
      }),
    ),
    ...byWorkload(pairs).map(
      ({ workload, old }): Instruction => ({
        id: `R1.old.${workload}`,
        kind: 'write',
        slot: `oldReplicaSet.${workload}`,
        change: { op: 'scale', replicas: old.pods },
        lookFirst: true,
      }),
    ),
    ...pairs.flatMap((pair) => [
      enoughOld(state, pair, 'R1', [`R1.root.${pair.index}`, `R1.old.${pair.workload}`]),
      ...setWeights([pair], 'R1', weights),
    ]),
    ...meshTakes(state, pairs, 'R1', weights, { limitSeconds: divertSeconds, onLimit: 'divert', orNone: true }),
    ...pairs.flatMap(({ index, old }): Instruction[] =>
      state.routes[index]?.diverted
        ? [{ id: `R1.divert.${index}`, kind: 'write', slot: `canary.${index}`, change: { op: 'pin', hash: old.hash } }]
        : [],
    ),
    { id: 'R1.drain', kind: 'drain' },
  ];
}
