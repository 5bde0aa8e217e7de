import { isMoot } from './adoption-programme.ts';
import { assertNever } from './assert-never.ts';
import { changedKey } from './changed.ts';
import { guardConditions, isGuard, type Sight, unseenGuard } from './conditions.ts';
import { forgetStrangers, heldByDeployment, strangersSeconds, strangersToLookFor } from './deployment-object.ts';
import {
  type Condition,
  type DeploymentEvent,
  type DeploymentState,
  type Effect,
  isFinal,
  partOf,
  type Slot,
  type WriteEffect,
} from './deployment-state.ts';
import { entryAt } from './entry-at.ts';
import { raiseHeldBy, shortDeadlines, waitsForPeople } from './guards.ts';
import { isHeldInForce } from './held.ts';
import { type Instruction, indexOf, type Wait, type Write } from './instructions.ts';
import { isMending, mend, onMended, resume } from './mend.ts';
import { addSeconds, advance, currentInstruction, disturb, holdBack, trip, tryAgain, warn } from './moves.ts';
import { abandon, onFound, onLost, onRefused, onSurveyed, onWritten } from './outcomes.ts';
import { secondsPerUnit } from './plan.ts';
import { isPastReturn, programmeOf } from './programme.ts';
import { isLookFresh } from './second-look.ts';
import { sameWeights } from './traffic/smi.ts';
import { beginRollBack, finish } from './turning-points.ts';

/**
 * The machine of one deployment. Pure: time is the event's, ids are in the state, and nothing is done here, only asked for.
 *
 * One call to the cluster is in flight at most (`state.effect`). Its outcome is the next event that counts; everything
 * else that happens meanwhile is recorded and acted on once the outcome is known. A write whose outcome is unknown is
 * never sent again before the cluster was read (`state.doubt`).
 *
 * Of several events that are folded together all are recorded before anything is decided: what one of them allows alone,
 * such as the point of no return, another may forbid, and what is decided in between would be neither stored nor sent.
 */
export function decideDeployment(
  before: DeploymentState,
  ...events: DeploymentEvent[]
): { state: DeploymentState; effects: Effect[] } {
  const last = events.at(-1);
  if (isFinal(before.status) || last === undefined) return { state: before, effects: [] };
  const state = copyOf(before);
  for (const event of events) record(state, event);
  const effect = proceed(state, last.at);
  return { state, effects: effect === null ? [] : [effect] };
}

/** A state to be changed. Its ground is shared with the one before. */
function copyOf(state: DeploymentState): DeploymentState {
  const { outline, hashes, survey, ...rest } = state;
  return { ...state, ...copyJson(rest) };
}

/** A tenth of what structuredClone takes, which has to be ready for more than JSON. */
function copyJson<Value>(value: Value): Value {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(copyJson) as Value;
  const copy: Record<string, unknown> = {};
  for (const key in value) copy[key] = copyJson(value[key]);
  return copy as Value;
}

/** Whether an approval of the step `ref` would count now. */
export function canApprove(state: DeploymentState): boolean {
  return state.status === 'AWAITING_APPROVAL' && state.rollBack === null;
}

/** Whether a person may still ask for the old version back (design.md, law 4). */
export function canRollBack(state: DeploymentState): boolean {
  return !isFinal(state.status) && !isPastReturn(state);
}

/**
 * How long an effect may be in flight before somebody must look: the clusters’ time-out, of each of the three requests that a
 * write may be (of what it is made from or how its kind is served, of itself, and of its managers). A check and a survey are
 * many, which have so long together.
 */
const effectSeconds: Record<Effect['kind'], number> = { read: 10, write: 30, check: 20, survey: 60 };
/** How often a wait is checked by asking the cluster, beside being told by its watch. */
const checkSeconds = 30;

