import { type Change, type DeploymentState, type ObjectFacts, partOf, type Slot } from './deployment-state.ts';
import type { Instruction } from './instructions.ts';
import { byWorkload, pairsOf } from './pairs.ts';
import { programmeOf } from './programme.ts';
import { sameWeights } from './traffic/smi.ts';

/**
 * What a run holds while it goes on: Services by their pins, TrafficSplits by their weights, ReplicaSets by the pods they
 * ask for. What others change of that is put back (design.md, "While held").
 */
export type Held = { slot: Slot; want: HeldChange };

/** The write that would put it back. `scale`: more pods than that are nobody's harm and are let be. */
export type HeldChange = Extract<Change, { op: 'pin' | 'weights' | 'scale' }>;

/** All that a run holds now. What is being written, or may still be written by an earlier try, is told by that write. */
export function heldObjects(state: DeploymentState): Held[] {
  if (state.survey === null) return [];
  const list = programmeOf(state);
  const here = list.findIndex(({ id }) => id === state.at);
  const current = list[here];
  const unsettled = state.unsettled !== null && current?.kind === 'write' ? current.slot : null;
  const writing = [state.effect?.kind === 'write' ? state.effect.slot : null, state.doubt?.slot, unsettled];
  const done = list.slice(0, here);
  const held = state.track === 'forward' ? heldForward(state, done) : heldBackward(state, done);
  return held.filter(({ slot }) => state.objects[slot] !== undefined && !writing.includes(slot));
}

/** Each object as the last write of it asked for. */
function heldForward(state: DeploymentState, done: Instruction[]): Held[] {
  const last = new Map<Slot, Change>();
  for (const instruction of done) {
    if (instruction.kind !== 'write' || !tellingOps.includes(instruction.change.op)) continue;
    last.set(instruction.slot, instruction.change);
  }
  const held = [...last].flatMap(([slot, change]): Held[] => {
    // Once it has the labels its pods are the Deployment's that is kept.
    if (done.some((one) => one.id.startsWith('F8.label.') && one.kind === 'write' && one.slot === slot)) return [];
    const want = wantOf(state, slot, change);
    return want === null ? [] : [{ slot, want }];
  });
  const started = done.some(({ id }) => id.startsWith('S2.pin.'));
  const old = started ? oldPods(state).filter(({ slot }) => !last.has(slot)) : [];
  return [...held, ...old];
}

/** Changes that say what becomes of an object's traffic or pods; others only mark it. */
const tellingOps: Change['op'][] = ['create', 'pin', 'unpin', 'weights', 'scale', 'delete'];

function wantOf(state: DeploymentState, slot: Slot, change: Change): HeldChange | null {
  const { part, index } = partOf(slot);
  switch (change.op) {
    case 'pin':
    case 'weights':
      return change;
    case 'scale':
      return change.replicas > 0 ? change : null;
    case 'create':
      if (part === 'split') return { op: 'weights', weights: toRoot };
      if (part === 'canary')
        return { op: 'pin', hash: pairsOf(state).find((pair) => pair.index === index)?.hash ?? '' };
      return null;
    default:
      return null;
  }
}

const toRoot = { stable: 100, canary: 0 };

/** What stood when the roll back began, until it is undone: first that traffic stays with the old version. */
function heldBackward(state: DeploymentState, done: Instruction[]): Held[] {
  const isDone = (id: string) => done.some((instruction) => instruction.id === id);
  const held = pairsOf(state).flatMap(({ index, old, hash }): Held[] => {
    const undone = state.undo?.routes[index];
    const list: Held[] = [];
    if (undone?.rootPinned && !isDone(`R5.unpin.${index}`)) {
      list.push({ slot: `root.${index}`, want: { op: 'pin', hash: old.hash } });
    }
    if (undone?.canary && !isDone(`R3.canary.${index}`)) {
      const diverted = isDone(`R1.divert.${index}`);
      list.push({ slot: `canary.${index}`, want: { op: 'pin', hash: diverted ? old.hash : hash } });
    }
    const isBack = !undone?.shifted || isDone(`R1.weight.${index}`);
    if (undone?.split && isBack && !isDone(`R2.delete.${index}`)) {
      list.push({ slot: `split.${index}`, want: { op: 'weights', weights: toRoot } });
    }
    return list;
  });
  // Once it has its labels again its pods are the Deployment's that was set aside.
  const isHandedOver = ({ slot }: Held) => isDone(`R7.label.${partOf(slot).index}`);
  return [...held, ...oldPods(state).filter((old) => !isHandedOver(old))];
}

function oldPods(state: DeploymentState): Held[] {
  return byWorkload(pairsOf(state)).map(({ workload, old }) => ({
    slot: `oldReplicaSet.${workload}`,
    want: { op: 'scale', replicas: old.pods },
  }));
}

/** The deployment in whose name an object must be marked; null for what is not the run's own. */
export function markOf(state: DeploymentState, slot: Slot): string | null {
  return ['root', 'canary', 'split', 'newReplicaSet'].includes(partOf(slot).part) ? state.id : null;
}

/** Whether an object is as a run holds it. */
export function isAsHeld(want: HeldChange, mark: string | null, facts: ObjectFacts): boolean {
  if (mark !== null && facts.deployment !== mark) return false;
  switch (want.op) {
    case 'pin':
      return facts.pin === want.hash;
    case 'weights':
      return sameWeights(want.weights, facts.weights);
    case 'scale':
      return (facts.replicas ?? 0) >= want.replicas;
  }
}

/**
 * Whether an object needs no look before a write that only repeats what the run asked of it: what others change of it is
 * told by the watches, and nothing was. Should they be late, the wait that follows asks for what the write would bring.
 */
export function isHeldInForce(state: DeploymentState, slot: Slot, change: Change): boolean {
  const held = heldObjects(state).find((object) => object.slot === slot);
  const isSame =
    (held?.want.op === 'scale' && change.op === 'scale' && held.want.replicas === change.replicas) ||
    (held?.want.op === 'weights' && change.op === 'weights' && sameWeights(held.want.weights, change.weights));
  return isSame && !isFrozen(state, slot) && !state.disturbed.includes(slot) && state.mending?.slot !== slot;
}

/** Whether what others do to an object is left to people. */
export function isFrozen(state: DeploymentState, slot: Slot): boolean {
  return state.frozen.some((frozen) => frozen.slot === slot);
}
