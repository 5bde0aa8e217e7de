import {
  type Change,
  type Condition,
  type DeploymentState,
  isSetWeight,
  newReplicaSetName,
  type Slot,
} from './deployment-state.ts';

/**
 * The order of work of one deployment, as a list of instructions (design.md, "The SMI canary, write by write"):
 *
 *   P   preflight, before any change          F1  all traffic to the new pods, drain
 *   P0  the other objects                     F2  root Service to the new pods   <- no return
 *   S1  preflight again                       F3  weights 100/0 (both lead to new pods), drain
 *   S2  root Service pinned to the old pods   F4  the split away
 *   S3  canary Service                        F5  canary Service away or restored
 *   S4  new ReplicaSet, scaled up             F6  old ReplicaSet away
 *   S5  its pods ready behind the canary      F7  root Service as the user wrote it
 *   S6  split at 100/0
 *   S7  a weight a step                       R1-R6  the way back, see rollBackProgramme
 *
 * A crash between any two instructions leaves traffic where it was. The lists are derived from the state alone, so that
 * the state needs to say only which instruction it is at.
 */
export type Instruction = {
  /** `<phase>.<what>`, unique in its list and stable over releases: it is stored. */
  id: string;
  /** Index of the strategy step it belongs to. */
  step?: number;
} & (
  | { kind: 'survey' }
  | {
      kind: 'write';
      slot: Slot;
      change: Change;
      /** Usually in force already: the cluster is read, and written only if it is not. */
      lookFirst?: true;
    }
  | {
      kind: 'wait';
      condition: Condition;
      limitSeconds: number | null;
      onLimit: 'rollBack' | 'goOn' | 'divert';
      /** The writes that the condition follows from: looked at again in turn while it does not hold, in case others undid one. */
      follows?: string[];
    }
  | { kind: 'drain' }
  | { kind: 'pause' }
  | { kind: 'end' }
);

/** A mesh that has not taken the first split by then is taken for no mesh. */
const firstMeshSeconds = 30;
/** How long a roll back waits for the mesh before it leads both backends to the old pods. */
const divertSeconds = 10;

export function programmeOf(state: DeploymentState): Instruction[] {
  if (state.track === 'rollBack') return rollBackProgramme(state);
  if (state.survey === null) return [{ id: 'P.survey', kind: 'survey' }];
  return state.survey.mode === 'first' ? firstProgramme(state) : canaryProgramme(state);
}

/** The slot of the plan's i-th object: a Service that the run also shifts traffic with has one slot for both. */
export function slotOfObject(outline: DeploymentState['outline'], index: number): Slot {
  const object = outline.objects[index];
  if (object?.kind === 'Service') {
    if (object.name === outline.route.rootServiceName) return 'root';
    if (outline.route.canaryServiceGiven && object.name === outline.route.canaryServiceName) return 'canary';
  }
  return `object.${index}`;
}

function applyObjects(state: DeploymentState): Instruction[] {
  const existing = new Set(state.survey?.existing.map((object) => object.index));
  return state.outline.objects.map((_, index) => ({
    id: `P0.object.${index}`,
    kind: 'write',
    slot: slotOfObject(state.outline, index),
    change: existing.has(index) ? { op: 'apply' } : { op: 'create' },
  }));
}

/** No earlier version with pods: the new one goes straight to 100 %, and the strategy's steps are skipped. */
function firstProgramme(state: DeploymentState): Instruction[] {
  const { workload, readyTimeoutSeconds, namespace } = state.outline;
  return [
    { id: 'P.survey', kind: 'survey' },
    ...applyObjects(state),
    ...createNewReplicaSet(state),
    {
      id: 'S5.wait',
      kind: 'wait',
      condition: { key: 'S5.wait', namespace, kind: 'podsReady', hash: state.hash, ready: workload.replicas },
      limitSeconds: readyTimeoutSeconds,
      onLimit: 'rollBack',
    },
    ...(state.survey?.old ? removeOldReplicaSet(state) : []),
    { id: 'end', kind: 'end' },
  ];
}

