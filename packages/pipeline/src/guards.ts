import { guardConditions, isGuard } from './conditions.ts';
import { type Condition, type DeploymentState, partOf } from './deployment-state.ts';
import type { Write } from './instructions.ts';
import { addSeconds } from './moves.ts';
import { isPastReturn, noReturnOf } from './programme.ts';

/** What follows for a run from the guards that hold. */

/**
 * Whether people must decide before a write: no weight moves while others fight over an object or took one away. Past the
 * point of no return only a root Service that is not pinned to the new pods is in the way of traffic that is led to it.
 */
export function waitsForPeople(state: DeploymentState, { id, change }: Write): boolean {
  if (state.frozen.length === 0 || state.track === 'rollBack') return false;
  const isRoot = state.frozen.some((frozen) => partOf(frozen.slot).part === 'root');
  if (isPastReturn(state)) return change.op === 'weights' && isRoot;
  return change.op === 'weights' || id === noReturnOf(state);
}

/**
 * Why traffic may not move to the new version now: a new side has fewer ready pods than asked for, or somebody's Deployment
 * stands beside the run (design.md, law 1). Pairs go in lock step, so what holds one holds all. Services that others
 * unpinned are put back before.
 */
export function raiseHeldBy(
  state: DeploymentState,
  { id, slot, change }: Pick<Write, 'id' | 'slot' | 'change'>,
): Condition | null {
  if (state.track === 'rollBack' || isPastReturn(state)) return null;
  const { weights } = state.routes[partOf(slot).index] ?? {};
  const raises = change.op === 'weights' && change.weights.canary > (weights?.canary ?? 0);
  if (!raises && !(change.op === 'pin' && id === noReturnOf(state))) return null;
  const holding = ({ key }: Condition) => isRaiseGuard(key) && state.observed[key]?.holds === true;
  return guardConditions(state).find(holding) ?? null;
}

/** The guards that keep a weight from rising. */
function isRaiseGuard(key: string): boolean {
  return isGuard(key, 'short') || isGuard(key, 'deployment');
}

/** When "fewer ready than asked for" has lasted longer than pods may take to become ready, the earliest first. */
export function shortDeadlines(state: DeploymentState): { at: string; guard: Condition }[] {
  const { readyTimeoutSeconds } = state.outline;
  return guardConditions(state)
    .flatMap((guard) => {
      const seen = isGuard(guard.key, 'short') ? state.observed[guard.key] : undefined;
      return seen?.holds ? [{ at: addSeconds(seen.at, readyTimeoutSeconds), guard }] : [];
    })
    .sort((a, b) => (a.at < b.at ? -1 : 1));
}
