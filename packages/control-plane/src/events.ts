import { AppError } from '@cdaas/contract/errors.ts';
import { isFinalPipeline } from '@cdaas/pipeline/pipeline-machine.ts';
import type { Logger } from 'pino';
import type { Context } from './context.ts';
import { type Database, scoped } from './database/db.ts';
import { listenForEvents } from './database/listen.ts';
import { isId } from './ids.ts';

export type StoredEvent = {
  number: number;
  deploymentId: string | null;
  /** The target of that deployment. */
  target: string | null;
  type: string;
  data: unknown;
  message: string | null;
  at: Date;
};

/** `last` is the number of the pipeline's newest event, `final` says that none will follow it. */
export type EventsRead = { events: StoredEvent[]; last: number; final: boolean };

type Scope = Context['scope'];

/**
 * Events of one pipeline with numbers above `after`, in order. Asked by number within the pipeline and never by "newer
 * than" over all: commits are not in the order of ids, and such a reader loses events.
 *
 * @throws AppError not.found
 */
export function readEvents(
  ctx: Pick<Context, 'db' | 'scope'>,
  input: { pipelineId: string; after: number; limit: number },
): Promise<EventsRead> {
  return readPage(ctx.db, ctx.scope, input);
}

async function readPage(
  db: Database,
  scope: Scope,
  { pipelineId, after, limit }: { pipelineId: string; after: number; limit: number },
): Promise<EventsRead> {
  const page = !isId(pipelineId)
    ? null
    : await scoped(db, scope, async (tx) => {
        // The pipeline first: a status that is final when read covers every event that the second query can miss.
        const pipeline = await tx.pipeline.findUnique({
          where: { id: pipelineId, tenantId: scope.tenantId },
          select: { status: true, lastEvent: true, deployments: { select: { id: true, target: true } } },
        });
        if (pipeline === null) return null;
        const events = await tx.event.findMany({
          where: { pipelineId, number: { gt: after } },
          orderBy: { number: 'asc' },
          take: limit,
          select: { number: true, deploymentId: true, type: true, data: true, message: true, at: true },
        });
        const last = Math.max(pipeline.lastEvent, events.at(-1)?.number ?? 0);
        const targets = new Map(pipeline.deployments.map(({ id, target }) => [id, target]));
        const named = events.map((event) => ({ ...event, target: targets.get(event.deploymentId ?? '') ?? null }));
        return { events: named, last, final: isFinalPipeline(pipeline.status) };
      });
  if (page === null) throw new AppError('not.found', `There is no pipeline ${pipelineId.slice(0, 100)}.`);
  return page;
}

/**
 * Wakes everybody who follows a pipeline, from one connection and one reader per process however many they are.
 */
export type EventHub = {
  /** Calls `onNews` whenever there is more of the pipeline than there was. */
  watch(scope: Scope, pipelineId: string, onNews: () => void): Watch;
  /** `readEvents`, shared by all who ask for the same page at the same moment. */
  read(scope: Scope, input: { pipelineId: string; after: number; limit: number }): Promise<EventsRead>;
  /** Aborted when the hub closes: streams end then. */
  closing: AbortSignal;
  close(): Promise<void>;
};

export type Watch = {
  /** Whether the hub has seen more than a reader who got so far: such a reader must not wait. */
  isAhead(of: { cursor: number; final: boolean }): boolean;
  stop(): void;
};

type Watched = { scope: Scope; pipelineId: string; last: number; final: boolean; listeners: Set<() => void> };

/**
 * @param pollMs how often to look without having been notified: notifications can be lost with a connection
 * @param settleMs how long to gather notifications before looking
 */