function canaryProgramme(state: DeploymentState): Instruction[] {
  const { steps } = state.outline;
  const first = steps.findIndex(isSetWeight);
  const leading = steps.slice(0, first === -1 ? steps.length : first).map((_, index) => pauseInstruction(index));
  const start = startInstructions(state).map((instruction) =>
    first === -1 ? instruction : { ...instruction, step: first },
  );
  const shifting =
    first === -1 ? [] : steps.slice(first).flatMap((_, offset) => stepInstructions(state, first + offset));
  return [
    { id: 'P.survey', kind: 'survey' },
    ...applyObjects(state),
    ...leading,
    ...start,
    ...shifting,
    ...finishInstructions(state),
    { id: 'end', kind: 'end' },
  ];
}

function pauseInstruction(index: number): Instruction {
  return { id: `step.${index + 1}`, kind: 'pause', step: index };
}

function startInstructions(state: DeploymentState): Instruction[] {
  const { survey, outline, hash } = state;
  if (!survey?.old) return [];
  const { route, namespace, readyTimeoutSeconds, workload } = outline;
  return [
    { id: 'S1.survey', kind: 'survey' },
    ...survey.leftovers.map(
      ({ slot }): Instruction => ({ id: `S1.remove.${slot}`, kind: 'write', slot, change: { op: 'delete' } }),
    ),
    { id: 'S2.pin', kind: 'write', slot: 'root', change: { op: 'pin', hash: survey.old.hash } },
    {
      id: 'S2.wait',
      kind: 'wait',
      condition: {
        key: 'S2.wait',
        namespace,
        kind: 'endpoints',
        service: route.rootServiceName,
        hash: survey.old.hash,
        ready: null,
      },
      limitSeconds: readyTimeoutSeconds,
      onLimit: 'rollBack',
      follows: ['S2.pin'],
    },
    {
      id: 'S3.canary',
      kind: 'write',
      slot: 'canary',
      change: route.canaryServiceGiven ? { op: 'pin', hash } : { op: 'create' },
    },
    ...createNewReplicaSet(state),
    {
      id: 'S5.wait',
      kind: 'wait',
      condition: {
        key: 'S5.wait',
        namespace,
        kind: 'endpoints',
        service: route.canaryServiceName,
        hash,
        ready: workload.replicas,
      },
      limitSeconds: readyTimeoutSeconds,
      onLimit: 'rollBack',
    },
    { id: 'S6.create', kind: 'write', slot: 'split', change: { op: 'create' } },
    ...meshWait(state, 'S6.mesh', { stable: 100, canary: 0 }, firstMeshSeconds, 'rollBack'),
  ];
}

function createNewReplicaSet(state: DeploymentState): Instruction[] {
  return [
    { id: 'S4.create', kind: 'write', slot: 'newReplicaSet', change: { op: 'create' } },
    {
      id: 'S4.scale',
      kind: 'write',
      slot: 'newReplicaSet',
      change: { op: 'scale', replicas: state.outline.workload.replicas },
    },
  ];
}

/** S7: one write a weight. A weight that gives traffic back to the old side first waits until that side can take it. */
function stepInstructions(state: DeploymentState, index: number): Instruction[] {
  const step = state.outline.steps[index];
  if (!isSetWeight(step)) return [pauseInstruction(index)];
  const weights = { stable: 100 - step.weight, canary: step.weight };
  const before = state.outline.steps.slice(0, index).findLast(isSetWeight)?.weight ?? 0;
  const ref = `S7.${index + 1}`;
  const list: Instruction[] = [
    ...(step.weight < before ? [enoughOld(state, `${ref}.enough`)] : []),
    { id: `${ref}.weight`, kind: 'write', slot: 'split', change: { op: 'weights', weights } },
    ...meshWait(state, `${ref}.mesh`, weights, null, 'goOn'),
  ];
  return list.map((instruction) => ({ ...instruction, step: index }));
}

