import { advancePipeline } from '@cdaas/control-plane/advance-pipeline.ts';
import { closeInTurn } from '@cdaas/control-plane/close-in-turn.ts';
import { createClusterLoader } from '@cdaas/control-plane/clusters/access.ts';
import { type Database, instanceId } from '@cdaas/control-plane/database/db.ts';
import { createKubeClients } from '@cdaas/control-plane/drivers/kube-clients.ts';
import { createKubeEvents } from '@cdaas/control-plane/drivers/kube-events.ts';
import type { KubeLimits } from '@cdaas/control-plane/drivers/kube-transport.ts';
import type { Vault } from '@cdaas/control-plane/encryption.ts';
import { createEngine } from '@cdaas/control-plane/engine.ts';
import type { Outbound } from '@cdaas/control-plane/outbound.ts';
import { holdWorkerLock, liveWorkers, type UnfoldedEvent } from '@cdaas/control-plane/ownership.ts';
import type { WakeQueue } from '@cdaas/control-plane/queue.ts';
import { createCommitter } from '@cdaas/control-plane/transitions.ts';
import { createWatches, type Patience } from '@cdaas/control-plane/watches/watches.ts';
import type { Logger } from 'pino';
import { startHealthChecks } from './health.ts';
import { createSweep } from './sweep.ts';

/** `db` is open under the role cdaas_worker. Who made db and queue closes them, after the worker. */
export type WorkerDeps = {
  db: Database;
  queue: WakeQueue;
  vault: Vault;
  outbound: Outbound;
  log: Logger;
  /** Towards each cluster; what is left out is as usual. */
  clusterLimits?: Partial<KubeLimits>;
  clusterPatience?: Partial<Patience>;
  /** Between two looks at whether a cluster answers. */
  clusterCheckSeconds?: number;
};

export type Worker = { workerId: number; close(): Promise<void> };

/** How often queues are removed that workers left behind which were killed. */
const tidyEveryMs = 600_000;

/** Starts a worker: it takes due pipelines and deployments, drives them, and watches their clusters. */
export async function startWorker(deps: WorkerDeps): Promise<Worker> {
  const { db, queue, vault, outbound, log, clusterLimits = {}, clusterPatience = {}, clusterCheckSeconds = 30 } = deps;
  const lock = await holdWorkerLock(db, {
    onLost: (err) => log.warn({ err }, 'the liveness lock was lost'),
    onBack: () => log.info('the liveness lock is held again'),
  });
  const { workerId } = lock;
  const loadCluster = createClusterLoader({ db, vault });
  const clients = createKubeClients(loadCluster, outbound, {
    limits: clusterLimits,
    onAnswersAgain: ({ clusterId }) => engine.answersAgain(clusterId),
  });
  const committer = createCommitter(db);
  const wake = (id: string, news?: UnfoldedEvent[]) => engine.wake(id, news);
  const watches = createWatches({ db, clients, queue, workerId, log, wake, patience: clusterPatience });
  const instance = await instanceId(db);
  const kubeEvents = createKubeEvents({ clients, instance, log });
  const engine = createEngine({
    db,
    committer,
    clients,
    vault,
    watches,
    kubeEvents,
    workerId,
    instance,
    clock: db.clock,
    log,
    ended: () => void sweep.now(),
  });
  const sweep = createSweep({
    db,
    workerId,
    log,
    own: engine.own,
    lookAt: engine.lookAt,
    pipeline: (row) => advancePipeline({ db, clock: db.clock, queue, workerId, wake }, row),
    refresh: () => watches.refresh(),
  });
  await queue.consume(workerId, async ({ kind, id }) => {
    if (kind === 'deployment' && engine.owns(id)) engine.wake(id);
    else await Promise.all([sweep.now(), ...(kind === 'deployment' ? [watches.look(id)] : [])]);
  });
  const tidy = setInterval(() => void queue.removeAbandoned(() => liveWorkers(db)), tidyEveryMs);
  tidy.unref();
  const health = startHealthChecks({ db, loadCluster, outbound, log, everySeconds: clusterCheckSeconds });
  log.info({ workerId }, 'worker started');
  return {
    workerId,
    async close() {
      clearInterval(tidy);
      // The lock last: while it is held nobody else takes what this worker still drives.
      await closeInTurn(
        [health, sweep, engine, kubeEvents, watches, committer, clients, lock].map((part) => () => part.close()),
      );
      log.info({ workerId }, 'worker stopped');
    },
  };
}
