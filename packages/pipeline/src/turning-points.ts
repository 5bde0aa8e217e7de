import { setAsideOf } from './adoption-outcomes.ts';
import { sharerLines } from './deployment-claims.ts';
import { scaledByOthers } from './deployment-conditions.ts';
import { intruderLines } from './deployment-object.ts';
import type { DeploymentState, Slot } from './deployment-state.ts';
import type { Write } from './instructions.ts';
import { begin, disturb, warn } from './moves.ts';
import { kubectlWords } from './outcomes.ts';
import { programmeOf } from './programme.ts';
import { slotOfObject } from './slot-of-object.ts';

/** Where a run turns back, and where it ends. */

/** Takes note of what stands, and goes the way back from there. */
export function beginRollBack(state: DeploymentState, at: string): void {
  const { outline, objects } = state;
  const running = state.steps.find((step) => step.startedAt !== undefined && step.completedAt === undefined);
  if (running) Object.assign(running, { status: state.rollBack?.outcome ?? 'FAILED', completedAt: at });
  const list = programmeOf(state);
  const begun = list.slice(0, list.findIndex(({ id }) => id === state.at) + 1);
  const changed = outline.objects.flatMap((_, index) => (tracked(state, index)?.made === 'changed' ? [index] : []));
  const deployments = setAsideOf(state, begun);
  state.undo = {
    routes: state.routes.map(({ pinned }, index) => {
      const given = outline.routes[index]?.canaryServiceGiven === true;
      return {
        // One that somebody deleted may live on in the mesh.
        split:
          objects[`split.${index}`] !== undefined || begun.slice(0, -1).some(({ id }) => id === `S6.create.${index}`),
        shifted: begun.some((done) => done.kind === 'write' && shiftsBy(done, `split.${index}`)),
        starved: state.observed[`guard.starved.${index}`]?.holds === true,
        canary: given ? (pinned.canary ? 'pinned' : null) : objects[`canary.${index}`] ? 'created' : null,
        rootPinned: pinned.root,
      };
    }),
    newReplicaSets: outline.workloads.map((_, index) => objects[`newReplicaSet.${index}`] !== undefined),
    ...(deployments ? { deployments } : {}),
    changed: changed.reverse(),
  };
  state.track = 'rollBack';
  const first = programmeOf(state)[0];
  if (!first) throw new Error('a roll back has at least an end');
  state.inTheWay = null;
  // What was fought over gets another chance: from here on it is the old version that is held.
  const open = [...(state.mending ? [state.mending] : []), ...state.frozen];
  Object.assign(state, { mending: null, frozen: [], fights: [] });
  for (const { slot } of open) disturb(state, slot);
  begin(state, first.id, at);
}

/** Whether a write asks for traffic on the new version by this split. */
function shiftsBy({ slot, change }: Write, split: Slot): boolean {
  return slot === split && change.op === 'weights' && change.weights.canary > 0;
}

/** The end of the list that the run was on. */
export function finish(state: DeploymentState, at: string): void {
  state.completedAt = at;
  // How many pods a Deployment object asks for is people's as soon as it stands over them.
  for (const [key, { detail, seen }] of Object.entries(state.observed)) {
    if (/^(F8|R7)\.settled\./.test(key) && seen === scaledByOthers) warn(state, detail);
  }
  if (state.track === 'forward') {
    state.status = 'SUCCEEDED';
    return;
  }
  state.status = state.rollBack?.outcome ?? 'FAILED';
  state.error = state.rollBack?.reason ?? null;
  state.leftInCluster.push(...intruderLines(state), ...sharerLines(state));
  for (const [index, object] of state.outline.objects.entries()) {
    if (tracked(state, index)?.made !== 'created') continue;
    const condition = object.kind === 'Namespace' ? ' (if nothing else is in it)' : '';
    state.leftInCluster.push(
      `${object.kind} ${object.name} was created by this deployment and stays${condition}: kubectl delete ${kubectlWords(object)}`,
    );
  }
}

function tracked(state: DeploymentState, index: number) {
  return state.objects[slotOfObject(state.outline, index)];
}
