import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import pg from 'pg';

/** `onLost` is told once when a connection is lost, `onBack` once when it has been made again. */
export type ConnectionReports = { onLost?: (error: Error) => void; onBack?: () => void };

const firstRetryMs = 500;
const lastRetryMs = 5_000;
const connectTimeoutMs = 5_000;
/** A way to Postgres that was lost without a word shows by answers that do not come: 4 s after it was. */
const pingEveryMs = 1_000;
const answerMs = 3_000;

/** Asks again and again, until an answer does not come or the connection ends. */
async function ping(client: pg.Client): Promise<never> {
  for (;;) {
    await sleep(pingEveryMs, undefined, { ref: false });
    await inTime(client.query('select 1'));
  }
}

async function inTime(answer: Promise<unknown>): Promise<void> {
  const isThere = answer.then(() => true);
  const isLate = sleep(answerMs, false, { ref: false });
  if (await Promise.race([isThere, isLate])) return;
  // It may have come while this process stood still: what has arrived is read before the next turn.
  for (let count = 0; count < 2; count += 1) await turn();
  if (await Promise.race([isThere, turn(false)])) return;
  isThere.catch(() => {});
  throw new Error(`Postgres has not answered within ${answerMs / 1_000} s`);
}

/**
 * A connection to Postgres outside the pool that is made again whenever it is lost: one attempt at a time, the first after
 * half a second, then less and less often, every 5 s at last. One that no longer answers is lost as well.
 *
 * @param options.prepare makes a new connection ready, each time; what it throws counts as a failed attempt
 * @throws what the first attempt throws
 */
export async function keepConnected(
  options: {
    url: string;
    applicationName: string;
    prepare(client: pg.Client): Promise<void>;
  } & ConnectionReports,
): Promise<{ close(): Promise<void> }> {
  const closing = new AbortController();

  const open = async () => {
    const client = new pg.Client({
      connectionString: options.url,
      application_name: options.applicationName,
      keepAlive: true,
      keepAliveInitialDelayMillis: 2_000,
      connectionTimeoutMillis: connectTimeoutMs,
    });
    // A failed connection tells of it several times and in several ways; a promise is settled once.
    const over = Promise.withResolvers<Error>();
    client.on('error', over.resolve);
    client.on('end', () => over.resolve(new Error('Postgres closed the connection')));
    try {
      await client.connect();
      await inTime(options.prepare(client));
      void ping(client).catch(over.resolve);
      return { client, ended: over.promise };
    } catch (error) {
      client.end().catch(() => {});
      throw error;
    }
  };

  /** Null when it is closed meanwhile. */
  const reopen = async () => {
    for (let waitMs = firstRetryMs; ; waitMs = Math.min(waitMs * 2, lastRetryMs)) {
      await sleep(waitMs, undefined, { signal: closing.signal }).catch(() => {});
      if (closing.signal.aborted) return null;
      const opened = await open().catch(() => null);
      if (opened === null) continue;
      if (!closing.signal.aborted) return opened;
      await opened.client.end().catch(() => {});
      return null;
    }
  };

  let connection = await open();
  const keep = async () => {
    for (;;) {
      const error = await connection.ended;
      if (closing.signal.aborted) return;
      options.onLost?.(error);
      connection.client.end().catch(() => {});
      const opened = await reopen();
      if (opened === null) return;
      connection = opened;
      options.onBack?.();
    }
  };
  void keep();

  return {
    async close() {
      closing.abort();
      await connection.client.end().catch(() => {});
    },
  };
}
