import { randomUUID } from 'node:crypto';
import { z } from 'zod';

// The catalogue of queue jobs. A job carries ids and nothing else: the row in Postgres is the truth, and losing every job
// loses nothing but time.

/** "Somebody should look at this row now." */
export const wakeJob = z.strictObject({ kind: z.enum(['deployment', 'pipeline']), id: z.uuid() });
export type Wake = z.infer<typeof wakeJob>;

/** The queue that any worker serves, or with an owner the one that only this worker serves. BullMQ allows no colon. */
export function wakeQueueName(owner?: number | null): string {
  return owner ? `wake-${owner}` : 'wake';
}

/** The worker that alone serves a queue; undefined for the common one. */
export function workerOfQueue(name: string): number | undefined {
  const id = /^wake-(\d+)$/.exec(name)?.[1];
  return id === undefined ? undefined : Number(id);
}

/**
 * No retries: what a lost or failed wake-up leaves undone, the sweep finds within 250 ms. Nothing is kept of it. Ids of our
 * own, because BullMQ's on Postgres come from a sequence that the first role to use a queue would own; never the row's,
 * because adding a job whose id is being handled does nothing.
 */
export function wakeJobOptions() {
  return { jobId: randomUUID(), attempts: 1, removeOnComplete: true, removeOnFail: true };
}

/** Completing deadlocks on itself on Postgres from 50 at once on; both queues of a worker together stay at 10. */
export const wakeConcurrency = 5;
