import { changedKey, changedWords } from './changed.ts';
import {
  type DeploymentEvent,
  type DeploymentState,
  type Effect,
  type ObjectFacts,
  partOf,
  type Slot,
} from './deployment-state.ts';
import { entryAt } from './entry-at.ts';
import { writerWords } from './field-managers.ts';
import { raiseHeldBy } from './guards.ts';
import { type HeldChange, heldObjects, isAsHeld, isFrozen, markOf } from './held.ts';
import { addSeconds, disturb, holdBack, trip, warn } from './moves.ts';
import { abandon, lose } from './outcomes.ts';
import { isPastReturn } from './programme.ts';
import { objectWords } from './render.ts';

/**
 * Puts back what others change of the objects that a run holds (held.ts), between two of its own instructions:
 *
 *   news of a change -> read the object -> it is as held: done
 *                                       -> it is not: write it, with the resourceVersion just read -> done
 *                                       -> the third time in a minute: frozen; people decide
 *                                       -> it is gone: turn back, or what comes nearest to that
 *
 * No weight moves in between. A crash leaves the object as it is; it is looked at again.
 */

/** Whether an effect belongs to this and not to the instruction that the run is at. */
export function isMending(effect: Effect | null): boolean {
  return effect?.key.startsWith('mend.') === true;
}

/** Whether a person can let frozen weights move again. */
export function canResume(state: DeploymentState): boolean {
  return state.frozen.length > 0 && state.completedAt === null && state.track === 'forward';
}

/** How often an object is put back in a minute before people are asked. */
const mostFights = 3;
const fightSeconds = 60;
/** Reads and writes of one object in a row before they slow down. */
const quickTries = 3;

export function resume(state: DeploymentState): void {
  if (!canResume(state)) return;
  const { frozen } = state;
  Object.assign(state, { frozen: [], fights: [] });
  for (const { slot } of frozen) {
    delete state.observed[changedKey(slot)];
    disturb(state, slot);
  }
}

/** The next call that puts something back; null where nothing is to be, or may be now. */
export function mend(state: DeploymentState, nextKey: (of: string) => string): Effect | null {
  if (state.mending === null && state.disturbed.length === 0) return null;
  const held = heldObjects(state);
  const find = (slot: Slot | undefined) => held.find((object) => object.slot === slot);
  if (state.mending !== null && !find(state.mending.slot)) state.mending = null;
  state.disturbed = state.disturbed.filter((slot) => find(slot) && !isFrozen(state, slot));
  if (state.mending?.write) {
    const { slot } = state.mending;
    const known = state.objects[slot];
    const want = find(slot)?.want;
    // Weights last: they are given only to pods that are there, behind Services that are pinned.
    const isFirst = partOf(slot).part !== 'split' || state.disturbed.every((one) => partOf(one).part === 'split');
    if (known && want && isFirst && raiseHeldBy(state, { id: '', slot, change: want }) === null) {
      const { uid, resourceVersion } = known;
      return { kind: 'write', key: nextKey(`mend.${slot}`), slot, change: want, uid, resourceVersion };
    }
    if (state.disturbed.length === 0) return null;
    // Something else may be what keeps it.
    state.disturbed.push(slot);
    state.mending = null;
  }
  if (state.mending === null) {
    const slot = state.disturbed.find((one) => partOf(one).part !== 'split') ?? state.disturbed[0];
    if (slot === undefined) return null;
    state.disturbed = state.disturbed.filter((one) => one !== slot);
    state.mending = { slot, write: false, tries: 0 };
  }
  const { slot } = state.mending;
  return { kind: 'read', key: nextKey(`mend.${slot}`), slot };
}

type Outcome = Extract<DeploymentEvent, { key: string }>;

/** What came of a call of `mend`. */
export function onMended(state: DeploymentState, effect: Effect, event: Outcome): void {
  const { mending } = state;
  if (mending === null || effect.kind === 'survey' || effect.kind === 'check' || effect.slot !== mending.slot) return;
  const { slot } = mending;
  switch (event.type) {
    case 'found':
      if (event.object !== null) well(state);
      return onLooked(state, slot, event.object, event.at);
    case 'written':
      well(state);
      return onPutBack(state, slot, event.object, event.at);
    case 'lost':
      return again(state, event.message, event.at);
    case 'unreachable':
      mending.write = false;
      return holdBack(state, event.message, event.at);
    case 'refused': {
      const said = `${event.message} (HTTP ${event.status})`;
      if (event.status === 409 || event.status === 404) return again(state, said, event.at);
      mending.write = false;
      const passes = [401, 403, 429].includes(event.status) || event.status >= 500 || effect.kind === 'read';
      if (passes) return holdBack(state, said, event.at, event.retryAfterSeconds);
      const words = objectWords(state, slot);
      return freeze(state, slot, `${words} was changed by others, and putting it back is refused: ${said}`, event.at);
    }
    default:
      return;
  }
}

function well(state: DeploymentState): void {
  state.retry = null;
  state.heldSince = null;
}

/** The object moved on, or may have: it is read once more. */
function again(state: DeploymentState, message: string, at: string): void {
  if (state.mending === null) return;
  state.mending.write = false;
  state.mending.tries += 1;
  if (state.mending.tries > quickTries) holdBack(state, message, at);
}

