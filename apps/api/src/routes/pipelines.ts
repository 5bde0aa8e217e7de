import { AppError } from '@cdaas/contract/errors.ts';
import {
  CancelAnswer,
  DryRunAnswer,
  fileMediaTypes,
  ListPipelinesQuery,
  PipelineConfig,
  PipelineList,
  PipelineParams,
  type PipelineStep,
  type PipelineSummary,
  PipelineView,
  RedeployRequest,
  StartAnswer,
  StartHeaders,
  StartOrRedeployHeaders,
  StartQuery,
  startMediaType,
} from '@cdaas/contract/pipelines.ts';
import {
  cancelPipeline,
  getPipeline,
  getPipelineConfig,
  listPipelines,
  type PipelineRead,
  type PipelineSummaryRead,
} from '@cdaas/control-plane/pipelines.ts';
import type { CallerContext } from '@cdaas/control-plane/principals.ts';
import { pipelineOfLocation, redeploySource } from '@cdaas/control-plane/redeploy.ts';
import { type Checked, checkStart, startPipeline } from '@cdaas/control-plane/start.ts';
import type { FileText } from '@cdaas/pipeline/file/parse.ts';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { stepRefs } from '@cdaas/pipeline/plan.ts';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { errorAnswers, moment } from '../answers.ts';
import type { ApiDeps } from '../deps.ts';
import { callerOf } from '../plugins/auth.ts';
import { checkDepth, installTextBodies, readJson } from '../plugins/bodies.ts';
import { violationsOf } from '../plugins/violations.ts';
import { pausesOf, shownStatus, stepsDone, type TimedPause } from './deployments.ts';

