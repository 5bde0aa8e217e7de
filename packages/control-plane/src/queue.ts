import { createPostgresBackend, type PgPool, Queue, Worker, withBackend } from 'bullmq';
import pg from 'pg';
import { type DatabaseRole, roleUrl, withSetting } from './db.ts';
import { type Wake, wakeConcurrency, wakeJob, wakeJobOptions, wakeQueueName } from './jobs.ts';

/** Wake-ups between processes: BullMQ on Redis where there is one, else on Postgres. */
export type WakeQueue = {
  /**
   * Tells a worker to look at a row: its owner, where it has one. Call it after the commit. It never throws and waits a
   * second at most: a wake-up that is lost costs 250 ms, until the sweep.
   */
  enqueueWake(kind: Wake['kind'], id: string, owner?: number | null): Promise<void>;
  /** Serves the common queue and the worker's own, until `close`. What the handler throws goes to `onError`. */
  consume(workerId: number, handler: (wake: Wake) => Promise<void>): Promise<void>;
  /** Stops serving, waits for handlers that run, and lets go of the connections. */
  close(): Promise<void>;
};

type Options = {
  redisUrl?: string | undefined;
  databaseUrl: string;
  role: DatabaseRole;
  /** Told the first error of a run of them: an outage makes dozens a second. */
  onError?: (error: Error) => void;
};

const waitMs = 1_000;
const closeMs = 10_000;
const connectMs = 5_000;
/** So long without an error, and the next one begins another run. */
const quietMs = 5_000;

/**
 * Opens the queue. On Postgres the schema `bullmq` must be there, which `migrate` makes; a Redis that is down is waited for
 * in the background.
 */
export async function openQueue({ redisUrl, databaseUrl, role, ...options }: Options): Promise<WakeQueue> {
  const onError = firstOfRun(options.onError ?? (() => {}));
  const backend = redisUrl ? redisBackend(redisUrl) : await postgresBackend(databaseUrl, role, onError);
  const queues = new Map<string, Queue>();
  const workers: Worker[] = [];
  let own: Queue | undefined;
  let closing: Promise<void> | undefined;

  const queueOf = (name: string): Queue => {
    const known = queues.get(name);
    if (known) return known;
    const queue = backend.queue(name);
    queue.on('error', onError);
    queues.set(name, queue);
    return queue;
  };

  const close = async () => {
    await Promise.all(workers.map((worker) => attempt('closing', onError, () => worker.close(), closeMs)));
    // Nobody else will ever serve it.
    if (own) await attempt('removing the own queue', onError, async () => own?.obliterate({ force: true }));
    await Promise.all([...queues.values()].map((queue) => attempt('closing', onError, () => queue.close())));
    await backend.close();
  };

  return {
    async enqueueWake(kind, id, owner) {
      if (closing) return;
      await attempt(`the wake-up of ${kind} ${id}`, onError, () =>
        queueOf(wakeQueueName(owner)).add('wake', { kind, id } satisfies Wake, wakeJobOptions()),
      );
    },
    async consume(workerId, handler) {
      own = queueOf(wakeQueueName(workerId));
      for (const name of [wakeQueueName(), wakeQueueName(workerId)]) {
        const worker = backend.worker(name, async ({ data }) => handler(wakeJob.parse(data)));
        worker.on('error', onError);
        worker.on('failed', (_job, error) => onError(error));
        workers.push(worker);
      }
    },
    close: () => (closing ??= close()),
  };
}

type Backend = {
  queue(name: string): Queue;
  worker(name: string, process: (job: { data: unknown }) => Promise<void>): Worker;
  close(): Promise<void>;
};

function redisBackend(url: string): Backend {
  const prefix = 'cdaas';
  return {
    queue: (name) =>
      new Queue(name, { prefix, connection: { url, maxRetriesPerRequest: 1, enableOfflineQueue: false } }),
    worker: (name, process) =>
      new Worker(name, process, {
        prefix,
        concurrency: wakeConcurrency,
        connection: { url, maxRetriesPerRequest: null },
      }),
    close: async () => {},
  };
}

async function postgresBackend(url: string, role: DatabaseRole, onError: (error: Error) => void): Promise<Backend> {
  // One pool for all queues; each worker keeps a connection of it for LISTEN.
  const pool = new pg.Pool({
    connectionString: withSetting(roleUrl(url, role), 'search_path', 'bullmq'),
    application_name: 'cdaas queue',
    max: 8,
    keepAlive: true,
    connectionTimeoutMillis: connectMs,
  });
  pool.on('error', onError);
  const classes = withBackend(createPostgresBackend);
  // Its own words for the part of a pool that it uses are stricter about optional properties than pg's.
  const connection = pool as unknown as PgPool;
  return {
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