function record(state: DeploymentState, event: DeploymentEvent): void {
  switch (event.type) {
    case 'started':
      if (state.startedAt !== null) return;
      state.startedAt = event.at;
      state.since = event.at;
      state.status = 'RUNNING';
      return;
    case 'observed':
      observe(state, event.condition, event);
      if (event.condition === unseenGuard && !event.holds) tryAgain(state, event.at);
      return noteChange(state, event.condition, event.holds);
    case 'clusterAnswers':
      return tryAgain(state, event.at);
    case 'approved':
      return approve(state, event.ref, event.by, event.at);
    case 'rollBackRequested':
      return trip(state, { reason: `rolled back by ${event.by}`, outcome: 'CANCELLED', by: event.by });
    case 'cancelRequested':
      return trip(state, { reason: `cancelled by ${event.by}`, outcome: 'CANCELLED', by: event.by });
    case 'resumed':
      return resume(state);
    case 'dependencyFailed':
      // Told to those only that wait for their dependencies.
      if (state.startedAt !== null) return;
      return trip(state, { reason: dependencyWords(event), outcome: 'CANCELLED' });
    case 'claimRefused':
      // Claims are taken in the transition that starts a run; afterwards this can only be a late copy.
      if (state.startedAt !== null) return;
      return trip(state, { reason: event.message, outcome: 'FAILED' });
    case 'due':
      return;
    case 'surveyed':
    case 'written':
    case 'refused':
    case 'lost':
    case 'unreachable':
    case 'found':
    case 'checked':
      return recordOutcome(state, event);
    default:
      return assertNever(event);
  }
}

/** Why a target never begins, for its own people and for those who follow the pipeline. */
export function dependencyWords({ target, status }: { target: string; status: 'FAILED' | 'CANCELLED' }): string {
  return `it depends on target '${target}', which ended ${status}`;
}

/** `at` stays the moment at which the condition turned, however often it is told. */
function observe(state: DeploymentState, key: string, { at, ...sight }: { at: string } & Sight): void {
  const { holds, detail, object, seen } = sight;
  const known = state.observed[key];
  if (known?.holds !== holds) forgetStrangers(state, key);
  const since = known?.holds === holds ? known.at : at;
  const marks = { ...(object === undefined ? {} : { object }), ...(seen === undefined ? {} : { seen }) };
  state.observed[key] = { holds, detail, at: since, ...marks };
}

function noteChange(state: DeploymentState, key: string, holds: boolean): void {
  if (!holds || !isGuard(key, 'changed')) return;
  disturb(state, key.slice(changedKey('' as Slot).length) as Slot);
}

/** Outcomes of an effect that is no longer in flight are late copies and change nothing. */
function recordOutcome(state: DeploymentState, event: Exclude<Outcome, { type: 'claimRefused' }>): void {
  const effect = state.effect;
  if (effect === null || effect.key !== event.key) return;
  state.effect = null;
  if (isMending(effect)) return onMended(state, effect, event);
  switch (event.type) {
    case 'surveyed':
      return onSurveyed(state, event.survey, event.at);
    case 'written':
      return effect.kind === 'write' ? onWritten(state, effect, event.object, event.at) : undefined;
    case 'found':
      return onFound(state, event.object, event.leftover, event.at);
    case 'refused':
      return onRefused(state, effect, event);
    case 'checked':
      return effect.kind === 'check' ? onChecked(state, effect.condition.key, event) : undefined;
    case 'lost':
      return onLost(state, effect, event.message, event.at);
    case 'unreachable':
      return holdBack(state, event.message, event.at);
    default:
      return assertNever(event);
  }
}

type Outcome = Extract<DeploymentEvent, { key: string }>;

function onChecked(state: DeploymentState, condition: string, event: { at: string } & Sight): void {
  state.retry = null;
  state.heldSince = null;
  observe(state, condition, event);
  const instruction = currentInstruction(state);
  if (condition.startsWith('guard.')) {
    const deadline = shortDeadlines(state).find(({ guard }) => guard.key === condition);
    if (deadline && event.at >= deadline.at) {
      trip(state, { reason: `the new version lost its pods: ${event.detail}`, outcome: 'FAILED' });
    }
    state.checkAt = addSeconds(event.at, checkSeconds);
    return;
  }
  if (condition.startsWith('strangers.')) {
    state.checkAt = addSeconds(event.at, strangersSeconds);
    return;
  }
  if (event.holds || instruction.kind !== 'wait') return;
  const limit = instruction.limitSeconds;
  if (limit === null || event.at < addSeconds(state.since, limit)) {
    state.checkAt = addSeconds(event.at, checkSeconds);
    state.doubt = followed(state, instruction);
    return;
  }
  switch (instruction.onLimit) {
    case 'rollBack':
      return trip(state, { reason: limitReason(instruction, limit, event.detail), outcome: 'FAILED' });
    case 'divert':
      entryAt(state.routes, indexOf(instruction.id)).diverted = true;
      warn(state, `the mesh did not take 100/0 within ${limit} s: both backends are led to the old pods`);
      return advance(state, event.at);
    case 'goOn':
      warn(state, `${instruction.id}: gave up waiting after ${limit} s: ${event.detail}`);
      if (instruction.id.startsWith('R2.mesh.')) keepCanaryService(state, indexOf(instruction.id));
      return advance(state, event.at);
    default:
      return assertNever(instruction.onLimit);
  }
}

