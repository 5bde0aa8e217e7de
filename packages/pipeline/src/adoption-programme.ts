import { freedReplicaSets, takenOff } from './deployment-object.ts';
import {
  type Change,
  type Condition,
  type DeploymentState,
  type Ground,
  newReplicaSetName,
  type OldVersion,
  type Slot,
} from './deployment-state.ts';
import { entryAt } from './entry-at.ts';
import type { Instruction } from './instructions.ts';
import { deploymentKey } from './marks.ts';

/**
 * What a run does with Deployment objects (design.md, "ReplicaSets and adoption"). Two rules carry it:
 *
 * - A ReplicaSet with the user's labels and without an owner belongs to whichever Deployment comes by. So ours carry them
 *   only while a Deployment of ours is there to own them, and these come off as soon as it is gone.
 * - A Deployment is created paused, when it starts no pod whatever stands there, and goes on only once it owns the
 *   ReplicaSet and takes it for its newest.
 *
 *   S1  the Deployment that an earlier run kept away, its ReplicaSet staying; the user's labels off that
 *   F6  the Deployment that is taken over away, its ReplicaSets staying   <- no return, where nothing else is; their end
 *   F8  the Deployment that is kept: made paused, the user's labels onto the new ReplicaSet, owned, paused no more
 *   R7  the Deployment of before made again in the same way
 */

const settledSeconds = 60;

function write(id: string, slot: Slot, change: Change, lookFirst?: true): Instruction {
  return { id, kind: 'write', slot, change, ...(lookFirst ? { lookFirst } : {}) };
}

type Limit = { limitSeconds: number | null; onLimit: 'rollBack' | 'goOn'; follows?: string[] };

function wait(id: string, { outline }: Pick<Ground, 'outline'>, asked: Asked, limit: Limit): Instruction {
  const condition = { key: id, namespace: outline.namespace, ...asked } as Condition;
  return { id, kind: 'wait', condition, ...limit };
}

type Asked = Condition extends infer Each ? (Each extends Condition ? Omit<Each, 'key' | 'namespace'> : never) : never;

const forGood: Limit = { limitSeconds: null, onLimit: 'goOn' };

/** S1, after the second preflight: nothing but us owns the previous version, or could. */
export function setAside(state: Ground): Instruction[] {
  const { outline, survey } = state;
  const workloads = (survey?.workloads ?? []).map((found, index) => ({ ...found, index }));
  const kept = workloads.filter(({ mode, deployment }) => mode === 'canary' && deployment);
  return [
    ...kept.map(({ index }) => write(`S1.orphan.${index}`, `deployment.${index}`, { op: 'delete', orphan: true })),
    ...kept.map(({ index, deployment }) =>
      wait(
        `S1.orphaned.${index}`,
        state,
        { kind: 'noDeployment', deployment: entryAt(outline.workloads, index).name, uid: deployment?.uid ?? '' },
        { limitSeconds: outline.readyTimeoutSeconds, onLimit: 'rollBack' },
      ),
    ),
    ...workloads.flatMap(({ index, mode, old }) =>
      mode === 'canary' && old?.labels
        ? [write(`S1.unlabel.${index}`, `oldReplicaSet.${index}`, { op: 'label', labels: setAsideLabels(old) }, true)]
        : [],
    ),
  ];
}

function setAsideLabels(old: OldVersion): Record<string, string | null> {
  return { ...takenOff(old), ...(old.mark === undefined ? {} : { [deploymentKey]: old.mark }) };
}

/**
 * F6: Deployments that are not ours go once the new pods are ready, and then their ReplicaSets. `past`: the run is past
 * the point of no return already.
 */
export function takeOver(state: Ground, past: boolean): Instruction[] {
  const { outline, survey, hashes } = state;
  const adopted = (survey?.workloads ?? []).flatMap(({ mode }, index) => (mode === 'adopt' ? [index] : []));
  const nameOf = (index: number) => entryAt(outline.workloads, index).name;
  const podsReady = (id: string, index: number, limit: Limit) => {
    const { replicas: ready } = entryAt(outline.workloads, index);
    return wait(`${id}.${index}`, state, { kind: 'podsReady', hash: entryAt(hashes, index), ready }, limit);
  };
  const untilReady: Limit = past ? forGood : { limitSeconds: outline.readyTimeoutSeconds, onLimit: 'rollBack' };
  const look: Instruction[] = adopted.length === 0 ? [] : [{ id: 'F6.survey', kind: 'survey' }];
  return [
    ...look,
    ...adopted.map((index) => podsReady('F6.pods', index, untilReady)),
    ...adopted.map((index) => write(`F6.orphan.${index}`, `deployment.${index}`, { op: 'delete', orphan: true })),
    ...adopted.map((index) =>
      wait(`F6.orphaned.${index}`, state, { kind: 'noDeployment', deployment: nameOf(index) }, forGood),
    ),
    ...adopted.map((index) => {
      const { replicas } = entryAt(outline.workloads, index);
      return write(`F6.new.${index}`, `newReplicaSet.${index}`, { op: 'scale', replicas }, true);
    }),
    ...adopted.map((index) => podsReady('F6.full', index, { ...forGood, follows: [`F6.new.${index}`] })),
    ...removeFreed(state),
  ];
}