/** Starts, and what became of them. */
export const pipelineRoutes: FastifyPluginAsyncZod<ApiDeps> = async (app, { settings }) => {
  await app.register(async (scope) => startRoutes(scope, settings.bodyDepthLimit));

  app.get(
    '/pipelines',
    {
      config: { permission: 'deployment.view' },
      schema: {
        tags: ['pipelines'],
        summary: 'Pipelines, newest first.',
        querystring: ListPipelinesQuery,
        response: { 200: PipelineList, ...errorAnswers(422) },
      },
    },
    async (request) => {
      const { pipelines, next } = await listPipelines(callerOf(request), request.query);
      return { pipelines: pipelines.map(summaryOf), next };
    },
  );

  app.get(
    '/pipelines/:id',
    {
      config: { permission: 'deployment.view' },
      schema: {
        tags: ['pipelines'],
        summary: 'One pipeline.',
        params: PipelineParams,
        response: { 200: PipelineView, ...errorAnswers(404) },
      },
    },
    async (request) => viewOf(await getPipeline(callerOf(request), request.params)),
  );

  app.get(
    '/pipelines/:id/config',
    {
      config: { permission: 'deployment.view' },
      schema: {
        tags: ['pipelines'],
        summary: 'The start request as it was sent. Values of Secrets are masked for those who may not start.',
        params: PipelineParams,
        response: { 200: PipelineConfig, ...errorAnswers(404) },
      },
    },
    async (request) => getPipelineConfig(callerOf(request), request.params),
  );

  app.post(
    '/pipelines/:id/cancel',
    {
      config: { permission: 'deployment.manage', intervenes: true },
      schema: {
        tags: ['pipelines'],
        summary: 'Cancel: targets that can still go back do, the rest finishes.',
        params: PipelineParams,
        response: { 202: CancelAnswer, ...errorAnswers(404, 409) },
      },
    },
    async (request, reply) => {
      const { id, status } = await cancelPipeline(callerOf(request), request.params);
      return reply.code(202).send({ id, accepted: 'cancel', status });
    },
  );

  app.post(
    '/pipelines/:id/redeploy',
    {
      config: { permission: 'deployment.start' },
      schema: {
        tags: ['pipelines'],
        summary: 'Start a new pipeline from the configuration and manifests of an earlier one.',
        params: PipelineParams,
        querystring: StartQuery,
        headers: StartHeaders,
        body: RedeployRequest.nullish(),
        response: { 200: DryRunAnswer, 202: StartAnswer, ...errorAnswers(400, 404, 409, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const source = await redeploySource(callerOf(request), { ...request.body, id });
      const { query, headers } = request;
      const key = headers['idempotency-key'];
      return answerStart(request, reply, source, {
        dryRun: query.dryRun,
        key,
        route: `POST /pipelines/${id}/redeploy`,
      });
    },
  );
};

/** The two paths of a start. They take the file as text, so they have a scope of their own for parsing bodies. */
const startRoutes = async (app: Parameters<FastifyPluginAsyncZod>[0], depthLimit: number): Promise<void> => {
  installTextBodies(app, [...fileMediaTypes.json, ...fileMediaTypes.yaml, fileMediaTypes.link]);
  for (const url of ['/pipelines/kubernetes', '/pipelines']) {
    app.post(
      url,
      {
        config: { permission: 'deployment.start' },
        schema: {
          tags: ['pipelines'],
          summary: 'Start a pipeline from a deployment file, or from an earlier pipeline.',
          consumes: [...fileMediaTypes.json, ...fileMediaTypes.yaml, fileMediaTypes.link],
          querystring: StartQuery,
          headers: StartOrRedeployHeaders,
          // Read as text, so that violations can name their place; only the description is of an object.
          body: z.unknown().meta({ type: 'object', description: 'A deployment file.' }),
          response: { 200: DryRunAnswer, 202: StartAnswer, ...errorAnswers(400, 404, 409, 413, 415, 422) },
        },
      },
      async (request, reply) => {
        const { body, query, headers } = request;
        const source = await sourceOf(callerOf(request), body, depthLimit, {
          mediaType: (request.raw.headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '',
          location: headers['x-armory-config-location'],
        });
        const key = headers['idempotency-key'];
        return answerStart(request, reply, source, { dryRun: query.dryRun, key, route: `POST ${url}` });
      },
    );
  }
};

/** Starts, or tells what would be done; the answer has the media type that clients in use ask for. */
async function answerStart(
  request: FastifyRequest,
  reply: FastifyReply,
  source: FileText,
  { dryRun, key, route }: { dryRun: boolean | undefined; key: string | undefined; route: string },
): Promise<FastifyReply> {
  const ctx = callerOf(request);
  if (dryRun === true) return reply.code(200).send(dryRunOf(await checkStart(ctx, source)));
  const { accept, 'x-armory-client': product, 'user-agent': agent } = request.raw.headers;
  const client = product ?? agent;
  const answer = await startPipeline(ctx, {
    source,
    idempotency: key === undefined ? undefined : { key, route },
    client: typeof client === 'string' ? client : undefined,
  });
  if (accept === startMediaType) reply.type(startMediaType);
  return reply.code(202).header('location', `/pipelines/${answer.pipelineId}`).send(answer);
}

async function sourceOf(
  ctx: CallerContext,
  text: unknown,
  depthLimit: number,
  { mediaType, location }: { mediaType: string; location: string | undefined },
): Promise<FileText> {
  if (mediaType === fileMediaTypes.link) {
    const id = pipelineOfLocation(location);
    return redeploySource(ctx, { ...readRedeploy(text, depthLimit), id });
  }
  if (typeof text !== 'string' || text.trim() === '') {
    throw new AppError('file.syntax', 'The deployment file is empty.', { hint: 'Send it as the body of the request.' });
  }
  if ((fileMediaTypes.yaml as readonly string[]).includes(mediaType)) return { yaml: text };
  const tooDeep = checkDepth(text, depthLimit);
  if (tooDeep !== undefined) throw tooDeep;
  return { json: text };
}

function readRedeploy(text: unknown, depthLimit: number): RedeployRequest {
  if (typeof text !== 'string' || text.trim() === '') return {};
  const read = readJson(text, depthLimit);
  if (read instanceof AppError) throw read;
  const parsed = RedeployRequest.safeParse(read.value);
  if (!parsed.success) throw AppError.ofViolations(violationsOf(parsed.error.issues, 'body', read.value));
  return parsed.data;
}

function dryRunOf({ resolved, targets }: Checked): DryRunAnswer {
  return {
    dryRun: true,
    application: resolved.pipeline.application,
    targets: targets.map(({ plan, dependsOn }) => ({
      name: plan.target,
      account: plan.account,
      namespace: plan.namespace,
      dependsOn: [...dependsOn],
      workloads: plan.workloads.map(({ name, replicas }) => ({ name, replicas })),
      steps: plan.steps.flatMap((step, index) =>
        stepRefs(plan, index).map((ref) => ({
          ref,
          type: step.kind,
          ...(step.kind === 'setWeight' ? { setWeight: step.weight } : {}),
        })),
      ),
      objects: plan.objects.map(nameOf),
    })),
    warnings: resolved.warnings,
  };
}

function nameOf({ kind, metadata }: KubernetesObject): string {
  return metadata.namespace === undefined
    ? `${kind} ${metadata.name}`
    : `${kind} ${metadata.namespace}/${metadata.name}`;
}

function summaryOf(read: PipelineSummaryRead): PipelineSummary {
  const { id, application, description, status, initiatedBy, startedAt, completedAt } = read;
  return {
    id,
    application,
    description,
    status,
    initiatedBy,
    startedAtIso8601: moment(startedAt),
    completedAtIso8601: moment(completedAt),
  };
}

/** The step of a pipeline that is the deployment to a target. */
function targetRef(target: string): string {
  return `deploy-${target}`;
}

function viewOf(read: PipelineRead): PipelineView {
  const { context, sourceControl, source, deployments } = read;
  return {
    ...summaryOf(read),
    context,
    sourceControl,
    source,
    environments: deployments.map(({ target, namespace, account }) => ({ name: target, namespace, account })),
    steps: [
      ...deployments.map(({ id, target, dependsOn, state }) => ({
        ref: targetRef(target),
        type: 'deployment' as const,
        status: shownStatus(state.status),
        dependsOn: dependsOn.map(targetRef),
        constraintFor: '',
        deployment: { id, environment: target, step: stepsDone(state), totalSteps: state.steps.length },
      })),
      ...deployments.flatMap(({ target, state }) => pausesOf(state).map((pause) => pauseStep(target, pause))),
    ],
  };
}

function pauseStep(target: string, { ref, status, duration, unit }: TimedPause): PipelineStep {
  const at = { ref: `${targetRef(target)}/${ref}`, dependsOn: [], constraintFor: '' };
  return { type: 'pause', ...at, status, pause: { duration, unit } };
}
