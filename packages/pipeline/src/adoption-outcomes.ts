import { changedWords, freedReplicaSets, reshapedWords } from './deployment-object.ts';
import { type DeploymentState, type ObjectFacts, partOf, type Survey, type WriteEffect } from './deployment-state.ts';
import { entryAt } from './entry-at.ts';
import type { Instruction } from './instructions.ts';
import { advance, begin, currentInstruction, holdBack, warn } from './moves.ts';
import { programmeOf } from './programme.ts';

/** What outcomes of calls mean where they are about Deployment objects and the ReplicaSets that these control. */

/** Takes note of the Deployment objects that a preflight found. */
export function trackDeployments(state: DeploymentState): void {
  const { survey, objects } = state;
  for (const slot of Object.keys(objects)) if (slot.startsWith('freed.')) delete objects[slot as `freed.${number}`];
  for (const [index, { deployment }] of (survey?.workloads ?? []).entries()) {
    if (!deployment) continue;
    const { uid, resourceVersion } = deployment;
    objects[`deployment.${index}`] = { uid, resourceVersion, made: null };
  }
  for (const [index, { uid, resourceVersion }] of freedReplicaSets(survey).entries()) {
    objects[`freed.${index}`] = { uid, resourceVersion, made: null };
  }
}

/** A later preflight, with what an earlier one saw of Deployments that were set aside between the two. */
export function withSetAside(earlier: Survey | null, found: Survey): Survey {
  const workloads = found.workloads.map((workload, index) => {
    const { mode, old, deployment } = earlier?.workloads[index] ?? {};
    const isSetAside = mode === 'canary' && deployment && !workload.deployment && old?.uid === workload.old?.uid;
    if (!isSetAside || !workload.old) return workload;
    return { ...workload, deployment, old: { ...workload.old, ...(old?.labels ? { labels: old.labels } : {}) } };
  });
  return { ...found, workloads };
}

/**
 * F6.survey: the Deployments that are taken over must still ask for what they asked for at the preflight. One that
 * somebody changed holds the run; one that is gone has only left its ReplicaSets.
 */
export function onTakenOverSeen(state: DeploymentState, found: Survey, at: string): void {
  const { survey, outline } = state;
  if (survey === null) return;
  if (found.blind) return holdBack(state, found.problems.map(({ message }) => message).join('; '), at);
  const workloads = [...survey.workloads];
  for (const [index, workload] of workloads.entries()) {
    const { mode, deployment: known } = workload;
    const now = found.workloads[index]?.deployment;
    if (mode !== 'adopt' || !known || !now) continue;
    const { name } = entryAt(outline.workloads, index);
    const changed = changedWords({ name, namespace: outline.namespace }, known, now);
    if (changed !== null) return holdBack(state, changed, at);
    workloads[index] = { ...workload, deployment: now };
    delete state.observed[`guard.deployment.${index}`];
  }
  state.survey = { ...survey, workloads };
  trackDeployments(state);
  for (const [index, { mode }] of survey.workloads.entries()) {
    if (mode === 'adopt' && !found.workloads[index]?.deployment) delete state.objects[`deployment.${index}`];
  }
  advance(state, at);
}

/** A Deployment that is to be freed of its ReplicaSets was read; true where that decides what is next. */
export function onDeploymentFound(
  state: DeploymentState,
  doubt: WriteEffect,
  object: ObjectFacts,
  at: string,
): boolean {
  const { part, index } = partOf(doubt.slot);
  if (part === 'freed') return onFreedFound(state, index, object, at);
  if (part === 'deployment' && doubt.change.op === 'resume') return isReshaped(state, index, object, at);
  if (part === 'deployment' && doubt.change.op === 'create') return onMadeFound(state, doubt, object, at);
  if (part !== 'deployment' || doubt.change.op !== 'delete' || object.uid !== doubt.uid) return false;
  if (object.deleting) {
    delete state.objects[doubt.slot];
    advance(state, at);
    return true;
  }
  const known = state.survey?.workloads[index]?.deployment;
  if (!known || known.form === object.form) return false;
  // What it asks for now is looked at as a whole, with all that hangs on it.
  begin(state, state.at.startsWith('S1.') ? 'S1.survey' : 'F6.survey', at);
  return true;
}

