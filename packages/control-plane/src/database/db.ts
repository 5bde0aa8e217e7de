import { performance } from 'node:perf_hooks';
import { PrismaPg } from '@prisma/adapter-pg';
import pg from 'pg';
import type { Clock } from '../context.ts';
import { type Prisma, PrismaClient } from '../generated/client.ts';

/** The roles of the first migration. Neither may pass by Row-Level Security. */
export type DatabaseRole = 'cdaas_owner' | 'cdaas_api' | 'cdaas_worker';

/**
 * One statement past Prisma, at a third to a half of its CPU time: for the functions of the engine's hot path. Each
 * connection prepares it once, under its name. Its errors are those of `pg`.
 */
export type Sql = <Row extends pg.QueryResultRow>(name: string, text: string, values: unknown[]) => Promise<Row[]>;

export type Database = {
  prisma: PrismaClient;
  /** On the same connections as `prisma`. */
  sql: Sql;
  /** Postgres' clock, estimated to about a round trip. */
  clock: Clock;
  /** The connection string with the role in it, for connections outside Prisma's pool. */
  url: string;
  role: DatabaseRole;
  close(): Promise<void>;
};

export type Transaction = Prisma.TransactionClient;

/**
 * Connects as one of the roles, measures the server's clock, and with that makes the first query, which is the slow one.
 *
 * @param options.url whose user is a member of the role, as it is after migrating with it
 * @param options.poolSize connections at most; 10 unless told
 * @throws the driver's error where the server cannot be reached
 */
export async function openDatabase(options: {
  url: string;
  role: DatabaseRole;
  poolSize?: number;
  applicationName?: string;
}): Promise<Database> {
  const { role, poolSize = 10, applicationName = role.replace('_', ' ') } = options;
  const url = roleUrl(options.url, role);
  const pool = new pg.Pool({
    connectionString: url,
    max: poolSize,
    application_name: applicationName,
    keepAlive: true,
    keepAliveInitialDelayMillis: 2_000,
    connectionTimeoutMillis: 5_000,
    query_timeout: answerMs,
  });
  pool.on('connect', endWhenSilent);
  // A connection that is lost while nobody uses it leaves the pool, and is no reason to end the process.
  pool.on('error', () => {});
  const prisma = new PrismaClient({ adapter: new PrismaPg(pool), errorFormat: 'minimal' });
  const close = async () => {
    await prisma.$disconnect();
    await pool.end();
  };
  try {
    const clock = await openClock(prisma);
    return {
      prisma,
      sql: async (name, text, values) => (await pool.query({ name, text, values })).rows,
      clock,
      url,
      role,
      async close() {
        clock.stop();
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * After which a statement counts as lost, and its connection with it, as where the way to Postgres was lost without a word.
 * No longer than a transaction may take.
 */
const answerMs = 5_000;

/** Whatever else is asked over a connection that does not answer, such as a rollback, would wait as long again. */
function endWhenSilent(client: pg.PoolClient): void {
  const query = client.query.bind(client) as (...asked: unknown[]) => unknown;
  const ending = client as unknown as pg.Client;
  Object.assign(client, {
    query(...asked: unknown[]) {
      const answer = query(...asked);
      if (answer instanceof Promise) {
        answer.catch((error: unknown) => {
          if (error instanceof Error && error.message === 'Query read timeout') ending.end().catch(() => {});
        });
      }
      return answer;
    },
  });
}

/** The connection string with the start-up option that takes the role. */
export function roleUrl(url: string, role: DatabaseRole): string {
  return withSetting(url, 'role', role);
}

/** The connection string with a setting that each connection starts with, beside those it has already. */
export function withSetting(url: string, name: string, value: string): string {
  const parsed = new URL(url);
  const options = parsed.searchParams.get('options');
  parsed.searchParams.set('options', [options, `-c ${name}=${value}`].filter(Boolean).join(' '));
  // URLSearchParams writes a space as "+", which the driver would take literally.
  parsed.search = parsed.search.replaceAll('+', '%20');
  return parsed.href;
}

/**
 * One transaction that sees an organisation and, where named, one of its tenants: the tables of other tenants are empty in
 * it, and writing for them fails. Nothing slow belongs inside.
 *
 * @param options.timeoutMs after which the transaction is rolled back; 5 s unless told
 */
export async function scoped<T>(
  db: Pick<Database, 'prisma'>,
  scope: { organisationId: string; tenantId?: string | null },
  work: (tx: Transaction) => Promise<T>,
  options: { timeoutMs?: number } = {},
): Promise<T> {
  return db.prisma.$transaction(
    async (tx) => {
      await tx.$queryRaw`
        select set_config('app.org', ${scope.organisationId}, true), set_config('app.tenant', ${scope.tenantId ?? ''}, true)`;
      return work(tx);
    },
    { timeout: options.timeoutMs ?? 5_000, maxWait: 5_000 },
  );
}

const measureEveryMs = 10_000;

/**
 * Estimates the server's clock from round trips: the server's time lies somewhere between sending and receiving, so half
 * the round trip is the error at most. This process's own clock may be wrong or jump; its monotonic one does not.
 */
async function openClock(prisma: PrismaClient): Promise<Clock & { stop(): void }> {
  const measure = async () => {
    const sent = performance.now();
    const [row] = await prisma.$queryRaw<{ at: Date }[]>`select clock_timestamp() as at`;
    const received = performance.now();
    if (row === undefined) throw new Error('Postgres did not tell the time');
    return { offset: row.at.getTime() - (sent + received) / 2, roundTrip: received - sent };
  };
  await measure();
  let best = await measure();
  const timer = setInterval(() => {
    // A lost connection shows elsewhere; the clock runs on from the last measurement. A slow round trip measures badly, but
    // is taken in the end, because the two clocks drift.
    measure().then(
      (latest) => {
        best = latest.roundTrip <= best.roundTrip * 2 ? latest : { ...best, roundTrip: best.roundTrip * 2 };
      },
      () => {},
    );
  }, measureEveryMs);
  timer.unref();
  return {
    now: () => new Date(best.offset + performance.now()),
    stop: () => clearInterval(timer),
  };
}

/** The control plane's own id, made by the first migration; clusters' objects are marked with it. */
export async function instanceId(db: Pick<Database, 'prisma'>): Promise<string> {
  const row = await db.prisma.instance.findFirst();
  if (row === null) throw new Error('the database has no instance id: run npm run db:migrate');
  return row.id;
}
