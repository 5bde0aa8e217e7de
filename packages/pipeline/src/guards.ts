import { guardConditions, isGuard } from './conditions.ts';
import { type Condition, type DeploymentState, partOf } from './deployment-state.ts';
import type { Write } from './instructions.ts';
import { addSeconds } from './moves.ts';
import { isPastReturn, noReturnOf } from './programme.ts';

/** What follows for a run from the guards that hold. */

/**
 * Why traffic may not move to the new version now: a root Service is no longer pinned to the old pods, or a new side has
 * fewer ready pods than asked for (design.md, law 1 and "No weight rises while the pin is not in force"). Pairs go in lock
 * step, so what holds one holds all.
 */
export function raiseHeldBy(state: DeploymentState, { id, slot, change }: Write): Condition | null {
  if (state.track === 'rollBack' || isPastReturn(state)) return null;
  const { weights } = state.routes[partOf(slot).index] ?? {};
  const raises = change.op === 'weights' && change.weights.canary > (weights?.canary ?? 0);
  if (!raises && !(change.op === 'pin' && id === noReturnOf(state))) return null;
  const holding = ({ key }: Condition) => isRaiseGuard(key) && state.observed[key]?.holds === true;
  return guardConditions(state).find(holding) ?? null;
}

/** The guards that keep a weight from rising. */
function isRaiseGuard(key: string): boolean {
  return isGuard(key, 'pin') || isGuard(key, 'short') || isGuard(key, 'deployment');
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
