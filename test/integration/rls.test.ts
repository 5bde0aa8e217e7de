import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { type Database, type DatabaseRole, openDatabase, roleUrl, scoped } from '@cdaas/control-plane/database/db.ts';
import { createVault } from '@cdaas/control-plane/encryption.ts';
import { insertPipeline } from '@cdaas/control-plane/start-pipeline.ts';
import { advanceMany } from '@cdaas/control-plane/transitions.ts';
import pg from 'pg';
import { openTestDatabase, type TestOrganisation, withOrganisation } from '../support/database.ts';
import { pipelineStart, startTestPipeline, transitionOf } from '../support/pipelines.ts';
import { withAdmin } from '../support/postgres.ts';

// Law 7. A new table is either under Row-Level Security, and then it needs rows in `fill`, or it goes on this list, which
// is for tables that hold ids alone or what is wrapped, and says why in schema.prisma.
const withoutRowLevelSecurity = [
  '_prisma_migrations',
  'credential_directory',
  'instance',
  'signing_key',
  'watch_lease',
];

/** What the worker sees of all tenants: what it drives, and which clusters it looks after. */
const workerSeesAll = [
  'cluster_health',
  'cluster_health_change',
  'deployment',
  'event',
  'object_claim',
  'owned_object',
  'pipeline',
];

/** Prisma's code where a row that is referred to is missing. */
const foreignKeyViolation = { code: 'P2003' };
const roles: DatabaseRole[] = ['cdaas_api', 'cdaas_worker'];

let open: Awaited<ReturnType<typeof openTestDatabase<'cdaas_api' | 'cdaas_worker'>>>;
let api: Database;
let mine: TestOrganisation;
let theirs: TestOrganisation;
let tables: string[];

before(async () => {
  open = await openTestDatabase('rls', ['cdaas_api', 'cdaas_worker']);
  api = open.cdaas_api;
  mine = await withOrganisation(api);
  theirs = await withOrganisation(api);
  for (const organisation of [mine, theirs]) await fill(organisation);
  tables = await withAdmin(open.url, async (admin) => {
    const { rows } = await admin.query<{ name: string }>(
      `select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') order by 1`,
    );
    return rows.map(({ name }) => name);
  });
});

after(() => open.close());

/** At least one row of the organisation in every table that is under Row-Level Security. */
async function fill(organisation: TestOrganisation): Promise<void> {
  const at = { table: 'test', row: 'test', field: 'test' };
  await createVault(Buffer.alloc(32, 1), api).encrypt(organisation.organisationId, at, 'makes a data key');
  const start = pipelineStart(api, organisation);
  const idempotency = { principal: 'ci', route: 'r', key: 'k', bodyHash: 'h', status: 202, response: {} };
  await insertPipeline(api, organisation, { ...start, idempotency });
  const { organisationId, tenantId, clusterId } = organisation;
  await open.cdaas_worker.prisma.clusterHealthChange.create({
    data: { organisationId, tenantId, clusterId, number: 1, state: 'healthy', at: api.clock.now() },
  });
  const object = { kind: 'Service', namespace: 'default', name: 'web' };
  await advanceMany(open.cdaas_worker, [
    transitionOf({ id: start.deployments[0]!.id, version: 0 }, null, api.clock.now(), {
      claims: [{ ...object, clusterUid: organisation.clusterUid }],
      owned: [{ ...object, slot: 'root', apiVersion: 'v1', action: 'changed' }],
    }),
  ]);
}

/** Rows of a table that a role sees in a scope; null where the role may not read it. */
async function count(role: DatabaseRole, table: string, scope?: { organisationId: string; tenantId: string }) {
  const client = new pg.Client({ connectionString: roleUrl(open.url, role) });
  await client.connect();
  try {
    await client.query('begin');
    if (scope) {
      await client.query(`select set_config('app.org', $1, true), set_config('app.tenant', $2, true)`, [
        scope.organisationId,
        scope.tenantId,
      ]);
    }
    const { rows } = await client.query<{ n: number }>(
      `select count(*)::int as n from ${client.escapeIdentifier(table)}`,
    );
    return rows[0]?.n ?? 0;
  } catch (error) {
    if (error instanceof pg.DatabaseError && error.code === '42501') return null;
    throw error;
  } finally {
    await client.end();
  }
}

