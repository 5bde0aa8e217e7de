import { AppError, type Violation } from '@cdaas/contract/errors.ts';
import type { StartAnswer } from '@cdaas/contract/pipelines.ts';
import { type DeploymentState, initialState } from '@cdaas/pipeline/deployment-state.ts';
import { type FileText, type ParsedFile, parseDeploymentFile } from '@cdaas/pipeline/file/parse.ts';
import { type ResolvedFile, resolveDeploymentFile } from '@cdaas/pipeline/file/resolve.ts';
import {
  decidePipeline,
  finalPipelineStatuses,
  initialPipelineState,
  type PipelineState,
} from '@cdaas/pipeline/pipeline-machine.ts';
import type { DeploymentPlan } from '@cdaas/pipeline/plan.ts';
import { claimsOf } from './claims.ts';
import { checkLimits } from './clusters/limits.ts';
import { scoped } from './database/db.ts';
import { hashBody, replay, stillRunning } from './idempotency.ts';
import { newId, templateHash } from './ids.ts';
import { deploymentLink, pipelineLink } from './links.ts';
import { digestOf } from './pipelines.ts';
import type { CallerContext } from './principals.ts';
import { findIdempotent, insertPipeline } from './start-pipeline.ts';
import { checkSize, checkTogether } from './targets-together.ts';
import type { Claim, Json, RefusedClaim } from './transitions.ts';

export type StartInput = {
  source: FileText;
  /** From `Idempotency-Key`, with the route that it was sent to. */
  idempotency?: { key: string; route: string } | undefined;
  /** What the client calls itself, `<product>/<version>`. */
  client?: string | undefined;
};

type TargetCluster = {
  id: string;
  name: string;
  clusterUid: string;
  namespaces: string[];
  clusterScopedKinds: string[];
};

/** `dependsOn` names targets of the same start. */
type Target = { plan: DeploymentPlan; cluster: TargetCluster; dependsOn: readonly string[]; claims: Claim[] };

export type Checked = { file: ParsedFile; resolved: ResolvedFile; targets: Target[] };

/**
 * Reads, checks and resolves a deployment file against the clusters of the tenant. Stores nothing.
 *
 * @throws AppError with every violation at once
 */
export async function checkStart(ctx: CallerContext, source: FileText): Promise<Checked> {
  const parsed = parseDeploymentFile(source);
  if ('violations' in parsed) throw violated(parsed.violations);
  const clusters = await scoped(ctx.db, ctx.scope, (tx) =>
    tx.cluster.findMany({
      where: { tenantId: ctx.scope.tenantId },
      select: { id: true, name: true, clusterUid: true, namespaces: true, clusterScopedKinds: true },
    }),
  );
  const options = { registeredAccounts: clusters.map(({ name }) => name), drainSeconds: ctx.drainSeconds };
  const resolved = resolveDeploymentFile(parsed.file, options);
  if ('violations' in resolved) throw violated(resolved.violations);

  const targets = resolved.plans.map((plan): Target => {
    const cluster = clusters.find(({ name }) => name === plan.account);
    if (cluster === undefined) throw new Error(`account ${plan.account} passed validation and is not registered`);
    const dependsOn = resolved.dependencies.get(plan.target) ?? [];
    return { plan, cluster, dependsOn, claims: claimsOf(plan, cluster.clusterUid) };
  });
  const together = targets.map((target) => ({ name: target.plan.target, ...target }));
  const outside = targets.flatMap(({ plan, cluster }) => checkLimits(plan, cluster));
  const refused = [...outside, ...checkTogether(together), ...checkSize(together)];
  if (refused.length > 0) throw violated(refused);
  return { file: parsed.file, resolved, targets };
}

function violated(violations: readonly Violation[]): AppError {
  const [first, ...rest] = violations;
  if (first === undefined) throw new Error('a refused deployment file without a reason');
  return AppError.ofViolations([first, ...rest]);
}

/**
 * Starts a pipeline: checks everything, then stores the pipeline, its deployments and their first events in one
 * transaction, and wakes the workers after it.
 *
 * @throws AppError with every violation at once; deployment.conflict, object.claimed, idempotency.mismatch,
 *   idempotency.running. Nothing is stored then.
 */
