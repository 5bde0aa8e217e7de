import { randomUUID } from 'node:crypto';
import type { Database } from '@cdaas/control-plane/database/db.ts';
import { newId } from '@cdaas/control-plane/ids.ts';
import { holdWorkerLock } from '@cdaas/control-plane/ownership.ts';
import { insertPipeline, type PipelineStart, type StartResult } from '@cdaas/control-plane/start-pipeline.ts';
import type { NewEvent, Transition } from '@cdaas/control-plane/transitions.ts';
import { openTestDatabase, type TestOrganisation, withOrganisation } from './database.ts';

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
    due: true,
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
      due: true,
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

/** A database with two organisations and a worker that is alive, for tests of the functions that drive. */
export type Driving = {
  url: string;
  api: Database;
  worker: Database;
  org: TestOrganisation;
  rival: TestOrganisation;
  workerId: number;
  now(): Date;
  later(ms: number): Date;
  /** Makes the worker the owner of a deployment, whatever else is due. */
  own(deploymentId: string): Promise<{ id: string; version: number }>;
  /** The numbers of a pipeline's events, in order. */
  numbersOf(pipelineId: string): Promise<number[]>;
  close(): Promise<void>;
};

export async function openDriving(name: string): Promise<Driving> {
  const open = await openTestDatabase(name, ['cdaas_api', 'cdaas_worker']);
  const { cdaas_api: api, cdaas_worker: worker } = open;
  const [org, rival] = [await withOrganisation(api), await withOrganisation(api)];
  const held = await holdWorkerLock(worker);
  const { workerId } = held;
  return {
    url: open.url,
    api,
    worker,
    org,
    rival,
    workerId,
    now: () => worker.clock.now(),
    later: (ms) => new Date(worker.clock.now().getTime() + ms),
    async own(id) {
      const data = { owner: workerId, version: { increment: 1 } };
      const { version } = await worker.prisma.deployment.update({ where: { id }, data, select: { version: true } });
      return { id, version };
    },
    async numbersOf(pipelineId) {
      const events = await worker.prisma.event.findMany({ where: { pipelineId }, orderBy: { number: 'asc' } });
      return events.map(({ number }) => number);
    },
    async close() {
      await held.close();
      await open.close();
    },
  };
}