function finishInstructions(state: DeploymentState): Instruction[] {
  const { route, namespace, workload } = state.outline;
  const toNew = { stable: 0, canary: 100 };
  const toRoot = { stable: 100, canary: 0 };
  return [
    { id: 'F1.weight', kind: 'write', slot: 'split', change: { op: 'weights', weights: toNew } },
    ...meshWait(state, 'F1.mesh', toNew, null, 'goOn'),
    { id: 'F1.drain', kind: 'drain' },
    { id: 'F2.pin', kind: 'write', slot: 'root', change: { op: 'pin', hash: state.hash } },
    fullNew(state, 'F2.new'),
    {
      id: 'F2.wait',
      kind: 'wait',
      condition: {
        key: 'F2.wait',
        namespace,
        kind: 'endpoints',
        service: route.rootServiceName,
        hash: state.hash,
        ready: workload.replicas,
      },
      limitSeconds: null,
      onLimit: 'goOn',
      follows: ['F2.pin', 'F2.new'],
    },
    { id: 'F2.drain', kind: 'drain' },
    { id: 'F3.weight', kind: 'write', slot: 'split', change: { op: 'weights', weights: toRoot } },
    ...meshWait(state, 'F3.mesh', toRoot, null, 'goOn', true),
    { id: 'F3.drain', kind: 'drain' },
    { id: 'F4.delete', kind: 'write', slot: 'split', change: { op: 'delete' } },
    ...meshDropped(state, 'F4.mesh'),
    route.canaryServiceGiven
      ? { id: 'F5.canary', kind: 'write', slot: 'canary', change: { op: 'unpin' } }
      : { id: 'F5.canary', kind: 'write', slot: 'canary', change: { op: 'delete' } },
    fullNew(state, 'F6.new'),
    {
      id: 'F6.ready',
      kind: 'wait',
      condition: {
        key: 'F6.ready',
        namespace,
        kind: 'endpoints',
        service: route.rootServiceName,
        hash: state.hash,
        ready: workload.replicas,
        amongOthers: true,
      },
      limitSeconds: null,
      onLimit: 'goOn',
      follows: ['F6.new'],
    },
    ...removeOldReplicaSet(state),
    { id: 'F7.unpin', kind: 'write', slot: 'root', change: { op: 'unpin' } },
  ];
}

/** The new version has all traffic: whoever scaled it down meanwhile is overruled. */
function fullNew(state: DeploymentState, id: string): Instruction {
  const change: Change = { op: 'scale', replicas: state.outline.workload.replicas };
  return { id, kind: 'write', slot: 'newReplicaSet', change, lookFirst: true };
}

function removeOldReplicaSet(state: DeploymentState): Instruction[] {
  const { survey, outline } = state;
  if (!survey?.old) return [];
  return removeReplicaSet('F6', 'oldReplicaSet', survey.old.name, survey.old.hash, outline.namespace, null);
}

function removeReplicaSet(
  phase: 'F6' | 'R4',
  slot: Slot,
  replicaSet: string,
  hash: string,
  namespace: string,
  limitSeconds: number | null,
): Instruction[] {
  return [
    { id: `${phase}.scale`, kind: 'write', slot, change: { op: 'scale', replicas: 0 } },
    {
      id: `${phase}.gone`,
      kind: 'wait',
      condition: { key: `${phase}.gone`, namespace, kind: 'gone', replicaSet, hash },
      limitSeconds,
      onLimit: 'goOn',
      follows: [`${phase}.scale`],
    },
    { id: `${phase}.delete`, kind: 'write', slot, change: { op: 'delete' } },
  ];
}

function enoughOld(state: DeploymentState, id: string, follows: string[] = []): Instruction {
  const { route, namespace } = state.outline;
  return {
    follows,
    id,
    kind: 'wait',
    condition: {
      key: id,
      namespace,
      kind: 'enough',
      service: route.rootServiceName,
      hash: state.survey?.old?.hash ?? '',
      atLeast: state.survey?.old?.ready ?? 0,
      other: { service: route.canaryServiceName, hash: state.hash },
    },
    limitSeconds: null,
    onLimit: 'goOn',
  };
}