/** The wait for a Deployment to take its ReplicaSet over only looks whether it is there: what it became is the wait's to say. */
function onMadeFound(state: DeploymentState, { slot }: WriteEffect, object: ObjectFacts, at: string): boolean {
  const known = state.objects[slot];
  if (currentInstruction(state).kind !== 'wait' || !known) return false;
  if (known.uid !== object.uid) {
    // Somebody deleted it and made another: once that is gone ours is made again.
    delete state.objects[slot];
    begin(state, state.at.replace('.adopted.', '.create.'), at);
    return true;
  }
  state.objects[slot] = { ...known, resourceVersion: object.resourceVersion };
  return true;
}

/** Takes note of the pods that the ReplicaSet asks for which a Deployment is to stand over. */
export function noteTemplate(state: DeploymentState, { slot, change }: WriteEffect, object: ObjectFacts): void {
  if (change.op !== 'label' || object.template === undefined) return;
  state.templates = { ...state.templates, [slot]: object.template };
}

/** Whether a Deployment that was made paused asks for other pods by now: its pause does not end before it asks for the same. */
function isReshaped(state: DeploymentState, index: number, object: ObjectFacts, at: string): boolean {
  const slot = state.track === 'forward' ? (`newReplicaSet.${index}` as const) : (`oldReplicaSet.${index}` as const);
  const template = state.templates?.[slot];
  const { uid } = state.objects[`deployment.${index}`] ?? {};
  if (template === undefined || uid !== object.uid || object.template === template) return false;
  const { name } = entryAt(state.outline.workloads, index);
  holdBack(state, reshapedWords({ name, namespace: state.outline.namespace }, object.manager), at);
  return true;
}

/** A Deployment that somebody made again has taken the ReplicaSet back: nothing is done to it as long as that is there. */
function onFreedFound(state: DeploymentState, index: number, object: ObjectFacts, at: string): boolean {
  if (!object.controller) return false;
  const freed = freedReplicaSets(state.survey)[index];
  const back = `F6.orphaned.${freed?.workload}`;
  warn(state, `ReplicaSet ${freed?.name} belongs to a Deployment again that somebody made`);
  if (programmeOf(state).some(({ id }) => id === back)) begin(state, back, at);
  else skipFreed(state, index, at);
  return true;
}

/** An old revision of a Deployment that was kept, and is somebody else's now. */
function skipFreed(state: DeploymentState, index: number, at: string): void {
  delete state.objects[`freed.${index}`];
  advance(state, at);
}

/** A Deployment object that was made is gone while it should take its ReplicaSet over: it is made again. */
export function madeAgain(state: DeploymentState, doubt: WriteEffect, at: string): boolean {
  const waiting: Instruction = currentInstruction(state);
  if (waiting.kind !== 'wait' || doubt.change.op !== 'create' || partOf(doubt.slot).part !== 'deployment') return false;
  delete state.objects[doubt.slot];
  begin(state, waiting.id.replace('.adopted.', '.create.'), at);
  return true;
}

/** What S1 has done to the Deployments of before, as far as a roll back has to undo it; undefined where it did nothing. */
export function setAsideOf(
  state: DeploymentState,
  begun: readonly Instruction[],
): { removed: boolean; unlabelled: boolean }[] | undefined {
  const has = (id: string) => begun.some((done) => done.id === id);
  const undo = state.outline.workloads.map((_, index) => ({
    removed:
      has(`S1.orphan.${index}`) &&
      state.survey?.workloads[index]?.deployment?.ownsOld === true &&
      state.objects[`deployment.${index}`] === undefined,
    unlabelled: has(`S1.unlabel.${index}`),
  }));
  return undo.some(({ removed, unlabelled }) => removed || unlabelled) ? undo : undefined;
}

/** What stays of Deployments that were being taken over, when the run cannot go on. */
export function freedLines(state: DeploymentState): string[] {
  const { namespace } = state.outline;
  return freedReplicaSets(state.survey).flatMap(({ name }, index) =>
    state.noReturn && state.objects[`freed.${index}`]
      ? [`ReplicaSet ${name} of the previous version stays: kubectl -n ${namespace} get replicaset ${name}`]
      : [],
  );
}
