import { createHash } from 'node:crypto';
import { AppError } from '@cdaas/contract/errors.ts';
import type { ListPipelinesQuery } from '@cdaas/contract/pipelines.ts';
import { canRollBack } from '@cdaas/pipeline/deployment-machine.ts';
import type { DeploymentState } from '@cdaas/pipeline/deployment-state.ts';
import { shorten } from '@cdaas/pipeline/file/words.ts';
import {
  finalPipelineStatuses,
  isFinalPipeline,
  type PipelineStatus,
  readPipelineState,
  shownPipelineStatus,
} from '@cdaas/pipeline/pipeline-machine.ts';
import { readDeploymentState } from '@cdaas/pipeline/stored.ts';
import { scoped, type Transaction } from './database/db.ts';
import { finishingError } from './deployments.ts';
import { isId } from './ids.ts';
import { maskSecrets } from './mask-secrets.ts';
import { appendNews } from './news.ts';
import type { CallerContext } from './principals.ts';

export type PipelineSummaryRead = {
  id: string;
  application: string;
  description: string;
  status: PipelineStatus;
  initiatedBy: string;
  startedAt: Date | null;
  completedAt: Date | null;
};

export type PipelineRead = PipelineSummaryRead & {
  context: Record<string, string>;
  sourceControl: Record<string, unknown>;
  source: { product: string; version: string };
  /** In the order of the file. `dependsOn` names targets of the same pipeline. */
  deployments: {
    id: string;
    target: string;
    account: string;
    namespace: string;
    dependsOn: string[];
    state: DeploymentState;
  }[];
};

const summary = {
  id: true,
  application: true,
  description: true,
  status: true,
  initiatedBy: true,
  startedAt: true,
  completedAt: true,
  deployments: { select: { status: true } },
} as const;

/**
 * Pipelines of the tenant, newest first, a page at a time.
 *
 * @returns `next`: the cursor of the page after; null on the last one
 * @throws AppError request.invalid for a cursor that no page gave
 */
export async function listPipelines(
  ctx: CallerContext,
  { application, status, limit, cursor }: ListPipelinesQuery,
): Promise<{ pipelines: PipelineSummaryRead[]; next: string | null }> {
  if (cursor !== undefined && !isId(cursor)) {
    throw new AppError('request.invalid', 'The query parameter cursor is not one that this list gave.');
  }
  const { tenantId } = ctx.scope;
  const rows = await scoped(ctx.db, ctx.scope, (tx) =>
    tx.pipeline.findMany({
      where: {
        tenantId,
        ...(application === undefined ? {} : { application }),
        ...(status === undefined ? {} : whereShown(status)),
        ...(cursor === undefined ? {} : { id: { lt: cursor } }),
      },
      // Ids are UUIDs of version 7: their order is that of time, and it is the primary key's.
      orderBy: { id: 'desc' },
      take: limit + 1,
      select: summary,
    }),
  );
  const page = rows.slice(0, limit);
  return { pipelines: page.map(readSummary), next: rows.length > limit ? (page.at(-1)?.id ?? null) : null };
}

type SummaryRow = Omit<PipelineSummaryRead, 'status'> & { status: string; deployments: { status: string }[] };

function readSummary({ deployments, ...row }: SummaryRow): PipelineSummaryRead {
  return { ...row, status: shownStatus(row.status, deployments) };
}

function shownStatus(stored: string, deployments: { status: string }[]): PipelineStatus {
  const statuses = deployments.map(({ status }) => status as DeploymentState['status']);
  return shownPipelineStatus(stored as PipelineStatus, statuses);
}

/** A filter by status as shown: while a pipeline runs, what it waits for is in its deployments (shownPipelineStatus). */
function whereShown(status: PipelineStatus) {
  const waiting = ['NOT_STARTED', 'WAITING', 'PAUSED', 'AWAITING_APPROVAL'];
  const idle = ['NOT_STARTED', 'WAITING'];
  const working = { done: false, status: { notIn: waiting } };
  const open = (statuses: string[]) => ({ deployments: { some: { done: false, status: { in: statuses } } } });
  const none = (statuses: string[]) => ({ deployments: { none: { done: false, status: { in: statuses } } } });
  switch (status) {
    case 'RUNNING':
      return {
        status: 'RUNNING',
        OR: [{ deployments: { some: working } }, none(waiting.filter((word) => !idle.includes(word)))],
      };
    case 'AWAITING_APPROVAL':
      return { status: 'RUNNING', AND: [{ deployments: { none: working } }, open(['AWAITING_APPROVAL'])] };
    case 'PAUSED':
      return {
        status: 'RUNNING',
        AND: [{ deployments: { none: working } }, open(['PAUSED']), none(['AWAITING_APPROVAL'])],
      };
    default:
      return { status };
  }
}

