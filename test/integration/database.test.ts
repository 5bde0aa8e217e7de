import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type Database, openDatabase, roleUrl, scoped, withSetting } from '@cdaas/control-plane/database/db.ts';
import { isDatabaseUnavailable, isUniqueViolation } from '@cdaas/control-plane/database/errors-db.ts';
import { ensureClient } from '@cdaas/control-plane/database/generate.ts';
import { listenForEvents } from '@cdaas/control-plane/database/listen.ts';
import { openTestDatabase, withOrganisation } from '../support/database.ts';
import { startTestPipeline } from '../support/pipelines.ts';
import { databaseUrl, withAdmin } from '../support/postgres.ts';
import { until } from '../support/until.ts';

let open: Awaited<ReturnType<typeof openTestDatabase<'cdaas_api'>>>;

before(async () => {
  open = await openTestDatabase('database', ['cdaas_api']);
});

after(() => open.close());

/** `npm run db:…`, as a person runs it. */
async function prismaScript(url: string, ...args: string[]): Promise<{ code: number; out: string }> {
  const script = fileURLToPath(new URL('../../scripts/prisma.ts', import.meta.url));
  const run = promisify(execFile)(process.execPath, ['--disable-warning=ExperimentalWarning', script, ...args], {
    env: { ...process.env, DATABASE_URL: url },
  });
  return run.then(
    ({ stdout }) => ({ code: 0, out: stdout }),
    (error: { code: number; stdout: string; stderr: string }) => ({
      code: error.code,
      out: error.stdout + error.stderr,
    }),
  );
}

const failed = (db: Database, text: string): Promise<unknown> => db.sql('', text, []).catch((error: unknown) => error);

async function withEmptyDatabase(work: (url: string) => Promise<void>): Promise<void> {
  const name = `cdaas_test_empty_${process.pid}`;
  await withAdmin(open.url, (admin) => admin.query(`create database ${name}`));
  try {
    await work(databaseUrl(open.url, name));
  } finally {
    await withAdmin(open.url, (admin) => admin.query(`drop database ${name} with (force)`));
  }
}

describe('migrating', () => {
  it('twice, or twice at once, changes nothing more', async () => {
    await withEmptyDatabase(async (url) => {
      const [a, b] = await Promise.all([prismaScript(url, 'migrate'), prismaScript(url, 'migrate')]);
      assert.deepEqual([a.code, b.code], [0, 0], a.out + b.out);
      assert.equal([a.out, b.out].filter((out) => out.startsWith('Applied')).length, 1);
      const again = await prismaScript(url, 'migrate');
      assert.deepEqual(again, { code: 0, out: 'The database is up to date.\n' });
    });
  });

  it('leaves the database as the schema describes it', async () => {
    // If this fails, the schema changed without a migration: run `npm run db:new -- <verb_what>`.
    assert.deepEqual(await prismaScript(open.url, 'diff'), { code: 0, out: 'The schema and the migrations agree.\n' });
  });

  it('says in a sentence why it cannot', async () => {
    const cases: [string, string[], RegExp][] = [
      ['postgresql://127.0.0.1:1/none', ['migrate'], /^The database cannot be reached: .*Check DATABASE_URL\.\n$/],
      ['mysql://localhost', ['migrate'], /^DATABASE_URL must look like postgresql:/],
      ['', ['migrate'], /^DATABASE_URL is not set: "migrate" needs a PostgreSQL server\.\n$/],
      [open.url, ['new', 'Bad Name'], /^"Bad Name" is no migration name/],
    ];
    for (const [url, args, message] of cases) {
      const { code, out } = await prismaScript(url, ...args);
      assert.equal(code, 1);
      assert.match(out, message);
    }
    assert.equal((await prismaScript(open.url, 'nonsense')).code, 2);
  });

  it('needs no superuser: a user who owns the database and may take the roles is enough', async () => {
    const user = `cdaas_test_user_${process.pid}`;
    await withAdmin(open.url, async (admin) => {
      await admin.query(`create role ${user} login password 'test'`);
      await admin.query(`grant cdaas_owner, cdaas_api, cdaas_worker to ${user}`);
    });
    await withEmptyDatabase(async (url) => {
      await withAdmin(url, (admin) => admin.query(`alter database ${new URL(url).pathname.slice(1)} owner to ${user}`));
      const plain = new URL(url);
      [plain.username, plain.password] = [user, 'test'];
      const { code, out } = await prismaScript(plain.href, 'migrate');
      assert.equal(code, 0, out);
      const db = await openDatabase({ url: plain.href, role: 'cdaas_api' });
      await startTestPipeline(db, await withOrganisation(db));
      await db.close();
    });
    await withAdmin(open.url, (admin) => admin.query(`drop role ${user}`));
  });

  it('names an earlier migration that failed and blocks', async () => {
    await withEmptyDatabase(async (url) => {
      await prismaScript(url, 'migrate');
      await withAdmin(url, (admin) =>
        admin.query(`update _prisma_migrations set finished_at = null, applied_steps_count = 0
          where migration_name like '%create_functions'`),
      );
      const { code, out } = await prismaScript(url, 'migrate');
      assert.equal(code, 1);
      assert.match(out, /^Migration \d+_create_functions failed earlier and blocks the later ones\./);
    });
  });
});

describe('the client', () => {
  it('is generated again only when the schema changed', async () => {
    assert.equal(await ensureClient(), false);
  });
});