/**
 * The mesh never gave up the weights of a split that is gone, and the canary Service leads to the old pods: whoever
 * deleted it would take the endpoints from traffic that still goes there.
 */
function keepCanaryService(state: DeploymentState, index: number): void {
  const undo = state.undo?.routes[index];
  if (!state.routes[index]?.diverted || undo?.canary !== 'created') return;
  const { canaryServiceName, rootServiceName } = entryAt(state.outline.routes, index);
  undo.canary = null;
  state.leftInCluster.push(
    `Service ${canaryServiceName} stays, because the mesh still sends traffic of ${rootServiceName} to it; once the mesh dropped the split: kubectl delete service ${canaryServiceName} -n ${state.outline.namespace}`,
  );
}

/** A write that a wait follows from, to be read again, each in its turn; null where its object is gone already. */
function followed(state: DeploymentState, wait: Wait): WriteEffect | null {
  const writes = programmeOf(state).filter(({ id }) => wait.follows?.includes(id));
  const instruction = writes[state.turn];
  state.turn = (state.turn + 1) % Math.max(writes.length, 1);
  if (instruction?.kind !== 'write') return null;
  const { slot, change } = instruction;
  const known = state.objects[slot];
  if (!known) return null;
  const { uid, resourceVersion } = known;
  return { kind: 'write', key: `${state.at}#${state.calls}`, slot, change, uid, resourceVersion };
}

function limitReason(instruction: Instruction, limitSeconds: number, detail: string): string {
  if (instruction.id.startsWith('S1.orphaned.')) return `not gone within ${limitSeconds} s: ${detail}`;
  if (instruction.id.startsWith('S6.mesh.'))
    return `no mesh took the TrafficSplit within ${limitSeconds} s (${detail}); nothing was shifted`;
  return `not ready within ${limitSeconds} s: ${detail}`;
}

function approve(state: DeploymentState, ref: string, by: string, at: string): void {
  const instruction = currentInstruction(state);
  if (instruction.kind !== 'pause' || instruction.step === undefined) return;
  if (!canApprove(state) || ref !== `canary-step-${instruction.step + 1}`) return;
  const step = state.steps[instruction.step];
  if (step) step.approvedBy = by;
  advance(state, at);
}

/** Carries on until an effect must be sent or something must be waited for; sets `wakeAt` and the status. */
function proceed(state: DeploymentState, at: string): Effect | null {
  for (;;) {
    if (isFinal(state.status)) return settle(state, at, null);
    if (state.startedAt === null && state.rollBack === null) return settle(state, at, null);
    if (state.effect !== null) return settle(state, at, addSeconds(at, effectSeconds[state.effect.kind]), null);
    tripOnGuards(state);
    if (mayTurnBack(state)) beginRollBack(state, at);
    if (state.retry !== null && at < state.retry.until) return settle(state, at, state.retry.until);
    const mending = state.doubt === null ? mend(state, (of) => nextKey(state, of)) : null;
    const asked = mending === null ? carryOut(state, at) : { effect: mending };
    if (asked === 'again') continue;
    if (asked.effect === null) return settle(state, at, asked.until);
    state.effect = asked.effect;
    return settle(state, at, addSeconds(at, effectSeconds[asked.effect.kind]), asked.effect);
  }
}

type Asked = 'again' | { effect: Effect } | { effect: null; until: string | null };

