import {
  freedLines,
  madeAgain,
  noteTemplate,
  onDeploymentFound,
  onTakenOverSeen,
  trackDeployments,
  withSetAside,
} from './adoption-outcomes.ts';
import { assertNever } from './assert-never.ts';
import {
  type Change,
  type DeploymentEvent,
  type DeploymentState,
  deniedByAdmission,
  type Effect,
  newReplicaSetName,
  type ObjectFacts,
  partOf,
  type RouteState,
  type Slot,
  type Survey,
  type WriteEffect,
} from './deployment-state.ts';
import { entryAt } from './entry-at.ts';
import { markOf } from './held.ts';
import { indexOf } from './instructions.ts';
import type { ObjectRef } from './kubernetes.ts';
import { deploymentKey, hashKey } from './marks.ts';
import { advance, begin, currentInstruction, holdBack, trip, warn } from './moves.ts';
import { pairsOf } from './pairs.ts';
import { isPastReturn, programmeOf } from './programme.ts';
import { objectWords, refOf } from './render.ts';
import { isLookOverdue } from './second-look.ts';
import { slotOfObject } from './slot-of-object.ts';
import { sameWeights, splitSpec } from './traffic/smi.ts';

/** What the outcome of a call to the cluster means for the run. Each function records; deciding what is next is the machine's. */

export function onSurveyed(state: DeploymentState, survey: Survey, at: string): void {
  const again = state.survey;
  state.retry = null;
  if (state.at === 'F6.survey') return onTakenOverSeen(state, survey, at);
  for (const warning of survey.warnings) warn(state, warning);
  const problems = survey.problems.map(({ object, message }) => `${object}: ${message}`);
  if (problems.length === 0 && again !== null && !isSameGround(again, survey)) {
    problems.push('the previous version changed after the deployment began: start it again');
  }
  if (problems.length > 0) {
    trip(state, { reason: problems.join('; '), outcome: 'FAILED' });
    return;
  }
  state.survey = withSetAside(again, survey);
  if (again === null) state.lookedSince = state.since;
  else delete state.lookedSince;
  for (const { index, uid, resourceVersion } of survey.existing) {
    const slot = slotOfObject(state.outline, index);
    track(state, slot, { uid, resourceVersion });
  }
  for (const [index, { root, canary }] of survey.routes.entries()) {
    if (root) track(state, `root.${index}`, root);
    if (canary) track(state, `canary.${index}`, canary);
  }
  for (const [index, { old }] of survey.workloads.entries()) {
    if (old) track(state, `oldReplicaSet.${index}`, old);
  }
  trackDeployments(state);
  advance(state, at);
}

/** Whether a second look found the versions, and what leads to them, as the first did. */
function isSameGround(a: Survey, b: Survey): boolean {
  return (
    a.workloads.every(({ mode }, index) => mode === b.workloads[index]?.mode) &&
    a.pairs.every((workload, index) => workload === b.pairs[index])
  );
}

/** Takes a survey's word for where an object stands; what others changed since our last write is not ours to restore. */
function track(state: DeploymentState, slot: Slot, seen: { uid: string; resourceVersion: string }): void {
  const known = state.objects[slot];
  const untouched = known?.uid === seen.uid && known.resourceVersion === seen.resourceVersion;
  if (known?.made === 'changed' && !untouched) {
    const words = objectWords(state, slot);
    warn(state, `${words}: somebody changed it after this deployment applied it; it would not be restored`);
  }
  const made = known && (untouched || known.made === 'created') ? known.made : null;
  state.objects[slot] = { uid: seen.uid, resourceVersion: seen.resourceVersion, made };
}

/** The outcome is not known. Lost again and again means something on the way that is slower to mend. */
export function onLost(state: DeploymentState, effect: Effect, message: string, at: string): void {
  state.heldSince ??= at;
  if (effect.kind === 'write') doubtSent(state, effect);
  state.conflicts += 1;
  if (state.conflicts > 3) holdBack(state, message, at);
}

/** The cluster must be read, and may carry the write out even after that. */
function doubtSent(state: DeploymentState, effect: WriteEffect): void {
  state.doubt = effect;
  const { change, slot } = effect;
  const isOfOld = ['oldReplicaSet', 'deployment'].includes(partOf(slot).part);
  const stays = change.op === 'pin' || change.op === 'apply' || isOfOld;
  if (state.track === 'forward' && stays) state.unsettled = effect.resourceVersion ?? null;
}

