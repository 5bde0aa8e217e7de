import type { EventEmitter } from 'node:events';
import type { Database } from '@cdaas/control-plane/database/db.ts';
import type { DeploymentState, DeploymentStatus } from '@cdaas/pipeline/deployment-state.ts';
import { isFinal } from '@cdaas/pipeline/deployment-state.ts';

export type Seen = {
  status: DeploymentStatus;
  pipelineStatus: string;
  state: DeploymentState;
  version: number;
  owner: number | null;
  /** Of the whole pipeline. */
  events: {
    number: number;
    deploymentId: string | null;
    type: string;
    data: Record<string, unknown>;
    message: string | null;
    at: Date;
  }[];
};

/** One target of a pipeline in progress. */
export type Run = {
  pipelineId: string;
  deploymentId: string;
  now(): Promise<Seen>;
  /** Waits until what is stored is such. */
  until(what: string, holds: (seen: Seen) => boolean, timeoutMs?: number): Promise<Seen>;
  /** Waits for its end, of the pipeline too. */
  end(timeoutMs?: number): Promise<Seen>;
};

/** `stirred` emits `event` whenever something was committed. */
export function watchRun(
  { prisma }: Pick<Database, 'prisma'>,
  stirred: EventEmitter,
  { pipelineId, deploymentId }: { pipelineId: string; deploymentId: string },
): Run {
  const now = async (): Promise<Seen> => {
    const row = await prisma.deployment.findUniqueOrThrow({
      where: { id: deploymentId },
      select: { state: true, status: true, version: true, owner: true, pipeline: { select: { status: true } } },
    });
    const events = await prisma.event.findMany({ where: { pipelineId }, orderBy: { number: 'asc' } });
    return {
      status: row.status as DeploymentStatus,
      pipelineStatus: row.pipeline.status,
      state: row.state as unknown as DeploymentState,
      version: row.version,
      owner: row.owner,
      events: events.map(({ number, deploymentId, type, data, message, at }) => ({
        number,
        deploymentId,
        type,
        data: data as never,
        message,
        at,
      })),
    };
  };
  const until: Run['until'] = (what, holds, timeoutMs = 30_000) =>
    new Promise((resolve, reject) => {
      let looking = false;
      let again = false;
      let last: Seen | undefined;
      const finish = (act: () => void) => {
        clearTimeout(timer);
        clearInterval(slow);
        stirred.off('event', look);
        act();
      };
      const look = () => {
        if (looking) {
          again = true;
          return;
        }
        looking = true;
        now()
          .then((seen) => {
            last = seen;
            if (holds(seen)) finish(() => resolve(seen));
          })
          .catch((error) => finish(() => reject(error)))
          .finally(() => {
            looking = false;
            if (!again) return;
            again = false;
            look();
          });
      };
      const timer = setTimeout(
        () => finish(() => reject(new Error(`${what}: not within ${timeoutMs} ms\n${last ? tell(last) : ''}`))),
        timeoutMs,
      );
      // A notification that is lost while reconnecting must not cost the test.
      const slow = setInterval(look, 500);
      stirred.on('event', look);
      look();
    });
  const ended = ({ status, pipelineStatus }: Seen) => isFinal(status) && pipelineStatus !== 'RUNNING';
  return { pipelineId, deploymentId, now, until, end: (timeoutMs) => until('the end', ended, timeoutMs) };
}

/** A run as a person would read it, for messages of tests that fail. */
export function tell({ status, state, events }: Seen): string {
  const lines = events.map(({ number, type, message, data }) => {
    return `  ${number} ${type} ${message ?? ''} ${JSON.stringify(data).slice(0, 200)}`;
  });
  const { survey, outline, ...rest } = state;
  return `${status} at ${state.at}\n${lines.join('\n')}\n${JSON.stringify(rest)}`;
}
