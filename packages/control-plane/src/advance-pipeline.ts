import { type DeploymentStatus, isFinal } from '@cdaas/pipeline/deployment-state.ts';
import {
  decidePipeline,
  isFinalPipeline,
  type PipelineEffect,
  type PipelineEvent,
  readPipelineState,
} from '@cdaas/pipeline/pipeline-machine.ts';
import type { Clock } from './context.ts';
import type { Database } from './db.ts';
import { type DrivenPipeline, loadPipeline } from './ownership.ts';
import type { WakeQueue } from './queue.ts';
import { advancePipeline as storePipeline } from './transitions.ts';

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
 * outcome together with what it tells its deployments. Overtaken by news, it starts again from what is stored now.
 */
export async function advancePipeline(deps: AdvancePipelineDeps, claimed: DrivenPipeline): Promise<void> {
  const reload = () => loadPipeline(deps.db, deps.workerId, claimed.id);
  for (let row: DrivenPipeline | null = claimed; row !== null; row = await reload()) {
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
      const known = state.targets[id];
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
      deployments: effects.map((effect) => instruction(effect, at)),
    });
    if (!stored.won) continue;
    for (const { id, owner } of stored.woken) {
      if (owner === deps.workerId) deps.wake(id);
      else await deps.queue.enqueueWake('deployment', id, owner);
    }
    return;
  }
}

function instruction(effect: PipelineEffect, at: Date) {
  switch (effect.kind) {
    case 'startDeployment':
      return { id: effect.deployment };
    case 'cancelDeployment':
      return {
        id: effect.deployment,
        event: { type: 'cancelRequested', data: { by: effect.by }, message: `${effect.by} cancelled`, at },
      };
  }
}