/** Nothing to wait for where the stored TrafficSplit is all the confirmation there is. */
function meshWait(
  state: DeploymentState,
  id: string,
  weights: { stable: number; canary: number },
  limitSeconds: number | null,
  onLimit: 'rollBack' | 'goOn' | 'divert',
  orNone = false,
): Instruction[] {
  if (state.survey?.meshConfirmation !== 'linkerd-smi') return [];
  const { route, namespace } = state.outline;
  const condition: Condition = {
    key: id,
    namespace,
    kind: 'mesh',
    root: route.rootServiceName,
    canary: route.canaryServiceName,
    weights,
    ...(orNone ? { orNone } : {}),
  };
  return [{ id, kind: 'wait', condition, limitSeconds, onLimit, follows: [id.replace('.mesh', '.weight')] }];
}

function meshDropped(state: DeploymentState, id: string): Instruction[] {
  if (state.survey?.meshConfirmation !== 'linkerd-smi') return [];
  const { route, namespace } = state.outline;
  const condition: Condition = { key: id, namespace, kind: 'meshDropped', root: route.rootServiceName };
  return [{ id, kind: 'wait', condition, limitSeconds: firstMeshSeconds, onLimit: 'goOn' }];
}

/** Before traffic goes back: root leads to the old pods, and as many of them are asked for as there were. */
function wholeOld({ survey }: DeploymentState): Instruction[] {
  if (!survey?.old) return [];
  const { hash, pods } = survey.old;
  return [
    { id: 'R1.root', kind: 'write', slot: 'root', change: { op: 'pin', hash }, lookFirst: true },
    { id: 'R1.old', kind: 'write', slot: 'oldReplicaSet', change: { op: 'scale', replicas: pods }, lookFirst: true },
  ];
}

/** R1-R6 on what stood when the roll back began. */
function rollBackProgramme(state: DeploymentState): Instruction[] {
  const { undo, outline, survey } = state;
  const list: Instruction[] = [];
  if (undo?.split && undo.shifted) {
    list.push(
      ...wholeOld(state),
      enoughOld(state, 'R1.enough', ['R1.root', 'R1.old']),
      { id: 'R1.weight', kind: 'write', slot: 'split', change: { op: 'weights', weights: { stable: 100, canary: 0 } } },
      ...meshWait(state, 'R1.mesh', { stable: 100, canary: 0 }, divertSeconds, 'divert', true),
    );
    if (state.diverted && survey?.old) {
      list.push({ id: 'R1.divert', kind: 'write', slot: 'canary', change: { op: 'pin', hash: survey.old.hash } });
    }
    list.push({ id: 'R1.drain', kind: 'drain' });
  }
  if (undo?.split) {
    list.push(
      { id: 'R2.delete', kind: 'write', slot: 'split', change: { op: 'delete' } },
      ...meshDropped(state, 'R2.mesh'),
    );
  }
  if (undo?.canary === 'created')
    list.push({ id: 'R3.canary', kind: 'write', slot: 'canary', change: { op: 'delete' } });
  if (undo?.canary === 'pinned') list.push({ id: 'R3.canary', kind: 'write', slot: 'canary', change: { op: 'unpin' } });
  if (undo?.newReplicaSet) {
    const name = newReplicaSetName(state);
    list.push(
      ...removeReplicaSet('R4', 'newReplicaSet', name, state.hash, outline.namespace, outline.readyTimeoutSeconds),
    );
  }
  if (undo?.rootPinned) list.push({ id: 'R5.unpin', kind: 'write', slot: 'root', change: { op: 'unpin' } });
  for (const index of undo?.changed ?? []) {
    list.push({
      id: `R6.object.${index}`,
      kind: 'write',
      slot: slotOfObject(outline, index),
      change: { op: 'restore' },
    });
  }
  list.push({ id: 'end', kind: 'end' });
  return list;
}

/**
 * From the commit of F2's intent on there is no roll back (design.md, law 4), unless that write certainly did not and
 * will not happen. Where no traffic is split, the old version's end is that point.
 */
export function isPastReturn(state: DeploymentState): boolean {
  if (state.track === 'rollBack') return false;
  if (state.noReturn) return true;
  const list = programmeOf(state);
  const here = list.findIndex(({ id }) => id === state.at);
  const last = list.findIndex(({ id }) => id === (state.survey?.mode === 'first' ? 'F6.scale' : 'F2.pin'));
  if (last === -1 || here !== last) return false;
  return state.effect !== null || state.doubt !== null || state.unsettled !== null;
}