export function onWritten(state: DeploymentState, effect: WriteEffect, object: ObjectFacts | null, at: string): void {
  if (effect.change.op === 'delete') return deleted(state, effect.slot, at);
  if (object === null || !isInForce(state, effect, object)) {
    // Admission changed what was asked for: the object as stored decides (design.md, law 3).
    if (object !== null) know(state, effect, object);
    refuse(
      state,
      `the cluster stored something else than was asked for (${words(effect.change)} on ${objectWords(state, effect.slot)})`,
      at,
    );
    return;
  }
  apply(state, effect, object, at);
}

/** The cluster was read because the outcome of a write was in doubt. */
export function onFound(state: DeploymentState, object: ObjectFacts | null, leftover: boolean, at: string): void {
  const doubt = state.doubt;
  if (doubt === null) return;
  state.doubt = null;
  const { change, slot } = doubt;
  if (object?.resourceVersion !== state.unsettled) state.unsettled = null;
  if (object === null) {
    if (change.op === 'delete') return deleted(state, slot, at);
    if (madeAgain(state, doubt, at)) return;
    if (change.op !== 'create') missing(state, slot, at);
    return;
  }
  if (onDeploymentFound(state, doubt, object, at)) return;
  if (change.op === 'create') return foundInsteadOfCreating(state, doubt, object, leftover, at);
  if (change.op === 'delete') {
    if (object.uid !== doubt.uid) return deleted(state, slot, at);
    return refresh(state, slot, object, at);
  }
  if (change.op === 'restore') {
    // Whether our PUT or somebody else's change is what we see cannot be told apart unless our mark is still there.
    if (object.appliedBy !== state.id) return forget(state, slot, at);
    if (object.resourceVersion !== doubt.resourceVersion)
      return leave(state, slot, 'somebody changed it meanwhile', at);
    return;
  }
  if (object.uid !== doubt.uid && isOurs(state, slot)) {
    // Somebody deleted what this run made and put something else in its place, which is not ours to touch.
    return missing(state, slot, at);
  }
  if (object.deployment !== null && object.deployment !== state.id && isShared(slot)) {
    return refuse(state, `${objectWords(state, slot)} belongs to deployment ${object.deployment} now`, at);
  }
  const waiting = currentInstruction(state);
  if (waiting.kind === 'wait') return lookedAgain(state, doubt, object, waiting.follows ?? [], at);
  if (isInForce(state, doubt, object)) return apply(state, doubt, object, at);
  if (object.uid !== doubt.uid && state.track === 'forward' && !isPastReturn(state)) {
    return refuse(state, `${objectWords(state, slot)} was deleted and made again by somebody`, at);
  }
  if (isLookOverdue(state, doubt, object)) {
    delete state.lookedSince;
    return begin(state, 'S1.survey', at);
  }
  refresh(state, slot, object, at);
}

/** During a wait: still in force, so the wait goes on, or undone by others, so the write is sent again. */
function lookedAgain(
  state: DeploymentState,
  doubt: WriteEffect,
  object: ObjectFacts,
  follows: string[],
  at: string,
): void {
  refresh(state, doubt.slot, object, at);
  if (isInForce(state, doubt, object)) return;
  const write = programmeOf(state).find(
    (done) => follows.includes(done.id) && done.kind === 'write' && done.slot === doubt.slot,
  );
  if (!write) return;
  const words = objectWords(state, doubt.slot);
  warn(state, `${words} was changed by somebody while the deployment ran; it is put back`);
  begin(state, write.id, at);
  state.looked = true;
}

