import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, beforeEach, describe, it } from 'node:test';
import { roleUrl } from '@cdaas/control-plane/database/db.ts';
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