describe('Row-Level Security', () => {
  it('is on and forced for every table but those of the closed list', async () => {
    const unsecured = await withAdmin(open.url, async (admin) => {
      const { rows } = await admin.query<{ name: string }>(
        `select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
          and not (relrowsecurity and relforcerowsecurity) order by 1`,
      );
      return rows.map(({ name }) => name);
    });
    assert.deepEqual(unsecured, withoutRowLevelSecurity);
  });

  it('has policies by organisation for what has no tenant, by both for the rest', async () => {
    const byOrganisation = ['client_credential_role', 'data_key', 'grant', 'organisation', 'role', 'tenant'];
    const { rows } = await withAdmin(open.url, (admin) =>
      admin.query<{ name: string; tenant: boolean }>(
        `select tablename as name, qual like '%app.tenant%' as tenant from pg_policies where policyname = 'scope' order by 1`,
      ),
    );
    const secured = tables.filter((name) => !withoutRowLevelSecurity.includes(name));
    assert.deepEqual(
      rows.map(({ name }) => name),
      secured,
    );
    assert.deepEqual(
      rows.filter(({ tenant }) => !tenant).map(({ name }) => name),
      byOrganisation,
    );
  });

  it('shows nothing without a scope, but to the worker what it drives', async () => {
    for (const role of roles) {
      for (const table of tables.filter((name) => !withoutRowLevelSecurity.includes(name))) {
        const seen = await count(role, table);
        if (role === 'cdaas_worker' && workerSeesAll.includes(table)) assert.ok(seen !== null && seen >= 2, table);
        else assert.ok(seen === 0 || seen === null, `${role} sees ${seen} rows of ${table}`);
      }
    }
  });

  it('shows each scope its own rows of every table and nothing of another organisation or tenant', async () => {
    const totals = new Map<string, number>();
    await withAdmin(open.url, async (admin) => {
      for (const table of tables) {
        const { rows } = await admin.query(`select count(*)::int as n from ${admin.escapeIdentifier(table)}`);
        totals.set(table, rows[0].n);
      }
    });
    for (const table of tables.filter((name) => !withoutRowLevelSecurity.includes(name))) {
      const [own, foreign] = [await count('cdaas_api', table, mine), await count('cdaas_api', table, theirs)];
      assert.ok(own !== null && own > 0 && foreign !== null && foreign > 0, `fill() puts no row in ${table}`);
      assert.equal(own + foreign, totals.get(table), table);

      const neighbour = await count('cdaas_api', table, { ...mine, tenantId: mine.otherTenantId });
      const shared = ['client_credential_role', 'data_key', 'grant', 'organisation', 'role', 'tenant'].includes(table);
      assert.equal(neighbour, shared ? own : 0, table);
      const mixed = await count('cdaas_api', table, { organisationId: mine.organisationId, tenantId: theirs.tenantId });
      assert.equal(mixed, shared ? own : 0, table);
    }
  });

  it('shows the worker clusters and data keys of the scope alone', async () => {
    for (const table of ['cluster', 'data_key', 'tenant']) {
      assert.equal(await count('cdaas_worker', table, mine), await count('cdaas_api', table, mine), table);
    }
    for (const table of ['client_credential', 'signing_key', 'credential_directory', 'idempotency_key', 'role']) {
      assert.equal(await count('cdaas_worker', table, mine), null, `the worker needs no ${table}`);
    }
  });

  it('refuses to write for another tenant or organisation', async () => {
    const cluster = (scope: { organisationId: string; tenantId: string }) => ({
      ...scope,
      name: 'smuggled',
      server: 'https://127.0.0.1',
      caData: '',
      clusterUid: 'x',
      credential: new Uint8Array(),
      meshConfirmation: 'stored',
      kubernetesVersion: 'v1',
      verifiedAt: new Date(),
    });
    const { organisationId, tenantId, otherTenantId } = mine;
    const elsewhere = [
      { organisationId: theirs.organisationId, tenantId: theirs.tenantId },
      { organisationId, tenantId: otherTenantId },
      { organisationId, tenantId: theirs.tenantId },
    ];
    for (const target of elsewhere) {
      const write = scoped(api, { organisationId, tenantId }, (tx) => tx.cluster.create({ data: cluster(target) }));
      await assert.rejects(write, /row-level security/);
    }
    const change = scoped(api, mine, (tx) =>
      tx.cluster.updateMany({ where: { id: theirs.clusterId }, data: { name: 'x' } }),
    );
    assert.equal((await change).count, 0);
    const remove = scoped(api, mine, (tx) => tx.role.deleteMany({ where: { id: theirs.roleId } }));
    assert.equal((await remove).count, 0);
    const move = scoped(api, mine, (tx) =>
      tx.cluster.update({ where: { id: mine.clusterId }, data: { tenantId: otherTenantId } }),
    );
    await assert.rejects(move, /row-level security/);
  });

  it('refuses rows that refer to what belongs to another tenant or organisation', async () => {
    const foreign = await startTestPipeline(api, theirs);
    const own = await startTestPipeline(api, mine);
    const { organisationId, tenantId } = mine;
    const scope = { organisationId, tenantId };
    const event = (pipelineId: string, deploymentId: string | null) =>
      scoped(api, scope, (tx) =>
        tx.event.createMany({
          data: { ...scope, pipelineId, deploymentId, number: 1_000, type: 'smuggled', data: {}, at: new Date() },
        }),
      );
    await assert.rejects(event(foreign.pipelineId, null), /row-level security/);
    await assert.rejects(event(own.pipelineId, foreign.deploymentIds[0]!), /row-level security/);
    await event(own.pipelineId, own.deploymentIds[0]!);

    const deployment = (pipelineId: string) =>
      scoped(api, scope, (tx) =>
        tx.deployment.createMany({
          data: {
            ...scope,
            pipelineId,
            clusterId: mine.clusterId,
            target: 'smuggled',
            account: 'nowhere',
            namespace: 'default',
            status: 'NOT_STARTED',
            plan: new Uint8Array(),
            state: {},
          },
        }),
      );
    await assert.rejects(deployment(foreign.pipelineId), /row-level security/);

    const mixed = { organisationId: theirs.organisationId, tenantId };
    await assert.rejects(insertPipeline(api, mixed, pipelineStart(api, mine, 0)), /tenant_id_organisation_id_fkey/);
    const listed = api.prisma.credentialDirectory.create({
      data: { clientId: randomUUID(), credentialId: mine.credentialId, ...mixed },
    });
    await assert.rejects(listed, foreignKeyViolation);
    const granted = scoped(api, scope, (tx) =>
      tx.clientCredentialRole.create({
        data: { credentialId: mine.credentialId, roleId: theirs.roleId, organisationId },
      }),
    );
    await assert.rejects(granted, foreignKeyViolation);
  });

  it('does not outlive its transaction on a pooled connection', async () => {
    const narrow = await openDatabase({ url: open.url, role: 'cdaas_api', poolSize: 1 });
    assert.ok((await scoped(narrow, mine, (tx) => tx.cluster.count())) > 0);
    assert.equal(await narrow.prisma.cluster.count(), 0);
    await narrow.close();
  });
});