export async function startPipeline(ctx: CallerContext, input: StartInput): Promise<StartAnswer> {
  const { source } = input;
  const bodyHash = 'yaml' in source ? hashBody('yaml', source.yaml) : hashBody('json', source.json);
  const idempotency = input.idempotency && { ...input.idempotency, principal: ctx.actor.principal };
  if (idempotency !== undefined) {
    const first = await findIdempotent(ctx.db, ctx.scope, idempotency);
    if (first !== null) return replay(first, bodyHash) as StartAnswer;
  }

  const checked = await checkStart(ctx, source);
  const now = ctx.clock.now();
  const pipelineId = newId(now);
  const targets = checked.targets.map((target) => ({ ...target, id: newId(now), target: target.plan.target }));
  // Its first event is stored with it: a start that is not blocked commits as RUNNING.
  const decided = decidePipeline(initialPipelineState(targets), { type: 'pipelineStarted', at: now.toISOString() });
  const begun = new Set(decided.effects.map((effect) => effect.deployment));
  const rows = await Promise.all(targets.map((target) => deploymentRow(ctx, target, begun.has(target.id))));
  const due = rows.filter((row) => row.due);
  const answer: StartAnswer = {
    pipelineId,
    deployments: rows.map(({ target, id }) => ({ target, id })),
    warnings: checked.resolved.warnings,
  };
  const start = {
    pipeline: await pipelineRow(ctx, pipelineId, checked, decided.state, input.client),
    deployments: rows,
    events: [
      {
        type: 'pipelineStarted',
        data: {},
        message: `${ctx.actor.name} started the deployment of ${checked.resolved.pipeline.application}`,
        at: now,
      },
      ...due.map(({ id, target, account, namespace }) => ({
        deploymentId: id,
        type: 'started',
        data: {},
        message: `Target ${target}: deployment to ${account}/${namespace} begins`,
        at: now,
      })),
    ],
    claims: targets.flatMap(({ claims }) => claims),
    ...(idempotency === undefined ? {} : { idempotency: { ...idempotency, bodyHash, status: 202, response: answer } }),
  };
  const result = await insertPipeline(ctx.db, ctx.scope, start);

  if ('started' in result) {
    await Promise.all(due.map(({ id }) => ctx.queue.enqueueWake('deployment', id)));
    ctx.log.info({ pipelineId, application: start.pipeline.application }, 'pipeline started');
    return answer;
  }
  if ('replay' in result) return replay(result.replay, bodyHash) as StartAnswer;
  if ('running' in result) throw stillRunning();
  if ('blockedBy' in result) throw conflict(ctx, start.pipeline.application, result.blockedBy);
  if ('missingCluster' in result) throw clusterGone(checked.targets, result.missingCluster);
  // Whoever starts an application that is in progress meets its objects first; the application is the better reason.
  const blockedBy = await inProgress(ctx, start.pipeline.application);
  throw blockedBy === null ? claimed(ctx, result.refusedClaim) : conflict(ctx, start.pipeline.application, blockedBy);
}

async function inProgress(ctx: CallerContext, application: string): Promise<string | null> {
  const status = { notIn: [...finalPipelineStatuses, 'QUEUED'] };
  const where = { tenantId: ctx.scope.tenantId, application, status };
  const found = await scoped(ctx.db, ctx.scope, (tx) => tx.pipeline.findFirst({ where, select: { id: true } }));
  return found?.id ?? null;
}

/** @param due whether it begins at once; otherwise it waits until the pipeline tells it to. */
async function deploymentRow(ctx: CallerContext, { id, plan, cluster }: Target & { id: string }, due: boolean) {
  const at = { table: 'deployment', row: id, field: 'plan' };
  const hashes = plan.workloads.map(({ name }) => templateHash(id, name));
  const initial = initialState(id, hashes, plan);
  const state: DeploymentState = due ? initial : { ...initial, status: 'WAITING' };
  return {
    id,
    clusterId: cluster.id,
    target: plan.target,
    account: plan.account,
    namespace: plan.namespace,
    status: state.status,
    plan: await ctx.vault.encryptJson(ctx.scope.organisationId, at, plan),
    state,
    due,
  };
}

async function pipelineRow(
  ctx: CallerContext,
  id: string,
  { file, resolved }: Checked,
  state: PipelineState,
  client: string | undefined,
) {
  const now = ctx.clock.now();
  const { application, description, context, sourceControl } = resolved.pipeline;
  const config = await ctx.vault.encryptJson(
    ctx.scope.organisationId,
    { table: 'pipeline', row: id, field: 'config' },
    file.value,
  );
  return {
    id,
    application,
    description,
    status: state.status,
    initiatedBy: ctx.actor.name,
    source: sourceOf(client),
    sourceControl: sourceControl as Json,
    context,
    config,
    configDigest: digestOf(file.value),
    state,
    due: false,
    startedAt: now,
  };
}

/** `armory-cli/1.2.3` as product and version; whatever a client calls itself, cut to a readable length. */
export function sourceOf(client: string | undefined): { product: string; version: string } {
  const [, product = '', version = ''] = /^([^/\s\p{Cc}]{1,100})(?:\/([^\s\p{Cc}]{1,100}))?/u.exec(client ?? '') ?? [];
  return { product, version };
}

function conflict(ctx: CallerContext, application: string, blockedBy: string): AppError {
  const link = pipelineLink(ctx, blockedBy);
  const message = `cannot start deployment for application "${application}" because there is an in-progress deployment: ${link}`;
  return new AppError('deployment.conflict', message, { link, hint: 'Wait until it has ended, or cancel it.' });
}

function clusterGone(targets: readonly Target[], clusterId: string): AppError {
  const name = targets.find(({ cluster }) => cluster.id === clusterId)?.cluster.name ?? 'unknown';
  return new AppError('account.unknown', `account '${name}' does not exist any more`);
}

/** Of other tenants nothing is told but that the object is taken. */
function claimed(ctx: CallerContext, { kind, namespace, name, sameTenant, deploymentId }: RefusedClaim): AppError {
  const object = `${kind} ${namespace}/${name}`;
  if (!sameTenant || deploymentId === null) {
    return new AppError('object.claimed', `${object} is being deployed by another owner of the cluster.`);
  }
  const link = deploymentLink(ctx, deploymentId);
  return new AppError('object.claimed', `${object} is being deployed by another deployment: ${link}`, { link });
}
