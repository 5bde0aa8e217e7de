import type { DeploymentState } from './deployment-state.ts';
import { addSeconds } from './moves.ts';
import { slotOfObject } from './slot-of-object.ts';

/**
 * S1 looks again at all that P looked at, for what others may have changed since. Where S2 follows P at once it is passed
 * over, for it would see what P saw:
 *
 * - no step came before it, each call since P was carried out at the first try, and P began to read less than two seconds
 *   ago. A look of S1's own may be older than that by the time that S2 is sent: each of its requests may take ten;
 * - nothing was changed in between but root, which P judged as it is to be: no Deployment object was set aside, and none of
 *   the file's other objects was applied, which others may have answered with changes of theirs;
 * - what S2 changes is guarded by what P saw of it: a root Service that somebody else changed since, however shortly, refuses
 *   the pin, and then S1 is carried out. That is possible while nothing else is pinned, so that it takes a single pair and a
 *   canary Service that is made by the run.
 */
const freshSeconds = 2;

/** Whether S1 may be passed over. */
export function isLookFresh(state: DeploymentState, at: string): boolean {
  const { lookedSince, calls, outline, steps, survey } = state;
  if (lookedSince === undefined || at >= addSeconds(lookedSince, freshSeconds)) return false;
  const isFirstTry = calls === 1 + outline.objects.length;
  const isAtOnce = steps.every(({ completedAt }) => completedAt === undefined);
  const isGuarded = survey?.pairs.length === 1 && outline.routes.every((route) => !route.canaryServiceGiven);
  const isRootAlone = outline.objects.every((_, index) => slotOfObject(outline, index).startsWith('root.'));
  const isBare = survey?.workloads.every(({ deployment, old }) => !deployment && !old?.labels) === true;
  return isFirstTry && isAtOnce && isGuarded && isRootAlone && isBare;
}

/** Whether an S1 that was passed over must be carried out after all: somebody else changed the Service that S2 is to pin. */
export function isLookOverdue(
  state: DeploymentState,
  doubt: { resourceVersion?: string },
  found: { resourceVersion: string },
): boolean {
  if (state.lookedSince === undefined || !state.at.startsWith('S2.pin.')) return false;
  return found.resourceVersion !== doubt.resourceVersion;
}
