import { AppError } from '@cdaas/contract/errors.ts';
import { canApprove, canRollBack } from '@cdaas/pipeline/deployment-machine.ts';
import {
  type DeploymentState,
  type DeploymentStatus,
  deploymentStatuses,
  finalDeploymentStatuses,
  isFinal,
} from '@cdaas/pipeline/deployment-state.ts';
import { shorten } from '@cdaas/pipeline/file/words.ts';
import { canResume } from '@cdaas/pipeline/mend.ts';
import { currentInstruction } from '@cdaas/pipeline/moves.ts';
import { waitsFor as openTargets, readPipelineState } from '@cdaas/pipeline/pipeline-machine.ts';
import { stepRefs } from '@cdaas/pipeline/plan.ts';
import { readDeploymentState, slotFrom1 } from '@cdaas/pipeline/stored.ts';
import type { Context } from './context.ts';
import { scoped } from './database/db.ts';
import { isId } from './ids.ts';
import { appendNews, type NewsResult } from './news.ts';

export type DeploymentRead = {
  id: string;
  pipelineId: string;
  state: DeploymentState;
  /** The targets that must have SUCCEEDED before this one begins and have not yet, by name. */
  waitsFor: string[];
  startedAt: Date | null;
  completedAt: Date | null;
  /** What the run created or changed in the cluster and has not taken back. */
  objects: { apiVersion: string; kind: string; namespace: string | null; name: string }[];
};

/** @throws AppError not.found */
export async function getDeployment(ctx: Context, { id }: { id: string }): Promise<DeploymentRead> {
  const row = !isId(id)
    ? null
    : await scoped(ctx.db, ctx.scope, (tx) =>
        tx.deployment.findUnique({
          where: { id, tenantId: ctx.scope.tenantId },
          select: {
            id: true,
            pipelineId: true,
            state: true,
            pipeline: { select: { state: true } },
            startedAt: true,
            completedAt: true,
            ownedObjects: {
              select: { slot: true, apiVersion: true, kind: true, namespace: true, name: true },
              orderBy: { slot: 'asc' },
            },
          },
        }),
      );
  if (row === null) throw new AppError('not.found', `There is no deployment ${shorten(id)}.`);
  const { ownedObjects, pipeline, ...rest } = row;
  const state = readDeploymentState(row.state);
  const waitsFor = state.status === 'WAITING' ? openTargets(readPipelineState(pipeline.state), id) : [];
  return { ...rest, state, waitsFor, objects: ownedObjects.filter(({ slot }) => slotFrom1(slot) in state.objects) };
}

/** Statuses that a deployment never leaves by a person's wish. */
const pastReturn: DeploymentStatus[] = ['FINISHING', ...finalDeploymentStatuses];
const notAwaiting = deploymentStatuses.filter((status) => status !== 'AWAITING_APPROVAL');

/**
 * Asks for the previous version back. Asking again while it rolls back changes nothing.
 *
 * @returns the status at the moment of asking; the roll back itself is the worker's
 * @throws AppError not.found, deployment.final, deployment.finishing
 */
export async function rollBackDeployment(
  ctx: Context,
  { id }: { id: string },
): Promise<{ id: string; status: DeploymentStatus }> {
  const { state } = await getDeployment(ctx, { id });
  if (isFinal(state.status)) throw finalError(state.status);
  if (state.status === 'ROLLING_BACK') return { id, status: state.status };
  if (!canRollBack(state)) throw finishingError();
  const message = `${ctx.actor.name} asked for the previous version back`;
  const news = { type: 'rollBackRequested', data: { by: ctx.actor.name }, message, unlessStatus: pastReturn };
  const refused = await tell(ctx, id, news);
  // Asked for before, by whomever: it comes.
  if (refused !== null && refused.reason !== 'repeated') throw refusedNews(refused);
  return { id, status: state.status };
}

/**
 * Lets weights move again that are frozen because others kept changing an object of the run, or took one away.
 *
 * @throws AppError not.found, deployment.final, step.state where nothing is frozen
 */