function carryOut(state: DeploymentState, at: string): Asked {
  if (state.doubt !== null) return { effect: { kind: 'read', key: nextKey(state), slot: state.doubt.slot } };
  const [short] = shortDeadlines(state);
  if (short && at >= short.at) return { effect: { kind: 'check', key: nextKey(state), condition: short.guard } };
  const instruction = currentInstruction(state);
  openStep(state, instruction, at);
  const beside = heldByDeployment(state, instruction);
  if (beside !== null) return ask(state, beside, state.checkAt ?? addSeconds(state.since, checkSeconds), at);
  const strangers = strangersToLookFor(state, instruction);
  if (strangers !== null) return ask(state, strangers, state.observed[strangers.key] ? (state.checkAt ?? at) : at, at);
  if (isMoot(state, instruction)) {
    advance(state, at);
    return 'again';
  }
  switch (instruction.kind) {
    case 'survey':
      if (instruction.id === 'S1.survey' && isLookFresh(state, at)) {
        advance(state, at);
        return 'again';
      }
      return { effect: { kind: 'survey', key: nextKey(state) } };
    case 'write':
      return carryOutWrite(state, instruction, at);
    case 'wait': {
      // Without a root Service no traffic goes anywhere, and nobody can be made ready to take it.
      const root = state.objects[`root.${indexOf(instruction.id)}`];
      const moot = instruction.condition.kind === 'enough' && root === undefined;
      if (moot || state.observed[instruction.id]?.holds) {
        confirmWeights(state, instruction);
        takeSighted(state, instruction);
        advance(state, at);
        return 'again';
      }
      if (instruction.optional) return until(state, addSeconds(state.since, instruction.limitSeconds ?? 0), at);
      const seconds = Math.min(instruction.limitSeconds ?? checkSeconds, checkSeconds);
      return ask(state, instruction.condition, state.checkAt ?? addSeconds(state.since, seconds), at);
    }
    case 'drain':
      return until(state, addSeconds(state.since, state.outline.drainSeconds), at);
    case 'pause':
      return carryOutPause(state, instruction, at);
    case 'end':
      finish(state, at);
      return 'again';
    default:
      return assertNever(instruction);
  }
}

/** Waits for a condition, and asks the cluster about it when that is due. */
function ask(state: DeploymentState, condition: Condition, due: string, at: string): Asked {
  if (at < due) return { effect: null, until: due };
  return { effect: { kind: 'check', key: nextKey(state), condition } };
}

function until(state: DeploymentState, moment: string, at: string): Asked {
  if (at < moment) return { effect: null, until: moment };
  advance(state, at);
  return 'again';
}

function carryOutPause(state: DeploymentState, instruction: Instruction, at: string): Asked {
  const step = state.outline.steps[instruction.step ?? -1];
  if (step?.kind !== 'pause') throw new Error(`deployment ${state.id}: ${instruction.id} is not a pause`);
  if (!('untilApproved' in step)) {
    const seconds = secondsPerUnit[step.unit] * step.duration;
    return until(state, addSeconds(state.since, seconds), at);
  }
  if (step.approvalExpirationSeconds === null) return { effect: null, until: null };
  const expiry = addSeconds(state.since, step.approvalExpirationSeconds);
  if (at < expiry) return { effect: null, until: expiry };
  trip(state, { reason: 'nobody approved in time', outcome: 'CANCELLED' });
  return 'again';
}

