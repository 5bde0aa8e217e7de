import {
  ActionAnswer,
  type CanaryStep,
  DeploymentParams,
  DeploymentView,
  StepParams,
} from '@cdaas/contract/deployments.ts';
import type { StepStatus } from '@cdaas/contract/pipelines.ts';
import {
  approveStep,
  type DeploymentRead,
  getDeployment,
  resumeDeployment,
  rollBackDeployment,
} from '@cdaas/control-plane/deployments.ts';
import type { DeploymentStatus } from '@cdaas/pipeline/deployment-state.ts';
import { errorOf, waitingFor } from '@cdaas/pipeline/narrate.ts';
import { stepRefs } from '@cdaas/pipeline/plan.ts';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { errorAnswers, moment } from '../answers.ts';
import { callerOf } from '../plugins/auth.ts';

/** One target's run, and what people may do to it. */
export const deploymentRoutes: FastifyPluginAsyncZod = async (app) => {
  // Clients in use ask under either path.
  for (const url of ['/deployments/:id', '/deploy-engine/deployments/:id']) {
    app.get(
      url,
      {
        config: { permission: 'deployment.view' },
        schema: {
          tags: ['deployments'],
          summary: 'The run of one target.',
          params: DeploymentParams,
          response: { 200: DeploymentView, ...errorAnswers(404) },
        },
      },
      async (request) => viewOf(await getDeployment(callerOf(request), request.params)),
    );
  }

  app.post(
    '/deployments/:id/rollback',
    {
      config: { permission: 'deployment.manage', intervenes: true },
      schema: {
        tags: ['deployments'],
        summary: 'Lead all traffic back to the previous version. Refused past the point of no return.',
        params: DeploymentParams,
        response: { 202: ActionAnswer, ...errorAnswers(404, 409) },
      },
    },
    async (request, reply) => {
      const { id, status } = await rollBackDeployment(callerOf(request), request.params);
      return reply.code(202).send({ id, accepted: 'rollback', status: shownStatus(status), phase: status });
    },
  );

  app.post(
    '/deployments/:id/resume',
    {
      config: { permission: 'deployment.manage', intervenes: true },
      schema: {
        tags: ['deployments'],
        summary: 'Let weights move again that are frozen because others kept changing an object of the run.',
        params: DeploymentParams,
        response: { 202: ActionAnswer, ...errorAnswers(404, 409) },
      },
    },
    async (request, reply) => {
      const { id, status } = await resumeDeployment(callerOf(request), request.params);
      return reply.code(202).send({ id, accepted: 'resume', status: shownStatus(status), phase: status });
    },
  );

  app.post(
    '/deployments/:id/steps/:ref/approve',
    {
      config: { permission: 'deployment.approve', intervenes: true },
      schema: {
        tags: ['deployments'],
        summary: 'Approve a step that waits for it.',
        params: StepParams,
        response: { 202: ActionAnswer, ...errorAnswers(404, 409) },
      },
    },
    async (request, reply) => {
      const { id, status } = await approveStep(callerOf(request), request.params);
      return reply.code(202).send({ id, accepted: 'approve', status: shownStatus(status), phase: status });
    },
  );
};

/** Statuses as clients in use know them (design.md, "Statuses"). */
export function shownStatus(status: DeploymentStatus): StepStatus {
  if (status === 'WAITING') return 'NOT_STARTED';
  if (status === 'FINISHING' || status === 'ROLLING_BACK') return 'RUNNING';
  return status;
}

function viewOf({ id, pipelineId, state, waitsFor, objects, startedAt, completedAt }: DeploymentRead): DeploymentView {
  const { outline } = state;
  return {
    id,
    parentPipelineId: pipelineId,
    application: outline.application,
    environment: outline.target,
    account: outline.account,
    namespace: outline.namespace,
    status: shownStatus(state.status),
    phase: state.status,
    waitingFor: waitsFor.length > 0 ? dependencyWords(waitsFor) : waitingFor(state),
    error: errorOf(state),
    warnings: state.warnings,
    leftInCluster: state.leftInCluster,
    startedAtIso8601: moment(startedAt),
    completedAtIso8601: moment(completedAt),
    kubernetes: {
      strategy: 'canary',
      canary: {
        step: stepsDone(state),
        totalSteps: state.steps.length,
        setWeight: leastOf(state.routes.map((_, index) => shareOf(state, index))),
        traffic: outline.routes.map(({ rootServiceName }, index) => ({
          service: rootServiceName,
          deploymentKey: outline.workloads[state.survey?.pairs[index] ?? -1]?.name ?? null,
          setWeight: shareOf(state, index),
        })),
        steps: state.steps.flatMap((_, index) => stepViews(state, index)),
      },
      deployedObjects: objects.map(({ apiVersion, kind, namespace, name }) => ({
        apiVersion,
        kind,
        namespace: namespace ?? '',
        name,
      })),
    },
  };
}

function dependencyWords(targets: string[]): string {
  const names = targets.map((target) => `'${target}'`).join(', ');
  return `${targets.length === 1 ? 'target' : 'the targets'} ${names} to succeed`;
}

/** Percent of a route's traffic that the new version has; null where none was shifted. */
function shareOf({ status, routes }: DeploymentRead['state'], index: number): number | null {
  const route = routes[index];
  return status === 'SUCCEEDED' ? 100 : (route?.confirmed?.canary ?? route?.weights?.canary ?? null);
}

function leastOf(shares: (number | null)[]): number | null {
  const known = shares.filter((share) => share !== null);
  return known.length === 0 ? null : Math.min(...known);
}

export function stepsDone(state: DeploymentRead['state']): number {
  return state.steps.filter(({ status }) => status === 'SUCCEEDED').length;
}

/** A pause of a strategy that ends by itself. */
export type TimedPause = { ref: string; status: StepStatus; duration: number; unit: string };

/** The timed pauses that a deployment is in. */
export function pausesOf(state: DeploymentRead['state']): TimedPause[] {
  const views = state.steps.flatMap((_, index) => stepViews(state, index));
  return views.flatMap(({ ref, status, pause }) => {
    if (status !== 'PAUSED' || pause?.duration === undefined || pause.unit === undefined) return [];
    return [{ ref, status, duration: pause.duration, unit: pause.unit }];
  });
}

/** A step that shifts traffic has one view for each Deployment; the step after it depends on all of them. */
function stepViews(state: DeploymentRead['state'], index: number): CanaryStep[] {
  const step = state.outline.steps[index];
  const progress = state.steps[index];
  if (step === undefined || progress === undefined) throw new Error(`deployment ${state.id} has no step ${index}`);
  const refs = stepRefs(state.outline, index);
  const common = {
    status: progress.status,
    dependsOn: index === 0 ? [] : stepRefs(state.outline, index - 1),
    error: progress.status === 'FAILED' ? errorOf(state) : null,
    startedAtIso8601: moment(progress.startedAt),
    completedAtIso8601: moment(progress.completedAt),
  };
  if (step.kind === 'setWeight') {
    const { workloads } = state.outline;
    return refs.map((ref, workload) => ({
      ref,
      ...common,
      type: 'setWeight',
      deploymentKey: workloads[workload]?.name ?? null,
      setWeight: step.weight,
    }));
  }
  const approved = progress.approvedBy === undefined ? {} : { approvedBy: progress.approvedBy };
  const pause =
    'untilApproved' in step
      ? { untilApproved: true, approvalExpirationSeconds: step.approvalExpirationSeconds, ...approved }
      : { duration: step.duration, unit: step.unit };
  return refs.map((ref) => ({ ref, ...common, type: 'pause', deploymentKey: null, pause }));
}