export async function resumeDeployment(
  ctx: Context,
  { id }: { id: string },
): Promise<{ id: string; status: DeploymentStatus }> {
  const { state } = await getDeployment(ctx, { id });
  if (isFinal(state.status)) throw finalError(state.status);
  if (!canResume(state)) throw stepError('Nothing of the deployment is frozen.', state.status);
  const message = `${ctx.actor.name} resumed the deployment`;
  const unlessStatus: DeploymentStatus[] = ['ROLLING_BACK', ...finalDeploymentStatuses];
  const news = { type: 'resumed', data: { by: ctx.actor.name }, message, unlessStatus, once: false };
  const refused = await tell(ctx, id, news);
  if (refused?.status === 'ROLLING_BACK') throw stepError('The deployment rolls back.', refused.status);
  if (refused !== null) throw refusedNews(refused);
  return { id, status: state.status };
}

/**
 * Completes a pause that waits for approval.
 *
 * @param ref as in the deployment's view, `canary-step-<n>`
 * @throws AppError not.found (of the deployment or the step), deployment.final, step.state where the step does not wait
 *   for approval now
 */
export async function approveStep(
  ctx: Context,
  { id, ref }: { id: string; ref: string },
): Promise<{ id: string; status: DeploymentStatus }> {
  const { state } = await getDeployment(ctx, { id });
  const refs = state.outline.steps.map((_, step) => stepRefs(state.outline, step));
  const index = refs.findIndex((known) => known.includes(ref));
  if (index < 0) {
    throw new AppError('not.found', `The deployment has no step ${shorten(ref)}.`, {
      hint: `Its steps: ${refs.flat().join(', ')}`,
    });
  }
  if (isFinal(state.status)) throw finalError(state.status);
  const status = state.steps[index]?.status ?? 'NOT_STARTED';
  if (!canApprove(state) || currentInstruction(state).step !== index) {
    throw stepError(`Step ${ref} does not wait for approval: it is ${status}.`, state.status);
  }
  const message = `${ctx.actor.name} approved ${ref}`;
  const news = { type: 'approved', data: { ref, by: ctx.actor.name }, message, unlessStatus: notAwaiting };
  const refused = await tell(ctx, id, news);
  if (refused === null) return { id, status: state.status };
  if (refused.reason === 'repeated') throw stepError(`Step ${ref} was approved already.`, refused.status);
  if (refused.reason === 'status' && !pastReturn.includes(refused.status as DeploymentStatus)) {
    throw stepError(`Step ${ref} does not wait for approval any more.`, refused.status);
  }
  throw refusedNews(refused);
}

type Refused = Extract<NewsResult, { appended: false }>;

/**
 * Appends what a person wants, by default once, and wakes whoever drives the deployment; deciding is theirs. Answers why it was not
 * taken, where the row moved between the look and the append.
 */
async function tell(
  ctx: Context,
  deploymentId: string,
  news: {
    type: string;
    data: Record<string, string>;
    message: string;
    unlessStatus: DeploymentStatus[];
    once?: boolean;
  },
): Promise<Refused | null> {
  const [result] = await appendNews(ctx.db, ctx.scope, [{ deploymentId, once: true, ...news }]);
  if (result === undefined) throw new Error('append_news did not answer');
  if (!result.appended) return result;
  await ctx.queue.enqueueWake('deployment', deploymentId, result.owner);
  return null;
}

function refusedNews({ reason, status }: Refused): AppError {
  if (reason === 'missing') return new AppError('not.found', 'There is no such deployment.');
  return status === 'FINISHING' ? finishingError() : finalError(status ?? 'final');
}

function stepError(message: string, status: string | null): AppError {
  return new AppError('step.state', message, { hint: `The deployment is ${status}.` });
}

function finalError(status: string): AppError {
  return new AppError('deployment.final', `The deployment has ended: ${status}.`, {
    hint: 'Deploy the version you want by starting it again.',
  });
}

export function finishingError(): AppError {
  return new AppError('deployment.finishing', 'The deployment is finishing; redeploy the previous pipeline instead.', {
    hint: 'It is past the point of no return: the previous version is being taken away, or is gone already.',
  });
}
