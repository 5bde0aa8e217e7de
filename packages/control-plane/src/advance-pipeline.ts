import { assertNever } from '@cdaas/pipeline/assert-never.ts';
import { dependencyWords } from '@cdaas/pipeline/deployment-machine.ts';
import { type DeploymentStatus, isFinal } from '@cdaas/pipeline/deployment-state.ts';
import {
  decidePipeline,
  isFinalPipeline,
  type PipelineEffect,
  type PipelineEvent,
  type PipelineState,
  readPipelineState,
} from '@cdaas/pipeline/pipeline-machine.ts';
import type { Clock } from './context.ts';
import type { Database } from './database/db.ts';
import { type DrivenPipeline, loadPipeline } from './ownership.ts';
import type { WakeQueue } from './queue.ts';
import { type PipelineDecision, advancePipeline as storePipeline } from './transitions.ts';

export type AdvancePipelineDeps = {
  db: Database;
  clock: Clock;
  queue: Pick<WakeQueue, 'enqueueWake'>;
  workerId: number;
  /** News was appended for a deployment that this worker drives. */
  wake(deploymentId: string): void;
};

/**
 * Decides a pipeline that this worker just claimed: folds its news and the ends of its deployments, and stores the
 * outcome together with what it tells its deployments. Overtaken by news, it starts again from what is stored now; one that
 * loses otherwise is left to the next sweep.
 */
export async function advancePipeline(deps: AdvancePipelineDeps, claimed: DrivenPipeline): Promise<void> {
  const reload = () => loadPipeline(deps.db, deps.workerId, claimed.id);
  let lost: number | null = null;
  for (let row: DrivenPipeline | null = claimed; row !== null && row.version !== lost; row = await reload()) {
    const at = deps.clock.now();
    let state = readPipelineState(row.state);
    const effects: PipelineEffect[] = [];
    const fold = (event: PipelineEvent) => {
      const decided = decidePipeline(state, event);
      state = decided.state;
      effects.push(...decided.effects);
    };
    for (const { type, data, at: happened } of row.news) {
      fold({ ...(data as object), type, at: happened.toISOString() } as PipelineEvent);
    }
    const ended = row.deployments.flatMap(({ id, target, status }) => {
      const known = state.targets.find(({ deployment }) => deployment === id);
      const end = status as DeploymentStatus;
      return known?.ended === null && isFinal(end) ? [{ deployment: id, target, status: end }] : [];
    });
    for (const { deployment, status } of ended) {
      fold({ type: 'targetEnded', at: at.toISOString(), deployment, status });
    }
    const done = isFinalPipeline(state.status);
    const stored = await storePipeline(deps.db, {
      id: row.id,
      version: row.version,
      owner: deps.workerId,
      state,
      status: state.status,
      wakeAt: null,
      ...(done ? { completedAt: at } : {}),
      events: [
        ...ended.map(({ deployment, target, status }) => ({
          type: 'targetEnded',
          data: { deployment, status },
          message: `Target ${target}: ${status}`,
          at,
        })),
        ...(done
          ? [{ type: 'pipelineEnded', data: { status: state.status }, message: `Pipeline ${state.status}`, at }]
          : []),
      ],
      deployments: effects.map((effect) => instruction(state, effect, at)),
    });
    if (!stored.won) {
      lost = row.version;
      continue;
    }
    for (const { id, owner } of stored.woken) {
      if (owner === deps.workerId) deps.wake(id);
      else await deps.queue.enqueueWake('deployment', id, owner);
    }
    return;
  }
}

/** What a deployment is told: always an event of its own, which its driver folds; only that begins, or ends, its run. */
function instruction(
  state: PipelineState,
  effect: PipelineEffect,
  at: Date,
): NonNullable<PipelineDecision['deployments']>[number] {
  const { deployment: id } = effect;
  const known = state.targets.find(({ deployment }) => deployment === id);
  if (known === undefined) throw new Error(`the pipeline has no deployment ${id}`);
  const { target, dependsOn } = known;
  switch (effect.kind) {
    case 'startDeployment': {
      const message = `Target ${target}: deployment begins; ${dependsOn.join(', ')} SUCCEEDED`;
      return { id, event: { type: 'started', data: {}, message, at } };
    }
    case 'withdrawDeployment': {
      const data = { target: effect.target, status: effect.status };
      const message = `Target ${target} is not deployed: ${dependencyWords(data)}`;
      return { id, event: { type: 'dependencyFailed', data, message, at } };
    }
    case 'cancelDeployment': {
      const message = `${effect.by} cancelled`;
      return { id, event: { type: 'cancelRequested', data: { by: effect.by }, message, at } };
    }
    default:
      return assertNever(effect);
  }
}