describe('the roles', () => {
  it('are neither superusers nor may they pass by Row-Level Security, log in, or make roles and databases', async () => {
    const { rows } = await withAdmin(open.url, (admin) =>
      admin.query(
        `select rolname, rolsuper, rolbypassrls, rolcanlogin, rolcreaterole, rolcreatedb from pg_roles
          where rolname in ('cdaas_api', 'cdaas_owner', 'cdaas_worker') order by 1`,
      ),
    );
    assert.equal(rows.length, 3);
    for (const { rolname, ...rights } of rows) assert.deepEqual([...new Set(Object.values(rights))], [false], rolname);
  });

  it('own nothing: everything belongs to cdaas_owner, of whom neither process is a member', async () => {
    const { rows: owners } = await withAdmin(open.url, (admin) =>
      admin.query<{ name: string }>(
        `select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'p')
          and relowner <> 'cdaas_owner'::regrole
        union all select proname from pg_proc where pronamespace = 'public'::regnamespace and proowner <> 'cdaas_owner'::regrole`,
      ),
    );
    assert.deepEqual(
      owners.map(({ name }) => name),
      ['_prisma_migrations'],
    );
    const { rows } = await withAdmin(open.url, (admin) =>
      admin.query<{ member: boolean }>(
        `select pg_has_role(r, 'cdaas_owner', 'member') as member from unnest(array['cdaas_api', 'cdaas_worker']) r`,
      ),
    );
    assert.deepEqual(rows, [{ member: false }, { member: false }]);
  });

  it('are what a process runs as', async () => {
    for (const role of roles) {
      const db = open[role as 'cdaas_api' | 'cdaas_worker'];
      assert.deepEqual(await db.prisma.$queryRaw`select current_user::text as role`, [{ role }]);
    }
  });

  it('may not add, change or remove events but by appending', async () => {
    for (const role of ['cdaas_api', 'cdaas_worker'] as const) {
      const denied = /permission denied|denied access/;
      await assert.rejects(open[role].prisma.event.updateMany({ data: { type: 'x' } }), denied);
      await assert.rejects(open[role].prisma.event.deleteMany(), denied);
      await assert.rejects(open[role].prisma.pipeline.deleteMany(), denied);
    }
    await assert.rejects(
      api.prisma.deployment.updateMany({ data: { status: 'SUCCEEDED' } }),
      /permission denied|denied access/,
    );
    await assert.rejects(api.prisma.$queryRaw`select * from claim_due(1, 1)`, /permission denied/);
  });
});