function onLooked(state: DeploymentState, slot: Slot, object: ObjectFacts | null, at: string): void {
  const want = heldObjects(state).find((held) => held.slot === slot)?.want;
  const known = state.objects[slot];
  if (!want || !known || state.mending === null) {
    state.mending = null;
    return;
  }
  if (object === null) return onGone(state, slot, at);
  const words = objectWords(state, slot);
  if (object.deployment !== null && object.deployment !== state.id && markOf(state, slot) !== null) {
    return freeze(state, slot, `${words} belongs to deployment ${object.deployment} now`, at);
  }
  if (object.uid !== known.uid && !takeAnew(state, slot, object, at)) return;
  const { uid, resourceVersion } = object;
  state.objects[slot] = { uid, resourceVersion, made: known.made };
  if (object.weights !== undefined) entryAt(state.routes, partOf(slot).index).weights = object.weights;
  if (isAsHeld(want, markOf(state, slot), object)) {
    state.mending = null;
    return;
  }
  const what = `${changedWords(words, want, object)}, changed by ${writerWords(object.writer)}`;
  // One change counts once, however often it has to be looked at and written.
  const isKnown = state.fights.some((fight) => fight.slot === slot && fight.seen === object.resourceVersion);
  if (state.mending.tries === 0 && !isKnown) {
    state.fights = state.fights.filter((fight) => addSeconds(fight.at, fightSeconds) > at);
    if (state.fights.filter((fight) => fight.slot === slot).length >= mostFights) {
      return freeze(state, slot, `${what}; it was put back ${mostFights} times within a minute`, at);
    }
    state.fights.push({ slot, at, seen: object.resourceVersion });
    warn(
      state,
      `${words} was changed by ${object.writer?.manager ?? 'somebody'} while the deployment ran; it was put back`,
    );
  }
  state.mending.write = true;
}

function onPutBack(state: DeploymentState, slot: Slot, object: ObjectFacts | null, at: string): void {
  const want = heldObjects(state).find((held) => held.slot === slot)?.want;
  if (object === null || !want || !isAsHeld(want, markOf(state, slot), object)) {
    const words = objectWords(state, slot);
    return freeze(state, slot, `${words} was changed by others, and the cluster stored something else than it had`, at);
  }
  const { uid, resourceVersion } = object;
  state.objects[slot] = { uid, resourceVersion, made: state.objects[slot]?.made ?? null };
  noteWeights(state, slot, want);
  state.mending = null;
  // From here on a sight of it is news again.
  delete state.observed[changedKey(slot)];
}

function noteWeights(state: DeploymentState, slot: Slot, want: HeldChange): void {
  if (want.op === 'weights') entryAt(state.routes, partOf(slot).index).weights = want.weights;
}

/**
 * Weights stay as they are from here on, and what others do to the object is left to people. Past the point of no return
 * the new version is all there is: its pods are asked for again and again, once a second.
 */
function freeze(state: DeploymentState, slot: Slot, detail: string, at: string): void {
  if (isPastReturn(state) && partOf(slot).part === 'newReplicaSet' && state.mending !== null) {
    state.mending.write = false;
    return holdBack(state, detail, at);
  }
  state.mending = null;
  state.frozen.push({ slot, at, detail });
}

/** Where there is nothing left to put back. */
function onGone(state: DeploymentState, slot: Slot, at: string): void {
  const { part } = partOf(slot);
  const words = objectWords(state, slot);
  if (state.track === 'rollBack') {
    state.mending = null;
    // A root Service is told of by the instruction that would have freed it.
    if (part === 'root') return;
    const shifted = state.undo?.routes.some((route) => route.shifted) === true;
    lose(state, slot);
    if (part !== 'oldReplicaSet' || !shifted) return;
    return abandon(state, `the previous version is gone (${words}), so there is nothing to go back to`, at);
  }
  if (part === 'root' && isPastReturn(state)) {
    // It may come back; nothing can be finished without it. Should the new version be missed as well, that decides.
    if (state.disturbed.length > 0) {
      state.disturbed.push(slot);
      state.mending = null;
    }
    return holdBack(state, `${words} was deleted`, at);
  }
  state.mending = null;
  const past = isPastReturn(state);
  lose(state, slot);
  if (part === 'newReplicaSet' && past) return abandon(state, `the new version is gone (${words})`, at);
  if (isPastReturn(state)) return;
  if (part === 'oldReplicaSet') return freeze(state, slot, `${words} was deleted: there is nothing to go back to`, at);
  trip(state, { reason: `${words} was deleted by somebody while the deployment ran`, outcome: 'FAILED' });
}

/**
 * Whether an object that was deleted and made again is to be held as the one before was: Services that the run was told to
 * manage are, once people know of it; what the run made itself is somebody else's now.
 */
function takeAnew(state: DeploymentState, slot: Slot, object: ObjectFacts, at: string): boolean {
  const { part } = partOf(slot);
  const isOurs = part === 'oldReplicaSet' || state.objects[slot]?.made === 'created';
  const detail = `${objectWords(state, slot)} was deleted and made again by ${writerWords(object.writer)}`;
  const past = state.track === 'rollBack' || isPastReturn(state);
  if (!isOurs) {
    if (past) return true;
    const { uid, resourceVersion } = object;
    state.objects[slot] = { uid, resourceVersion, made: state.objects[slot]?.made ?? null };
    freeze(state, slot, detail, at);
    return false;
  }
  if (!past) {
    freeze(state, slot, detail, at);
    return false;
  }
  onGone(state, slot, at);
  return false;
}
