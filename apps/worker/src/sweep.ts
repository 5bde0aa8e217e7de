import type { Database } from '@cdaas/control-plane/database/db.ts';
import {
  claimDue,
  claimDuePipelines,
  type DrivenDeployment,
  type DrivenPipeline,
} from '@cdaas/control-plane/ownership.ts';
import type { Logger } from 'pino';

/**
 * The query that takes due and orphaned rows, every 250 ms and whenever a wake-up arrives. Postgres is the truth: with
 * every wake-up lost, a row is taken at most 250 ms late.
 */
export type Sweep = { now(): Promise<void>; close(): Promise<void> };

export type SweepDeps = {
  db: Database;
  workerId: number;
  log: Logger;
  own(row: DrivenDeployment): void;
  /** A deployment that this worker drives has news, and its row that version. */
  lookAt(deploymentId: string, version: number): void;
  pipeline(row: DrivenPipeline): Promise<void>;
  refresh(): Promise<void>;
};

const everyMs = 250;
const refreshEveryMs = 1000;
/** Few at a time, or the first of several workers takes everything. */
const rowsAtOnce = 16;

export function createSweep(deps: SweepDeps): Sweep {
  let closed = false;
  let running: Promise<void> | null = null;
  let again = false;
  let refreshedAt = 0;
  let failing = false;

  // One row that fails must not keep the others waiting; it is overdue in 20 s and taken again.
  const logged = (pipelineId: string) => (err: unknown) =>
    deps.log.error({ err, pipelineId }, 'deciding a pipeline failed');

  const once = async (): Promise<void> => {
    let tookAny = false;
    for (let more = true; more && !closed; ) {
      const pipelines = await claimDuePipelines(deps.db, deps.workerId, rowsAtOnce);
      for (const row of pipelines) await deps.pipeline(row).catch(logged(row.id));
      const { taken, news } = await claimDue(deps.db, deps.workerId, rowsAtOnce);
      for (const row of taken) deps.own(row);
      tookAny ||= taken.length > 0;
      for (const { id, version } of news) deps.lookAt(id, version);
      more = pipelines.length === rowsAtOnce || taken.length === rowsAtOnce;
    }
    // What a worker left behind that is gone may be the watches of its clusters as well.
    if ((Date.now() - refreshedAt < refreshEveryMs && !tookAny) || closed) return;
    refreshedAt = Date.now();
    await deps.refresh();
  };

  const now = (): Promise<void> => {
    if (closed) return Promise.resolve();
    if (running) {
      again = true;
      return running;
    }
    running = once()
      .then(
        () => {
          if (failing) deps.log.info('due work is taken again');
          failing = false;
        },
        (err) => {
          // Four times a second it would say the same.
          if (!failing) deps.log.error({ err }, 'taking due work fails');
          failing = true;
        },
      )
      .finally(() => {
        running = null;
        if (!again) return;
        again = false;
        void now();
      });
    return running;
  };

  const timer = setInterval(() => void now(), everyMs);
  return {
    now,
    async close() {
      closed = true;
      clearInterval(timer);
      await running;
    },
  };
}
