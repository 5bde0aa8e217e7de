import type { DeploymentState, RollBack, Slot } from './deployment-state.ts';
import type { Instruction } from './instructions.ts';
import { isPastReturn, noReturnOf, programmeOf } from './programme.ts';

/** Asks for a roll back, once; it begins when no write is in flight or in doubt. */
export function trip(state: DeploymentState, rollBack: RollBack): void {
  if (state.rollBack !== null || isPastReturn(state)) return;
  state.rollBack = rollBack;
}

/** No wait between two tries is longer. */
const longestTrySeconds = 30;

/**
 * The next try after a call that did not succeed: 1 s, doubling, 30 s at most. A Retry-After counts up to that, whatever
 * is being written: what asks for minutes would keep a roll back, asked for meanwhile or under way, from the traffic that
 * it is to turn, and one request in half a minute is no load to any server.
 */
export function holdBack(state: DeploymentState, message: string, at: string, atLeastSeconds = 0): void {
  const count = (state.retry?.count ?? 0) + 1;
  const seconds = Math.min(Math.max(2 ** (count - 1), atLeastSeconds), longestTrySeconds);
  state.retry = { count, until: addSeconds(at, seconds), message };
  state.heldSince ??= at;
}

/** Runs that waited for one cluster try again within so long of its return, each at a moment of its own. */
const spreadMs = 1_000;

/**
 * The cluster answers again: what waits for its next try need not wait out a delay that grew while it was away. That it
 * answers somebody does not mean that this run's call succeeds: until one does, its tries count on, and grow no denser.
 */
export function tryAgain(state: DeploymentState, at: string): void {
  if (state.retry === null) return;
  const share = [...state.id].reduce((sum, char) => (sum * 31 + char.charCodeAt(0)) % spreadMs, 0);
  const soon = addSeconds(at, share / 1000);
  if (soon < state.retry.until) state.retry = { ...state.retry, until: soon };
}

/** A held object may have been changed by others; it is looked at before anything else is done. */
export function disturb(state: DeploymentState, slot: Slot): void {
  if (state.mending?.slot === slot || state.disturbed.includes(slot)) return;
  state.disturbed.push(slot);
}

/** Something that people should know; told once, however often it happens. */
export function warn(state: DeploymentState, text: string): void {
  if (!state.warnings.includes(text)) state.warnings.push(text);
}

export function currentInstruction(state: DeploymentState): Instruction {
  const instruction = programmeOf(state).find(({ id }) => id === state.at);
  if (!instruction) throw new Error(`deployment ${state.id} is at the unknown instruction ${state.at}`);
  return instruction;
}

/** Moves to the next instruction and closes or opens strategy steps on the way. */
export function advance(state: DeploymentState, at: string): void {
  const list = programmeOf(state);
  const index = list.findIndex(({ id }) => id === state.at);
  const done = list[index];
  const next = list[index + 1];
  if (!done || !next) throw new Error(`deployment ${state.id} has nothing after ${state.at}`);
  if (done.step !== undefined && next.step !== done.step) {
    const step = state.steps[done.step];
    if (step) Object.assign(step, { status: 'SUCCEEDED', completedAt: at });
  }
  if (state.track === 'forward' && done.id === noReturnOf(state)) state.noReturn = true;
  begin(state, next.id, at);
}

/** Begins an instruction with nothing remembered of the one before. */
export function begin(state: DeploymentState, id: string, at: string): void {
  delete state.observed[id];
  Object.assign(state, {
    at: id,
    since: at,
    retry: null,
    heldSince: null,
    looked: false,
    turn: 0,
    checkAt: null,
    conflicts: 0,
    unsettled: null,
  });
}

/** `at` plus a number of seconds, ISO 8601 with milliseconds. */
export function addSeconds(at: string, seconds: number): string {
  return new Date(Date.parse(at) + seconds * 1000).toISOString();
}