export function onRefused(
  state: DeploymentState,
  effect: Effect,
  event: Extract<DeploymentEvent, { type: 'refused' }>,
): void {
  const { status, at } = event;
  const said = `${event.message} (HTTP ${status})`;
  if (effect.kind !== 'write') return holdBack(state, said, at, event.retryAfterSeconds);
  const { change, slot } = effect;
  if (status === 404 && change.op === 'delete') return deleted(state, slot, at);
  if (status === 404 && change.op !== 'create') return missing(state, slot, at);
  if (status === 409) {
    if (change.op === 'restore') return leave(state, slot, 'somebody changed it meanwhile', at);
    state.doubt = effect;
    state.conflicts += 1;
    if (state.conflicts > 3) holdBack(state, said, at);
    return;
  }
  // So an apply answers a field of the wrong type, or one that the kind does not have: a certain no all the same.
  const isMalformed =
    change.op === 'apply' && status === 500 && event.message.startsWith('failed to create typed patch');
  if ((status === 429 || status >= 500) && !isMalformed) {
    if (status >= 500) doubtSent(state, effect);
    return holdBack(state, said, at, event.retryAfterSeconds);
  }
  if (change.op === 'restore') return leave(state, slot, said, at);
  // Without the ReplicaSet there is nothing for the Deployment to stand over.
  if (status === 404 && partOf(slot).part === 'deployment') {
    if (state.track === 'rollBack') return leave(state, slot, 'the previous version is gone', at);
    return missing(state, `newReplicaSet.${partOf(slot).index}`, at);
  }
  // A credential that lost its permission is a person's to mend: turning back would need the permission as well.
  const pinned = state.routes.some((route) => route.pinned.root);
  const isRight = status === 401 || (status === 403 && event.reason !== deniedByAdmission);
  if (isRight && pinned) return holdBack(state, said, at);
  // A copy of this write that was lost before may have arrived meanwhile.
  if (state.unsettled !== null) state.doubt = effect;
  refuse(state, said, at);
}

/** A certain no: before the point of no return it rolls back, after it the run holds and tries again. */
function refuse(state: DeploymentState, reason: string, at: string): void {
  state.unsettled = null;
  if (state.track === 'forward' && !isPastReturn(state)) trip(state, { reason, outcome: 'FAILED' });
  else if (state.at.startsWith('R7.create.')) leave(state, `deployment.${indexOf(state.at)}`, reason, at);
  else holdBack(state, reason, at);
}

function apply(state: DeploymentState, effect: WriteEffect, object: ObjectFacts, at: string): void {
  const { slot, change } = effect;
  know(state, effect, object);
  if (change.op === 'pin') setPinned(state, slot, true);
  if (change.op === 'unpin') setPinned(state, slot, false);
  const { part, index } = partOf(slot);
  if (part === 'split') {
    const route = entryAt(state.routes, index);
    // What was seen of its pods before there was traffic on them says nothing about now.
    if ((route.weights?.canary ?? 0) === 0) delete state.observed[`guard.starved.${index}`];
    route.weights = change.op === 'weights' ? change.weights : { stable: 100, canary: 0 };
    if (state.survey?.meshConfirmation === 'stored') route.confirmed = route.weights;
  }
  if (change.op === 'restore') delete state.objects[slot];
  advance(state, at);
}

/** Takes note of whether the selector of a Service of a route holds our hash key. */
function setPinned(state: DeploymentState, slot: Slot, pinned: boolean): void {
  const { part, index } = partOf(slot);
  if (part === 'root' || part === 'canary') entryAt(state.routes, index).pinned[part] = pinned;
}

/** Takes note of an object that a write of this run made or changed. */
function know(state: DeploymentState, effect: WriteEffect, object: ObjectFacts): void {
  const { slot, change } = effect;
  const made = state.objects[slot]?.made ?? null;
  const { uid, resourceVersion } = object;
  const now = change.op === 'create' ? 'created' : change.op === 'apply' && made !== 'created' ? 'changed' : made;
  state.objects[slot] = { uid, resourceVersion, made: now };
  noteTemplate(state, effect, object);
}

/** An object stands where one was to be created: ours after a lost answer, a leftover of ours, or foreign. */
function foundInsteadOfCreating(
  state: DeploymentState,
  doubt: WriteEffect,
  object: ObjectFacts,
  leftover: boolean,
  at: string,
): void {
  const isMade = object.appliedBy === state.id || object.deployment === state.id;
  if (isMade) return onWritten(state, doubt, object, at);
  if (!leftover) {
    const { manager } = object;
    const way =
      manager === undefined ? '' : ` (made by ${manager}): kubectl delete ${kubectlWords(refOf(state, doubt.slot))}`;
    const said = `${objectWords(state, doubt.slot)} cannot be created: an object of that name stands in the way${way}`;
    return refuse(state, said, at);
  }
  state.inTheWay = { slot: doubt.slot, uid: object.uid, resourceVersion: object.resourceVersion };
}

function gone(state: DeploymentState, slot: Slot, at: string): void {
  if (!state.at.startsWith('S1.remove.')) {
    delete state.objects[slot];
    if (partOf(slot).part === 'split') Object.assign(entryAt(state.routes, partOf(slot).index), noWeights);
  }
  advance(state, at);
}