/** @throws AppError not.found */
export function getPipeline(ctx: CallerContext, { id }: { id: string }): Promise<PipelineRead> {
  return scoped(ctx.db, ctx.scope, async (tx) => {
    const { deployments, context, sourceControl, source, state: stored, ...row } = await loadPipeline(tx, ctx, id);
    const { targets } = readPipelineState(stored);
    return {
      ...row,
      status: shownStatus(row.status, deployments),
      context: (context ?? {}) as Record<string, string>,
      sourceControl: (sourceControl ?? {}) as Record<string, unknown>,
      source: (source ?? { product: '', version: '' }) as PipelineRead['source'],
      deployments: targets.flatMap(({ deployment: of, dependsOn }) =>
        deployments
          .filter((deployment) => deployment.id === of)
          .map(({ state, ...deployment }) => ({ ...deployment, dependsOn, state: readDeploymentState(state) })),
      ),
    };
  });
}

async function loadPipeline(tx: Transaction, ctx: CallerContext, id: string) {
  const row = !isId(id)
    ? null
    : await tx.pipeline.findUnique({
        where: { id, tenantId: ctx.scope.tenantId },
        select: {
          ...summary,
          context: true,
          sourceControl: true,
          source: true,
          state: true,
          deployments: {
            select: { id: true, target: true, account: true, namespace: true, status: true, state: true },
            orderBy: { id: 'asc' },
          },
        },
      });
  if (row === null) throw noPipeline(id);
  return row;
}

function noPipeline(id: string): AppError {
  return new AppError('not.found', `There is no pipeline ${shorten(id)}.`);
}

/**
 * The start request as it was sent. Who may not start sees Secrets masked.
 *
 * @throws AppError not.found
 */
export async function getPipelineConfig(ctx: CallerContext, { id }: { id: string }): Promise<Record<string, unknown>> {
  const { organisationId, tenantId } = ctx.scope;
  const row = !isId(id)
    ? null
    : await scoped(ctx.db, ctx.scope, (tx) =>
        tx.pipeline.findUnique({ where: { id, tenantId }, select: { config: true } }),
      );
  if (row === null) throw noPipeline(id);
  const at = { table: 'pipeline', row: id, field: 'config' };
  const config = (await ctx.vault.decryptJson(organisationId, at, row.config)) as Record<string, unknown>;
  return ctx.permissions.has('deployment.start') ? config : maskSecrets(config);
}

/**
 * Cancels a pipeline: targets that can still go back do, the rest finishes. Asking again changes nothing.
 *
 * @returns the status at the moment of asking
 * @throws AppError not.found; deployment.final where it has ended; deployment.finishing where no target can still stop
 */
export async function cancelPipeline(
  ctx: CallerContext,
  { id }: { id: string },
): Promise<{ id: string; status: PipelineStatus }> {
  const { row, shown } = await scoped(ctx.db, ctx.scope, async (tx) => {
    const found = await loadPipeline(tx, ctx, id);
    return { row: found, shown: shownStatus(found.status, found.deployments) };
  });
  const state = readPipelineState(row.state);
  if (isFinalPipeline(row.status)) throw endedError(row.status);
  if (state.cancelledBy !== null) return { id, status: shown };
  if (!row.deployments.some((deployment) => canRollBack(readDeploymentState(deployment.state)))) throw finishingError();

  const news = { type: 'cancelRequested', data: { by: ctx.actor.name }, message: `${ctx.actor.name} cancelled` };
  const [result] = await appendNews(ctx.db, ctx.scope, [
    { pipelineId: id, unlessStatus: [...finalPipelineStatuses], once: true, ...news },
  ]);
  if (result === undefined) throw new Error('append_news did not answer');
  if (!result.appended) {
    if (result.reason === 'repeated') return { id, status: shown };
    if (result.reason === 'missing') throw noPipeline(id);
    throw endedError(result.status ?? 'final');
  }
  await ctx.queue.enqueueWake('pipeline', id, result.owner);
  return { id, status: shown };
}

function endedError(status: string): AppError {
  return new AppError('deployment.final', `The pipeline has ended: ${status}.`);
}

/** Tells two configs apart: stored with the pipeline, so that approvals can be bound to what was started (design.md). */
export function digestOf(config: unknown): string {
  return createHash('sha256').update(JSON.stringify(config)).digest('hex');
}
