import { setTimeout as sleep } from 'node:timers/promises';
import { createPostgresBackend, type PgPool, Queue, Worker, withBackend } from 'bullmq';
import { Redis } from 'ioredis';
import pg from 'pg';
import { type DatabaseRole, roleUrl, withSetting } from './database/db.ts';
import { type Wake, wakeConcurrency, wakeJob, wakeJobOptions, wakeQueueName, workerOfQueue } from './jobs.ts';

/** Wake-ups between processes: BullMQ on Redis where there is one, else on Postgres. */
export type WakeQueue = {
  /**
   * Tells a worker to look at a row: its owner, where it has one. Call it after the commit. It never throws and waits a
   * second at most: a wake-up that is lost costs 250 ms, until the sweep.
   */
  enqueueWake(kind: Wake['kind'], id: string, owner?: number | null): Promise<void>;
  /** Serves the common queue and the worker's own, until `close`. What the handler throws goes to `onError`. */
  consume(workerId: number, handler: (wake: Wake) => Promise<void>): Promise<void>;
  /**
   * Removes the queues of workers that are not alive, which nobody will ever serve. Who is alive is asked after the queues
   * were listed: a worker is alive before it has one. What goes wrong goes to `onError`.
   */
  removeAbandoned(liveWorkers: () => Promise<ReadonlySet<number>>): Promise<void>;
  /** Stops serving, waits for handlers that run, and lets go of the connections. */
  close(): Promise<void>;
};

type Options = {
  redisUrl?: string | undefined;
  databaseUrl: string;
  role: DatabaseRole;
  /** Told the first error of a run of them: an outage makes dozens a second. */
  onError?: (error: Error) => void;
  /** How long the queue of a worker that nobody woke is kept open. */
  idleMs?: number;
};

const waitMs = 1_000;
const closeMs = 10_000;
const connectMs = 5_000;
const failMs = 250;
const usualIdleMs = 300_000;
/** So long without an error, and the next one begins another run. */
const quietMs = 5_000;

/**
 * Opens the queue. On Postgres the schema `bullmq` must be there, which `migrate` makes; a Redis that is down is waited for
 * in the background.
 */
export async function openQueue({ redisUrl, databaseUrl, role, ...options }: Options): Promise<WakeQueue> {
  const onError = firstOfRun(options.onError ?? (() => {}));
  const backend = redisUrl ? redisBackend(redisUrl, onError) : await postgresBackend(databaseUrl, role, onError);
  const { idleMs = usualIdleMs } = options;
  const queues = new Map<string, { queue: Queue; users: number; usedAt: number }>();
  const workers: Worker[] = [];
  let own: Queue | undefined;
  let closing: Promise<void> | undefined;

  const opened = (name: string) => {
    const known = queues.get(name);
    if (known) return known;
    const queue = backend.queue(name);
    queue.on('error', onError);
    const entry = { queue, users: 0, usedAt: performance.now() };
    queues.set(name, entry);
    return entry;
  };

  const use = async (name: string, work: (queue: Queue) => Promise<unknown>) => {
    const entry = opened(name);
    entry.users += 1;
    try {
      await work(entry.queue);
    } finally {
      entry.users -= 1;
      entry.usedAt = performance.now();
    }
  };

  // Workers come and go; each that was ever woken would leave one behind.
  const closeIdle = () => {
    const now = performance.now();
    for (const [name, { queue, users, usedAt }] of queues) {
      if (queue === own || users > 0 || now - usedAt < idleMs) continue;
      queues.delete(name);
      void attempt('closing', onError, () => queue.close());
    }
  };
  const timer = setInterval(closeIdle, idleMs);
  timer.unref();

  const close = async () => {
    clearInterval(timer);
    await Promise.all(workers.map((worker) => attempt('closing', onError, () => worker.close(), closeMs)));
    // Nobody else will ever serve it.
    if (own) await attempt('removing the own queue', onError, async () => own?.obliterate({ force: true }));
    await Promise.all([...queues.values()].map(({ queue }) => attempt('closing', onError, () => queue.close())));
    await backend.close();
  };

  return {
    async enqueueWake(kind, id, owner) {
      if (closing) return;
      await attempt(`the wake-up of ${kind} ${id}`, onError, () =>
        use(wakeQueueName(owner), (queue) => queue.add('wake', { kind, id } satisfies Wake, wakeJobOptions())),
      );
    },
    async consume(workerId, handler) {
      own = opened(wakeQueueName(workerId)).queue;
      for (const name of [wakeQueueName(), wakeQueueName(workerId)]) {
        const worker = backend.worker(name, async ({ data }) => handler(wakeJob.parse(data)));
        worker.on('error', onError);
        worker.on('failed', (_job, error) => onError(error));
        workers.push(worker);
      }
    },
    async removeAbandoned(liveWorkers) {
      if (closing) return;
      await attempt(
        'removing abandoned queues',
        onError,
        async () => {
          const names = await backend.names();
          const live = await liveWorkers();
          for (const name of names) {
            const worker = workerOfQueue(name);
            if (worker !== undefined && !live.has(worker))
              await use(name, (queue) => queue.obliterate({ force: true }));
          }
        },
        closeMs,
      );
    },
    close: () => (closing ??= close()),
  };
}