const noWeights: Pick<RouteState, 'weights' | 'confirmed'> = { weights: null, confirmed: null };

function deleted(state: DeploymentState, slot: Slot, at: string): void {
  const instruction = currentInstruction(state);
  if (instruction.kind === 'write' && instruction.change.op === 'delete') gone(state, slot, at);
  else state.inTheWay = null;
}

/** The object that was to be changed is no longer there. */
function missing(state: DeploymentState, slot: Slot, at: string): void {
  const words = objectWords(state, slot);
  const { part } = partOf(slot);
  if (state.track === 'forward' && !isPastReturn(state)) {
    lose(state, slot);
    trip(state, { reason: `${words} was deleted by somebody while the deployment ran`, outcome: 'FAILED' });
    return;
  }
  if (part === 'oldReplicaSet' && state.at.startsWith('R1.')) {
    lose(state, slot);
    return abandon(state, `the previous version is gone (${words}), so there is nothing to go back to`, at);
  }
  if (part === 'newReplicaSet' && state.track === 'forward') {
    lose(state, slot);
    return abandon(state, `the new version is gone (${words})`, at);
  }
  if (part === 'deployment') warn(state, `${words} was deleted by somebody, so that none is kept`);
  if (part === 'root' && state.track === 'forward') return holdBack(state, `${words} was deleted`, at);
  if (part === 'root' || state.at.startsWith('R6.')) return leave(state, slot, 'it was deleted meanwhile', at);
  gone(state, slot, at);
}

/** Takes note that an object is gone, which somebody deleted. */
export function lose(state: DeploymentState, slot: Slot): void {
  const { part, index } = partOf(slot);
  delete state.objects[slot];
  if (part === 'split') Object.assign(entryAt(state.routes, index), noWeights);
  setPinned(state, slot, false);
}

/** Neither way can be ended: the run stops where it is and says what stands, with the lines that put it right. */
export function abandon(state: DeploymentState, reason: string, at: string): void {
  const { outline, objects, routes } = state;
  const kubectl = `kubectl -n ${outline.namespace}`;
  const left = (what: string, line: string) => state.leftInCluster.push(`${what}: ${kubectl} ${line}`);
  for (const [index, route] of outline.routes.entries()) {
    const { pinned, weights } = entryAt(routes, index);
    if (objects[`split.${index}`] && weights) {
      const spec = JSON.stringify({ spec: splitSpec(route, { stable: 0, canary: 100 }, state.survey?.stringWeights) });
      left(
        `TrafficSplit ${route.trafficSplitName} has ${weights.stable}/${weights.canary}; to send all traffic to the new version`,
        `patch trafficsplit ${route.trafficSplitName} --type merge -p '${spec}'`,
      );
    }
    if (pinned.root) {
      const free = JSON.stringify({ spec: { selector: { [hashKey]: null } } });
      left(
        `Service ${route.rootServiceName} is pinned to one version; to have it select as you wrote it`,
        `patch service ${route.rootServiceName} --type merge -p '${free}'`,
      );
    }
    if (objects[`split.${index}`]) {
      left(
        `TrafficSplit ${route.trafficSplitName} stays; once Service ${route.rootServiceName} leads to the pods that are to serve`,
        `delete trafficsplit ${route.trafficSplitName}`,
      );
    }
    if (objects[`canary.${index}`] && !route.canaryServiceGiven) {
      const { canaryServiceName } = route;
      left(`Service ${canaryServiceName} stays; once nothing uses it`, `delete service ${canaryServiceName}`);
    }
  }
  for (const [index, { name }] of outline.workloads.entries()) {
    const old = state.survey?.workloads[index]?.old;
    if (objects[`newReplicaSet.${index}`]) {
      left('the new ReplicaSet stays', `get replicaset ${newReplicaSetName(state, index)}`);
    }
    if (old && objects[`oldReplicaSet.${index}`]) {
      left('the ReplicaSet of the previous version stays', `get replicaset ${old.name}`);
    }
    if (objects[`deployment.${index}`]?.made === 'created') {
      left(`Deployment ${name} was made by this deployment and stays, paused`, `delete deployment ${name}`);
    }
  }
  state.leftInCluster.push(...freedLines(state));
  Object.assign(state, {
    status: 'FAILED',
    error: reason,
    completedAt: at,
    rollBack: state.rollBack ?? { reason, outcome: 'FAILED' },
  });
}