export async function createEventHub(options: {
  db: Database;
  log: Logger;
  pollMs?: number;
  settleMs?: number;
}): Promise<EventHub> {
  const { db, log, pollMs = 2_000, settleMs = 20 } = options;
  // By tenant too: whoever watches has not been asked yet whether the pipeline is theirs.
  const watched = new Map<string, Watched>();
  const keyOf = ({ tenantId }: Scope, pipelineId: string) => `${tenantId} ${pipelineId}`;
  const reads = new Map<string, Promise<EventsRead>>();
  const closing = new AbortController();
  let looking: Promise<void> | null = null;
  let again = false;
  let failing = false;

  async function look(): Promise<void> {
    const byTenant = Map.groupBy(watched.values(), ({ scope }) => scope.tenantId);
    for (const pipelines of byTenant.values()) {
      const scope = pipelines[0]?.scope;
      if (scope === undefined) continue;
      const ids = pipelines.map(({ pipelineId }) => pipelineId);
      const rows = await scoped(db, scope, (tx) =>
        tx.pipeline.findMany({ where: { id: { in: ids } }, select: { id: true, lastEvent: true, status: true } }),
      );
      for (const { id, lastEvent, status } of rows) {
        const entry = watched.get(keyOf(scope, id));
        const final = isFinalPipeline(status);
        if (entry === undefined || (lastEvent <= entry.last && final === entry.final)) continue;
        Object.assign(entry, { last: lastEvent, final });
        for (const listener of entry.listeners) listener();
      }
    }
  }

  function wake(): void {
    if (closing.signal.aborted || watched.size === 0) return;
    if (looking !== null) {
      again = true;
      return;
    }
    looking = new Promise<void>((resolve) => setTimeout(resolve, settleMs))
      .then(() => {
        again = false;
        return look();
      })
      .then(
        () => {
          failing = false;
        },
        (err: unknown) => {
          if (!failing) log.warn({ err }, 'events cannot be read for live views');
          failing = true;
        },
      )
      .finally(() => {
        looking = null;
        if (again) wake();
      });
  }

  const listener = await listenForEvents(db, wake, {
    onLost: (err) => log.warn({ err }, 'lost the connection for live views'),
    onBack: () => log.info('the connection for live views is back'),
  });
  const poll = setInterval(wake, pollMs);
  poll.unref();

  return {
    watch(scope, pipelineId, onNews) {
      const key = keyOf(scope, pipelineId);
      const entry = watched.get(key) ?? { scope, pipelineId, last: 0, final: false, listeners: new Set() };
      watched.set(key, entry);
      entry.listeners.add(onNews);
      return {
        isAhead: ({ cursor, final }) => cursor < entry.last || (entry.final && !final),
        stop() {
          entry.listeners.delete(onNews);
          if (entry.listeners.size === 0 && watched.get(key) === entry) watched.delete(key);
        },
      };
    },
    read(scope, input) {
      const key = `${scope.tenantId} ${input.pipelineId} ${input.after} ${input.limit}`;
      const running = reads.get(key);
      if (running !== undefined) return running;
      const started = readPage(db, scope, input).finally(() => reads.delete(key));
      reads.set(key, started);
      return started;
    },
    closing: closing.signal,
    async close() {
      closing.abort();
      clearInterval(poll);
      await listener.close();
      await looking;
    },
  };
}

export type Follow = {
  pipelineId: string;
  /** Number of the last event that the caller has. */
  after: number;
  /** Ends the stream: the client is gone. */
  signal: AbortSignal;
  /** Asked every `recheckMs`: may the caller still see this? */
  stillAllowed(): Promise<boolean>;
  pageSize?: number;
  idleMs?: number;
  recheckMs?: number;
};

/**
 * The events of a pipeline as they happen, `null` whenever nothing happened for `idleMs`. Ends after the pipeline's final
 * event, when access is lost, or when the process shuts down. Nothing is buffered: the next page is read when the
 * caller has taken the one before.
 *
 * @throws AppError not.found, before the first event
 */
export async function* followEvents(
  ctx: Pick<Context, 'scope'>,
  hub: EventHub,
  { pipelineId, after, signal, stillAllowed, pageSize = 100, idleMs = 15_000, recheckMs = 30_000 }: Follow,
): AsyncGenerator<StoredEvent | null, void> {
  const ended = AbortSignal.any([signal, hub.closing]);
  let cursor = after;
  let checkedAt = performance.now();
  let wakeUp: () => void = () => {};
  const watch = hub.watch(ctx.scope, pipelineId, () => wakeUp());
  try {
    while (!ended.aborted) {
      const page = await hub.read(ctx.scope, { pipelineId, after: cursor, limit: pageSize });
      for (const event of page.events) {
        yield event;
        cursor = event.number;
      }
      if (page.final && cursor >= page.last) return;
      if (performance.now() - checkedAt >= recheckMs) {
        if (!(await stillAllowed())) return;
        checkedAt = performance.now();
      }
      // By number and not by having been called: a page shared with others may be older than the call.
      const behind = () => watch.isAhead({ cursor, final: page.final });
      if (page.events.length === pageSize || behind() || ended.aborted) continue;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(idleMs, recheckMs));
        wakeUp = () => {
          clearTimeout(timer);
          ended.removeEventListener('abort', wakeUp);
          resolve();
        };
        ended.addEventListener('abort', wakeUp, { once: true });
      });
      ended.removeEventListener('abort', wakeUp);
      wakeUp = () => {};
      if (!behind() && !ended.aborted) yield null;
    }
  } finally {
    watch.stop();
  }
}
