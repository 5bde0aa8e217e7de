import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, beforeEach, describe, it } from 'node:test';
import { openDatabase, roleUrl } from '@cdaas/control-plane/database/db.ts';
import { listenForEvents } from '@cdaas/control-plane/database/listen.ts';
import { holdWorkerLock } from '@cdaas/control-plane/ownership.ts';
import { openQueue } from '@cdaas/control-plane/queue.ts';
import { openTestDatabase, withOrganisation } from '../support/database.ts';
import { startTestPipeline } from '../support/pipelines.ts';
import { withAdmin } from '../support/postgres.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

let open: Awaited<ReturnType<typeof openTestDatabase<'cdaas_api'>>>;
let proxy: TcpProxy;
let url: string;

before(async () => {
  open = await openTestDatabase('outage', ['cdaas_api']);
  const direct = new URL(open.url);
  proxy = await startTcpProxy({ host: direct.hostname, port: Number(direct.port) });
  direct.port = String(proxy.port);
  url = direct.href;
});

beforeEach(() => {
  proxy.attempts.length = 0;
});

after(async () => {
  await proxy.close();
  await open.close();
});

/** Cuts the way to Postgres until so many attempts were made, and answers the times between them. */
async function outage(attempts: number): Promise<number[]> {
  proxy.down();
  await until(() => proxy.attempts.length >= attempts, `${attempts} attempts`);
  proxy.up();
  return proxy.attempts.slice(1).map((at, index) => at - (proxy.attempts[index] ?? 0));
}

describe('while Postgres is away', () => {
  it('listening is tried again less and less often, told once, and goes on', async (t) => {
    const reports: string[] = [];
    let told = 0;
    const listener = await listenForEvents({ url: roleUrl(url, 'cdaas_api') }, () => told++, {
      onLost: () => reports.push('lost'),
      onBack: () => reports.push('back'),
    });
    t.after(() => listener.close());
    const [first = 0, second = 0] = await outage(3);
    assert.equal(proxy.attempts.length, 3);
    assert.ok(first > 900 && second > 1_900, `attempts came ${first} and ${second} ms apart`);
    assert.deepEqual(reports, ['lost']);
    await until(() => reports.length > 1, 'the connection to be back');
    assert.deepEqual(reports, ['lost', 'back']);
    assert.equal(told, 1, 'whoever listens looks what it missed');
    await startTestPipeline(open.cdaas_api, await withOrganisation(open.cdaas_api));
    await until(() => told > 1, 'the events to be told');
  });

  it('the worker lock is tried for less and less often, told once, and held again', async (t) => {
    const reports: string[] = [];
    const held = await holdWorkerLock(
      { url: roleUrl(url, 'cdaas_worker') },
      { onLost: () => reports.push('lost'), onBack: () => reports.push('back') },
    );
    t.after(() => held.close());
    const [first = 0] = await outage(2);
    assert.equal(proxy.attempts.length, 2);
    assert.ok(first > 900, `attempts came ${first} ms apart`);
    await until(() => reports.length > 1, 'the connection to be back');
    assert.deepEqual(reports, ['lost', 'back']);
    const { rows } = await withAdmin(open.url, (admin) =>
      admin.query<{ held: boolean }>('select $1 = any (live_workers()) as held', [held.workerId]),
    );
    assert.equal(rows[0]?.held, true);
  });

  it('the worker lock and listening notice that the way was lost without a word, and go on another', async (t) => {
    const reports: string[] = [];
    let told = 0;
    const back = (name: string) => ({ onLost: () => {}, onBack: () => reports.push(name) });
    const held = await holdWorkerLock({ url: roleUrl(url, 'cdaas_worker') }, back('lock'));
    t.after(() => held.close());
    const listener = await listenForEvents({ url: roleUrl(url, 'cdaas_api') }, () => told++, back('listening'));
    t.after(() => listener.close());
    proxy.silent();
    await until(() => reports.includes('listening'), 'listening again', 15_000);
    await startTestPipeline(open.cdaas_api, await withOrganisation(open.cdaas_api));
    await until(() => told > 1, 'the events to be told');
    // The server keeps the lock for a connection until it knows that it is lost.
    await withAdmin(open.url, (admin) =>
      admin.query(
        `select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 order by backend_start limit 1`,
        [`cdaas worker ${held.workerId}`],
      ),
    );
    await until(() => reports.includes('lock'), 'the lock to be held again', 15_000);
  });

  it('statements and transactions on a way that was lost without a word end in 5 s, and the next go another', async (t) => {
    const db = await openDatabase({ url, role: 'cdaas_worker', poolSize: 2 });
    t.after(() => db.close());
    const begun = Promise.withResolvers<void>();
    const cut = Promise.withResolvers<void>();
    const transaction = db.prisma.$transaction(
      async (tx) => {
        await tx.$queryRaw`select 1`;
        begun.resolve();
        await cut.promise;
        await tx.$queryRaw`select 2`;
      },
      { timeout: 30_000 },
    );
    await begun.promise;
    // On the other connection of the two.
    await db.sql('one', 'select 1 as one', []);
    proxy.silent();
    const at = performance.now();
    cut.resolve();
    await Promise.all([assert.rejects(transaction), assert.rejects(db.sql('one', 'select 1 as one', []))]);
    assert.deepEqual(await db.sql('one', 'select 1 as one', []), [{ one: 1 }]);
    const [row] = await db.prisma.$queryRaw<{ two: number }[]>`select 2 as two`;
    assert.equal(row?.two, 2);
    const tookMs = performance.now() - at;
    assert.ok(tookMs < 9_000, `it took ${Math.round(tookMs)} ms`);
  });

  it('a connection that is closed meanwhile is not made again', async () => {
    const listener = await listenForEvents({ url: roleUrl(url, 'cdaas_api') }, () => {});
    await outage(1);
    proxy.down();
    await listener.close();
    proxy.up();
    const { rows } = await withAdmin(open.url, (admin) =>
      admin.query(
        `select from pg_stat_activity where application_name = 'cdaas events' and datname = current_database()`,
      ),
    );
    assert.equal(rows.length, 0);
  });

  it('the queue tries some times a second, tells it once, and serves again', async (t) => {
    let errors = 0;
    const served: string[] = [];
    const [first, second] = [randomUUID(), randomUUID()];
    const queue = await openQueue({ databaseUrl: url, role: 'cdaas_worker', onError: () => errors++ });
    t.after(() => queue.close());
    await queue.consume(1, async ({ id }) => void served.push(id));
    await queue.enqueueWake('pipeline', first);
    await until(() => served.includes(first), 'the first wake');
    const gaps = await outage(20);
    const meanMs = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    assert.ok(meanMs > 20, `${Math.round(1000 / meanMs)} attempts a second`);
    await until(async () => {
      await queue.enqueueWake('pipeline', second);
      return served.includes(second);
    }, 'a wake after the outage');
    assert.equal(errors, 1);
  });
});