type Backend = {
  queue(name: string): Queue;
  /** Of the queues that are stored. */
  names(): Promise<string[]>;
  worker(name: string, process: (job: { data: unknown }) => Promise<void>): Worker;
  close(): Promise<void>;
};

function redisBackend(url: string, onError: (error: Error) => void): Backend {
  const prefix = 'cdaas';
  // One connection for all that is sent; each worker, which blocks on its own, has another.
  const connection = new Redis(url, { maxRetriesPerRequest: 1, enableOfflineQueue: false });
  connection.on('error', onError);
  return {
    queue: (name) => new Queue(name, { prefix, connection }),
    names: async () => {
      const names = new Set<string>();
      for await (const keys of connection.scanStream({ match: `${prefix}:*`, count: 1_000 }))
        for (const key of keys as string[]) names.add(key.split(':')[1] ?? '');
      return [...names];
    },
    worker: (name, process) =>
      new Worker(name, process, {
        prefix,
        concurrency: wakeConcurrency,
        connection: { url, maxRetriesPerRequest: null },
      }),
    close: async () => connection.disconnect(),
  };
}

async function postgresBackend(url: string, role: DatabaseRole, onError: (error: Error) => void): Promise<Backend> {
  // One pool for all queues; each worker keeps a connection of it for LISTEN.
  const pool = new pg.Pool({
    connectionString: withSetting(roleUrl(url, role), 'search_path', 'bullmq'),
    application_name: 'cdaas queue',
    max: 8,
    keepAlive: true,
    keepAliveInitialDelayMillis: 2_000,
    connectionTimeoutMillis: connectMs,
  });
  pool.on('error', onError);
  const classes = withBackend(createPostgresBackend);
  // What fails does so no more often than that: BullMQ asks again at once where a connection was refused.
  const slowly = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      await sleep(failMs);
      throw error;
    }
  };
  // The pool without its events: each queue would add a listener that closing the queue leaves behind. BullMQ's words for
  // the part of a pool that it uses are stricter about optional properties than pg's.
  const connection = {
    options: pool.options,
    query: (text: string, values?: unknown[]) => slowly(() => pool.query(text, values)),
    connect: () => slowly(() => pool.connect()),
    end: async () => {},
    on: () => connection,
    removeAllListeners: () => connection,
  } as unknown as PgPool;
  return {
    names: async () =>
      (await pool.query<{ queue: string }>('select queue from meta union select queue from job')).rows.map(
        (row) => row.queue,
      ),
    queue: (name) => new classes.Queue(name, { connection }) as unknown as Queue,
    worker: (name, process) =>
      new classes.Worker(name, process, { connection, concurrency: wakeConcurrency }) as unknown as Worker,
    close: () => pool.end(),
  };
}

function firstOfRun(onError: (error: Error) => void): (error: Error) => void {
  let lastAt = Number.NEGATIVE_INFINITY;
  return (error) => {
    const now = performance.now();
    if (now - lastAt > quietMs) onError(error);
    lastAt = now;
  };
}

/** Does something that may hang while Redis is away, and hands on what goes wrong instead of throwing it. */
async function attempt(what: string, onError: (error: Error) => void, work: () => Promise<unknown>, ms = waitMs) {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the queue did not answer in ${ms} ms: ${what}`)), ms);
  });
  try {
    await Promise.race([work(), late]);
  } catch (error) {
    onError(error instanceof Error ? error : new Error(String(error)));
  } finally {
    clearTimeout(timer);
  }
}