function forget(state: DeploymentState, slot: Slot, at: string): void {
  delete state.objects[slot];
  advance(state, at);
}

function leave(state: DeploymentState, slot: Slot, why: string, at: string): void {
  const left = refOf(state, slot);
  state.leftInCluster.push(
    `${left.kind} ${left.name} was not restored: ${why}; look at it: kubectl get ${kubectlWords(left)} -o yaml`,
  );
  forget(state, slot, at);
}

/** An object as kubectl is told of it. */
export function kubectlWords({ kind, name, namespace }: Pick<ObjectRef, 'kind' | 'name' | 'namespace'>): string {
  return `${kind.toLowerCase()} ${name}${namespace === undefined ? '' : ` -n ${namespace}`}`;
}

/** Not in force, and still ours to change: the next intent carries the resourceVersion that was found. */
function refresh(state: DeploymentState, slot: Slot, object: ObjectFacts, at: string): void {
  const { uid, resourceVersion } = object;
  if (state.inTheWay !== null) {
    state.inTheWay.resourceVersion = resourceVersion;
    return;
  }
  if (state.at.startsWith('S1.remove.')) {
    const { survey } = state;
    const refreshed = survey?.leftovers.map((entry) => (entry.slot === slot ? { ...entry, resourceVersion } : entry));
    if (survey && refreshed) state.survey = { ...survey, leftovers: refreshed };
    return;
  }
  state.objects[slot] = { uid, resourceVersion, made: state.objects[slot]?.made ?? null };
  const { part, index } = partOf(slot);
  if (part === 'split' && object.weights) entryAt(state.routes, index).weights = object.weights;
  state.looked = true;
  // Others took the pin out and left our marks: they are ours to take away.
  if (object.deployment === state.id) setPinned(state, slot, true);
  if (state.conflicts > 3) holdBack(state, `${objectWords(state, slot)} keeps changing`, at);
}

/** ReplicaSets, and what this run created: another object of that name is somebody else's. */
function isOurs(state: DeploymentState, slot: Slot): boolean {
  return ['oldReplicaSet', 'freed'].includes(partOf(slot).part) || state.objects[slot]?.made === 'created';
}

/** Objects that only one deployment at a time may drive. */
function isShared(slot: Slot): boolean {
  return ['root', 'canary', 'split'].includes(partOf(slot).part);
}

/** Whether the object as the cluster has it already is what the change asks for. */
function isInForce(
  state: DeploymentState,
  { slot, change }: Pick<WriteEffect, 'slot' | 'change'>,
  object: ObjectFacts,
): boolean {
  const mark = markOf(state, slot);
  const isMarked = mark === null || object.deployment === mark;
  switch (change.op) {
    case 'create':
      return (object.appliedBy === state.id || object.deployment === state.id) && isInert(state, slot, object);
    case 'apply':
      return object.appliedBy === state.id;
    case 'weights':
      return isMarked && sameWeights(change.weights, object.weights);
    case 'pin':
      return isMarked && object.pin === change.hash;
    case 'unpin':
      return object.pin === null && object.deployment !== state.id && object.fenced !== true;
    case 'scale':
      return isMarked && object.replicas === change.replicas;
    case 'label':
      return Object.entries(change.labels).every(([key, value]) => {
        const found = key === deploymentKey ? object.deployment : (object.labels?.[key] ?? null);
        return found === value;
      });
    case 'resume':
      return object.deployment !== state.id;
    case 'restore':
      return object.appliedBy !== state.id;
    case 'delete':
      return false;
    default:
      return assertNever(change);
  }
}

/** Whether what was created is as it was asked for: without effect until it is changed (design.md, law 5). */
function isInert(state: DeploymentState, slot: Slot, object: ObjectFacts): boolean {
  const { part, index } = partOf(slot);
  if (part === 'newReplicaSet') return object.replicas === 0;
  if (part === 'deployment') return object.paused === true;
  if (part === 'split') return sameWeights({ stable: 100, canary: 0 }, object.weights);
  if (part !== 'canary' || entryAt(state.outline.routes, index).canaryServiceGiven) return true;
  return object.pin === pairsOf(state).find((pair) => pair.index === index)?.hash;
}

function words(change: Change): string {
  return change.op === 'weights' ? `weights ${change.weights.stable}/${change.weights.canary}` : change.op;
}