function carryOutWrite(state: DeploymentState, instruction: Write, at: string): Asked {
  const { slot, change } = instruction;
  if (state.inTheWay !== null) {
    return { effect: { kind: 'write', key: nextKey(state), change: { op: 'delete' }, ...state.inTheWay } };
  }
  const leftover = instruction.id.startsWith('S1.remove.')
    ? state.survey?.leftovers.find((object) => object.slot === slot)
    : undefined;
  const known = leftover ?? state.objects[slot];
  if (!known && change.op !== 'create') {
    if (instruction.id.startsWith('R1.old.')) {
      abandon(state, 'the previous version is gone, so there is nothing to go back to', at);
      return 'again';
    }
    // Somebody removed it, and this run has taken note: there is nothing left to change.
    advance(state, at);
    return 'again';
  }
  const forPeople = waitsForPeople(state, instruction);
  const held = forPeople ? null : raiseHeldBy(state, instruction);
  if ((forPeople || held !== null) && state.looked) {
    // Others changed it while this write was on its way: now that it waits, what they did is put back.
    state.looked = false;
    disturb(state, slot);
    return 'again';
  }
  if (forPeople) return { effect: null, until: null };
  if (held !== null) return ask(state, held, state.checkAt ?? addSeconds(state.since, checkSeconds), at);
  // F1 after a step to 100 % only drains.
  const repeats = instruction.lookFirst || (change.op === 'weights' && instruction.step === undefined);
  if (repeats && !state.looked && state.track === 'forward' && isHeldInForce(state, slot, change)) {
    advance(state, at);
    return 'again';
  }
  const write: WriteEffect = {
    kind: 'write',
    key: nextKey(state),
    slot,
    change,
    ...(known && change.op !== 'create' ? { uid: known.uid, resourceVersion: known.resourceVersion } : {}),
  };
  if (instruction.lookFirst && !state.looked) {
    state.doubt = write;
    return 'again';
  }
  const stored = state.routes[partOf(slot).index]?.weights;
  if (change.op === 'weights' && state.track === 'forward' && sameWeights(change.weights, stored)) {
    // The weights are in force already: confirmed by reading, not written again. A roll back writes nevertheless, so that
    // a copy of an earlier write that is still on its way is refused.
    state.doubt = write;
    return 'again';
  }
  return { effect: write };
}

/** A write that is in doubt, or may still arrive, is settled first: it must not land on what was put back. */
function mayTurnBack(state: DeploymentState): boolean {
  return state.rollBack !== null && state.track === 'forward' && state.doubt === null && state.unsettled === null;
}

function tripOnGuards(state: DeploymentState): void {
  if (state.rollBack !== null || state.track === 'rollBack') return;
  for (const { key } of guardConditions(state)) {
    const seen = isGuard(key, 'starved') ? state.observed[key] : undefined;
    if (!seen?.holds) continue;
    trip(state, { reason: `the new version has traffic but no ready pod: ${seen.detail}`, outcome: 'FAILED' });
  }
}

function openStep(state: DeploymentState, instruction: Instruction, at: string): void {
  const step = instruction.step === undefined ? undefined : state.steps[instruction.step];
  if (!step) return;
  step.startedAt ??= at;
  step.status = instruction.kind === 'pause' ? pauseStatus(state, instruction) : 'RUNNING';
}

function pauseStatus(state: DeploymentState, instruction: Instruction): 'PAUSED' | 'AWAITING_APPROVAL' {
  const step = state.outline.steps[instruction.step ?? -1];
  return step?.kind === 'pause' && 'untilApproved' in step ? 'AWAITING_APPROVAL' : 'PAUSED';
}

/** Sets what follows from the rest of the state: the status and when somebody must look again. */
function settle(
  state: DeploymentState,
  at: string,
  wakeAt: string | null,
  effect: Effect | null = null,
): Effect | null {
  if (isFinal(state.status)) {
    state.wakeAt = null;
    return null;
  }
  const [short] = shortDeadlines(state);
  const sooner = short && short.at > at && (wakeAt === null || short.at < wakeAt);
  state.wakeAt = sooner && state.effect === null ? short.at : wakeAt;
  if (state.startedAt === null) return effect;
  if (state.track === 'rollBack' || state.rollBack !== null) state.status = 'ROLLING_BACK';
  else if (isPastReturn(state)) state.status = 'FINISHING';
  else {
    const instruction = currentInstruction(state);
    state.status = instruction.kind === 'pause' ? pauseStatus(state, instruction) : 'RUNNING';
  }
  return effect;
}

function confirmWeights(state: DeploymentState, instruction: Instruction): void {
  if (instruction.kind === 'wait' && instruction.condition.kind === 'mesh')
    entryAt(state.routes, indexOf(instruction.id)).confirmed = instruction.condition.weights;
}

/** The version in which the condition was seen, if that is of the object that the run knows. */
function takeSighted(state: DeploymentState, { id, shows }: Wait): void {
  const known = shows && state.objects[shows];
  const sighted = state.observed[id]?.object;
  if (known && sighted?.uid === known.uid) state.objects[shows] = { ...known, ...sighted };
}

function nextKey(state: DeploymentState, of = state.at): string {
  state.calls += 1;
  return `${of}#${state.calls}`;
}