/** The ReplicaSets that Deployments left: those with pods to none first, then all away. */
function removeFreed(state: Ground): Instruction[] {
  const freed = freedReplicaSets(state.survey).map((replicaSet, index) => ({ ...replicaSet, index }));
  const running = freed.filter(({ replicas }) => replicas > 0);
  return [
    ...running.map(({ index }) => write(`F6.empty.${index}`, `freed.${index}`, { op: 'scale', replicas: 0 }, true)),
    ...running.map(({ index, name }) =>
      wait(
        `F6.emptied.${index}`,
        state,
        { kind: 'empty', replicaSet: name },
        { ...forGood, follows: [`F6.empty.${index}`] },
      ),
    ),
    ...freed.map(({ index }) => write(`F6.clear.${index}`, `freed.${index}`, { op: 'delete' }, true)),
  ];
}

/** F8: a Deployment object over each new ReplicaSet, where the file asks for it. */
export function keepDeployments(state: Ground): Instruction[] {
  const kept = state.outline.workloads.flatMap(({ keptLabels }, index) => (keptLabels ? [{ index, keptLabels }] : []));
  return raise(
    state,
    'F8',
    kept.map(({ index, keptLabels }) => ({
      index,
      replicaSet: newReplicaSetName(state, index),
      slot: `newReplicaSet.${index}`,
      labels: keptLabels,
      asked: entryAt(state.outline.workloads, index).replicas,
    })),
    forGood,
  );
}

/** R7: what S1 set aside is put back. */
export function restoreDeployments(state: DeploymentState): Instruction[] {
  const undone = (state.undo?.deployments ?? []).flatMap((undo, index) => {
    const { old, deployment } = state.survey?.workloads[index] ?? {};
    return old ? [{ ...undo, index, old, uid: deployment?.uid ?? '' }] : [];
  });
  const removed = undone.filter(({ removed: gone }) => gone);
  const raised = removed.map(({ index, old }) => ({
    index,
    replicaSet: old.name,
    slot: `oldReplicaSet.${index}` as const,
    labels: old.labels ?? {},
    asked: old.pods,
  }));
  return [
    ...removed.map(({ index, uid }) => {
      const deployment = entryAt(state.outline.workloads, index).name;
      return wait(`R7.away.${index}`, state, { kind: 'noDeployment', deployment, uid }, forGood);
    }),
    ...raise(state, 'R7', raised, { limitSeconds: settledSeconds, onLimit: 'goOn' }),
    // Where the Deployment cannot be had, nobody else's may take the ReplicaSet.
    ...removed.map(({ index, old }) =>
      write(`R7.unlabel.${index}`, `oldReplicaSet.${index}`, { op: 'label', labels: takenOff(old) }, true),
    ),
    ...undone.flatMap(({ index, old, removed: gone, unlabelled }) =>
      !gone && unlabelled
        ? [write(`R7.label.${index}`, `oldReplicaSet.${index}`, { op: 'label', labels: old.labels ?? {} }, true)]
        : [],
    ),
  ];
}

/** `asked`: pods that it has when it is handed over. */
type Raised = { index: number; replicaSet: string; slot: Slot; labels: Record<string, string>; asked: number };

function raise(state: Ground, phase: 'F8' | 'R7', raised: Raised[], untilOwned: Limit): Instruction[] {
  const owned = ({ index, replicaSet, asked }: Raised): Extract<Asked, { kind: 'adopted' }> => {
    const { name: deployment } = entryAt(state.outline.workloads, index);
    return { kind: 'adopted', deployment, replicaSet, asked };
  };
  // Once it stands there how many pods it asks for is people's, and until then at least what the run brought.
  const atLeast = ({ asked }: Raised) => (phase === 'F8' ? { atLeast: asked } : {});
  return [
    ...raised.map(({ index }) => write(`${phase}.create.${index}`, `deployment.${index}`, { op: 'create' })),
    ...raised.map(({ index, slot, labels }) => write(`${phase}.label.${index}`, slot, { op: 'label', labels }, true)),
    ...raised.map((one) => {
      const follows = [`${phase}.create.${one.index}`, `${phase}.label.${one.index}`];
      const condition = { ...owned(one), ...atLeast(one) };
      return wait(`${phase}.adopted.${one.index}`, state, condition, { ...untilOwned, follows });
    }),
    ...raised.map(({ index }) => write(`${phase}.resume.${index}`, `deployment.${index}`, { op: 'resume' }, true)),
    ...raised.map((one) =>
      wait(`${phase}.settled.${one.index}`, state, owned(one), {
        ...untilOwned,
        follows: [`${phase}.resume.${one.index}`],
      }),
    ),
  ];
}

/**
 * Whether an instruction has nothing to be about: a ReplicaSet that somebody removed, or a Deployment object that is not to
 * be had, when the ReplicaSet gets no labels either.
 */
export function isMoot(state: DeploymentState, { id }: Instruction): boolean {
  const isThere = (index: string) => state.objects[`deployment.${Number(index)}`] !== undefined;
  const [, bare] = /^R7\.unlabel\.(\d+)$/.exec(id) ?? [];
  if (bare !== undefined) return isThere(bare);
  const [, freed] = /^F6\.emptied\.(\d+)$/.exec(id) ?? [];
  if (freed !== undefined) return state.objects[`freed.${Number(freed)}`] === undefined;
  const [, index] = /^(?:F8|R7)\.(?:label|adopted|resume|settled)\.(\d+)$/.exec(id) ?? [];
  if (index === undefined) return false;
  const made = id.startsWith('F8.') || state.undo?.deployments?.[Number(index)]?.removed === true;
  return made && !isThere(index);
}