describe('a connection', () => {
  it('keeps the options that the connection string has', async () => {
    const url = new URL(roleUrl(withSetting(open.url, 'work_mem', '5MB'), 'cdaas_api'));
    assert.equal(url.searchParams.get('options'), '-c work_mem=5MB -c role=cdaas_api');
    const db = await openDatabase({ url: withSetting(open.url, 'work_mem', '5MB'), role: 'cdaas_worker', poolSize: 1 });
    const rows = await db.prisma.$queryRaw`select current_setting('work_mem') as memory, current_user::text as role`;
    assert.deepEqual(rows, [{ memory: '5MB', role: 'cdaas_worker' }]);
    await db.close();
  });

  it("tells the time by Postgres' clock", async () => {
    const db = open.cdaas_api;
    const before = db.clock.now();
    const [row] = await db.prisma.$queryRaw<{ at: Date }[]>`select clock_timestamp() as at`;
    const after = db.clock.now();
    assert.ok(row);
    // Within the round trip, and the millisecond that dates are cut to.
    assert.ok(row.at.getTime() >= before.getTime() - 20 && row.at.getTime() <= after.getTime() + 20);
  });

  it('that cannot be made, or whose server is gone, is told from a wrong request', async () => {
    const refused = await openDatabase({ url: 'postgresql://127.0.0.1:1/x', role: 'cdaas_api' }).catch(
      (error) => error,
    );
    assert.ok(isDatabaseUnavailable(refused), String(refused));

    const db = await openDatabase({ url: open.url, role: 'cdaas_api', poolSize: 1, applicationName: 'cdaas cut' });
    const cut = db.prisma.$queryRaw`select pg_sleep(30)`.catch((error: unknown) => error);
    await withAdmin(open.url, async (admin) => {
      const kill = `select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = 'cdaas cut' and state = 'active'`;
      while ((await admin.query(kill)).rowCount === 0);
    });
    assert.ok(isDatabaseUnavailable(await cut));
    const wrong = await db.prisma.$queryRaw`select nothing_of_that_name`.catch((error: unknown) => error);
    assert.ok(!isDatabaseUnavailable(wrong) && !isDatabaseUnavailable(new Error('x')));
    for (const state of ['53100', '53200', '53300', '57P03']) {
      const raise = `do $$ begin raise exception 'no room' using errcode = '${state}'; end $$`;
      const exhausted = await db.prisma.$executeRawUnsafe(raise).catch((error: unknown) => error);
      assert.ok(isDatabaseUnavailable(exhausted), state);
      assert.ok(isDatabaseUnavailable(await failed(db, raise)), state);
    }
    await db.close();
  });

  it('that is gone is told from a wrong request past Prisma as well, and one statement is prepared once', async () => {
    const db = await openDatabase({ url: open.url, role: 'cdaas_api', poolSize: 1, applicationName: 'cdaas cut too' });
    const names = 'select name from pg_prepared_statements order by name';
    await db.sql('one', 'select 1 as it', []);
    await db.sql('one', 'select 1 as it', []);
    assert.deepEqual(await db.sql('names', names, []), [{ name: 'names' }, { name: 'one' }]);
    assert.deepEqual(await db.sql('role', 'select current_user::text as role', []), [{ role: 'cdaas_api' }]);
    assert.ok(!isDatabaseUnavailable(await failed(db, 'select nothing_of_that_name')));

    const kill = `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'cdaas cut too'`;
    const cut = failed(db, 'select pg_sleep(30)');
    await withAdmin(open.url, async (admin) => {
      while ((await admin.query(`${kill} and state = 'active'`)).rowCount === 0);
    });
    assert.ok(isDatabaseUnavailable(await cut));
    // The next connection is made anew, and one that is cut while idle harms nobody.
    assert.deepEqual(await db.sql('one', 'select 1 as it', []), [{ it: 1 }]);
    await withAdmin(open.url, (admin) => admin.query(kill));
    const isBack = () =>
      db.sql('one', 'select 1 as it', []).then(
        () => true,
        () => false,
      );
    await until(isBack, 'a connection in place of the one that was cut');
    await db.close();

    const taken = createServer((socket) => socket.once('data', () => socket.destroy())).listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const silent = await openDatabase({ url: `postgresql://127.0.0.1:${port}/x`, role: 'cdaas_api' }).catch(
      (error: unknown) => error,
    );
    taken.close();
    assert.ok(isDatabaseUnavailable(silent), String(silent));
  });

  it('tells a duplicate and a missing row by name', async () => {
    const org = await withOrganisation(open.cdaas_api);
    const tenant = (data: { organisationId: string; name: string }) =>
      scoped(open.cdaas_api, org, (tx) => tx.tenant.create({ data })).catch((error) => error);
    const duplicate = await tenant({ organisationId: org.organisationId, name: 'main' });
    assert.ok(isUniqueViolation(duplicate) && !isDatabaseUnavailable(duplicate));
    const missing = await scoped(open.cdaas_api, org, (tx) =>
      tx.grant.create({
        data: {
          organisationId: org.organisationId,
          roleId: org.tenantId,
          type: 'api',
          resource: 'tenant',
          permission: 'full',
        },
      }),
    ).catch((error) => error);
    assert.ok(missing.code === 'P2003' && !isUniqueViolation(missing) && !isDatabaseUnavailable(missing));
  });
});

describe('listening for events', () => {
  it('hears of commits, and of what it may have missed after its connection was cut', async () => {
    const db = open.cdaas_api;
    const org = await withOrganisation(db);
    let told = 0;
    let wake = () => {};
    const heard = async (atLeast: number) => {
      while (told < atLeast) await new Promise<void>((resolve) => (wake = resolve));
    };
    const listener = await listenForEvents(db, () => {
      told++;
      wake();
    });
    await startTestPipeline(db, org);
    await heard(1);
    await withAdmin(open.url, (admin) =>
      admin.query(`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'cdaas events'
        and datname = current_database()`),
    );
    await heard(2);
    await startTestPipeline(db, org);
    await heard(3);
    await listener.close();
  });
});
