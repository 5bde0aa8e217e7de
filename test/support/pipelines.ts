import { randomUUID } from 'node:crypto';
import type { Database } from '@cdaas/control-plane/db.ts';
import { newId } from '@cdaas/control-plane/ids.ts';
import { insertPipeline, type PipelineStart, type StartResult } from '@cdaas/control-plane/start-pipeline.ts';
import type { NewEvent, Transition } from '@cdaas/control-plane/transitions.ts';
import type { TestOrganisation } from './database.ts';

/** A start request with the given number of deployments, all due, whose contents mean nothing. */
export function pipelineStart(db: Database, organisation: TestOrganisation, deployments = 1): PipelineStart {
  const at = db.clock.now();
  const targets = Array.from({ length: deployments }, (_, index) => ({
    id: newId(at),
    clusterId: organisation.clusterId,
    target: `target-${index}`,
    account: 'nowhere',
    namespace: 'default',
    status: 'NOT_STARTED',
    plan: Uint8Array.of(1, 2, 3),
    state: { step: 0 },
    wakeAt: at,
  }));
  return {
    pipeline: {
      id: newId(at),
      application: `app-${randomUUID().slice(0, 8)}`,
      description: '',
      status: 'RUNNING',
      initiatedBy: 'ci',
      source: null,
      sourceControl: null,
      context: { reason: 'test' },
      config: Uint8Array.of(4, 5, 6),
      configDigest: 'digest',
      state: { begun: true },
      wakeAt: at,
    },
    deployments: targets,
    events: [
      { type: 'pipelineStarted', data: {}, at },
      ...targets.map(({ id }) => ({ deploymentId: id, type: 'started', data: {}, at })),
    ],
  };
}

/** Stores such a start; its ids come back. */
export async function startTestPipeline(
  api: Database,
  organisation: TestOrganisation,
  deployments = 1,
): Promise<{ pipelineId: string; deploymentIds: string[] }> {
  const start = pipelineStart(api, organisation, deployments);
  const result: StartResult = await insertPipeline(api, organisation, start);
  if (!('started' in result)) throw new Error(`not started: ${JSON.stringify(result)}`);
  return { pipelineId: start.pipeline.id, deploymentIds: start.deployments.map(({ id }) => id) };
}

export function eventOf(type: string, at: Date): NewEvent {
  return { type, data: { of: type }, message: `it was ${type}`, at };
}

/** A transition that runs on, with one event; what matters to a test it gives itself. */
export function transitionOf(
  row: { id: string; version: number },
  owner: number | null,
  at: Date,
  changes: Partial<Transition> = {},
): Transition {
  return {
    id: row.id,
    version: row.version,
    owner,
    state: { step: row.version },
    status: 'RUNNING',
    phase: null,
    wakeAt: new Date(at.getTime() + 10_000),
    done: false,
    events: [eventOf('stepped', at)],
    ...changes,
  };
}
