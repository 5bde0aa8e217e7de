import { randomInt } from 'node:crypto';
import {
  type ClusterEvent,
  clusterEventsOf,
  renderClusterEvent,
  type Subject,
  subjectsOf,
} from '@cdaas/pipeline/cluster-events.ts';
import type { DeploymentState } from '@cdaas/pipeline/deployment-state.ts';
import type { Logger } from 'pino';
import type { KubeClient } from './kube.ts';
import type { ClusterKey, KubeClients } from './kube-clients.ts';

/*
 * Kubernetes Events, at best effort and beside everything else: one request at a time for each cluster, with pauses
 * between, from a bounded queue that nobody waits for. A cluster that is slow or refuses loses Events, never a step.
 */

export type KubeEvents = {
  /** Takes note of what became of a run between two of its states; answers at once. */
  tell(key: ClusterKey, before: DeploymentState, after: DeploymentState): void;
  close(): Promise<void>;
};

type Pending = { event: ClusterEvent; subject: Subject; name: string; at: number };
type Queue = { key: ClusterKey; pending: Pending[]; sending: Promise<void> | null; resumeAt: number; failures: number };

export type KubeEventsOptions = {
  clients: Pick<KubeClients, 'get'>;
  instance: string;
  log: Logger;
  /** Milliseconds since the epoch. */
  now?: () => number;
};

/** Events of one cluster that wait; the oldest makes room. */
const queueLength = 256;
/** News of one object that follows so soon becomes one Event, so that a quick canary does not flood its Service. */
const settleMs = 100;
const maxMergedLength = 1_000;
/**
 * Between two requests to a cluster, so that thousands of canaries spend their API server on weights: the more wait, the
 * longer, so that more of them becomes one. Without this a fifth of all requests of a hundred canaries were Events.
 */
const paceMs = 20;
const slowestPaceMs = 100;
const waitingForSlowest = 100;
const nanosPerMs = 1_000_000;
const timeoutMs = 3_000;
const firstPauseMs = 5_000;
const maxPauseMs = 300_000;
/** What has waited so long explains nothing any more. */
const staleMs = 120_000;

export function createKubeEvents({ clients, instance, log, now = Date.now }: KubeEventsOptions): KubeEvents {
  const queues = new Map<string, Queue>();
  const pauses = new Set<() => void>();
  let closed = false;
  let sequence = randomInt(nanosPerMs);

  const pause = (ms: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(done, ms);
      timer.unref();
      function done() {
        clearTimeout(timer);
        pauses.delete(done);
        resolve();
      }
      pauses.add(done);
    });

  /** As Kubernetes' own recorders name them: by the nanosecond, so that the order of names is that of time. */
  const nameOf = ({ ref }: Subject): string => {
    sequence = (sequence + 1) % nanosPerMs;
    return `${ref.name}.${(BigInt(now()) * BigInt(nanosPerMs) + BigInt(sequence)).toString(16)}`;
  };

  /** Whoever drives goes on, whatever is wrong here. */
  const wordsOf = ({ clusterId }: ClusterKey, before: DeploymentState, after: DeploymentState): ClusterEvent[] => {
    try {
      return clusterEventsOf(before, after);
    } catch (err) {
      log.error({ err, clusterId }, 'a state has no words for Kubernetes Events');
      return [];
    }
  };

  const add = (queue: Queue, event: ClusterEvent, subject: Subject): void => {
    const last = queue.pending.findLast(({ subject: { uid } }) => uid === subject.uid);
    if (last?.event.reason === event.reason && last.event.message.length < maxMergedLength) {
      // Of two weights the later one counts: neither must read as if both were so.
      last.event = { ...event, message: `${last.event.message}; then ${event.message}` };
      return;
    }
    if (queue.pending.length >= queueLength) queue.pending.shift();
    queue.pending.push({ event, subject, name: nameOf(subject), at: now() });
  };

  const send = async (queue: Queue): Promise<void> => {
    while (!closed && queue.pending.length > 0) {
      const next = queue.pending[0] as Pending;
      const waitMs = Math.max(next.at + settleMs, queue.resumeAt) - now();
      if (waitMs > 0) {
        await pause(waitMs);
        continue;
      }
      queue.pending.shift();
      if (now() - next.at > staleMs) continue;
      const client = await clients.get(queue.key).catch(() => undefined);
      if (!client) Object.assign(queue, { pending: [], failures: 0 });
      else if (await post(client, queue.key, next)) queue.failures = 0;
      else {
        queue.pending.unshift(next);
        queue.resumeAt = now() + Math.min(firstPauseMs * 2 ** queue.failures, maxPauseMs);
        queue.failures += 1;
      }
      const crowd = Math.min(queue.pending.length / waitingForSlowest, 1);
      await pause(paceMs + crowd * (slowestPaceMs - paceMs));
    }
  };

  /** False: the cluster does not take Events now. */
  const post = async (
    client: KubeClient,
    { clusterId }: ClusterKey,
    { event, subject, name, at }: Pending,
  ): Promise<boolean> => {
    const body = renderClusterEvent(event, subject, { name, instance, at: new Date(at).toISOString() });
    const { namespace } = body.metadata;
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace ?? '')}/events`;
    const outcome = await client.request({ method: 'POST', path, body, timeoutMs, bestEffort: true });
    // 409: stored by a try whose answer was lost. Other refusals (422, a namespace that goes) are of this Event alone.
    const isTaken = outcome.kind === 'answered' && ![401, 403, 429].includes(outcome.status) && outcome.status < 500;
    if (!isTaken) {
      const why = outcome.kind === 'answered' ? `HTTP ${outcome.status}` : outcome.reason;
      log.debug({ clusterId, why }, 'the cluster takes no Kubernetes Events');
    }
    return isTaken;
  };

  const work = (queue: Queue): void => {
    const { clusterId } = queue.key;
    queue.sending ??= send(queue)
      .catch((err) => log.error({ err, clusterId }, 'telling a cluster by Kubernetes Events failed'))
      .finally(() => {
        queue.sending = null;
        if (queue.pending.length > 0 && !closed) work(queue);
        else if (queue.failures === 0) queues.delete(clusterId);
      });
  };

  return {
    tell(key, before, after) {
      if (closed) return;
      const events = wordsOf(key, before, after);
      if (events.length === 0) return;
      let queue = queues.get(key.clusterId);
      if (!queue) {
        queue = { key, pending: [], sending: null, resumeAt: 0, failures: 0 };
        queues.set(key.clusterId, queue);
      }
      const subjects = subjectsOf({ ...after, objects: { ...before.objects, ...after.objects } });
      for (const event of events) for (const subject of subjects) add(queue, event, subject);
      work(queue);
    },
    async close() {
      closed = true;
      for (const stop of pauses) stop();
      await Promise.all([...queues.values()].map(({ sending }) => sending));
    },
  };
}
