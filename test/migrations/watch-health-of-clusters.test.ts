import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import pg from 'pg';
import { cloneDatabase } from '../support/database.ts';
import { databaseUrl, withAdmin } from '../support/postgres.ts';

const migrations = new URL('../../prisma/migrations/', import.meta.url);
const named = (part: string) => readdirSync(migrations).filter((name) => name.includes(part));
const sqlOf = (name: string) => readFileSync(new URL(`${name}/migration.sql`, migrations), 'utf8');

test('clusters that were registered before get a row for their health, and keep what they were registered with', async () => {
  const clone = await cloneDatabase('watch_health');
  const database = `cdaas_test_before_${randomUUID().slice(0, 8)}`;
  await withAdmin(clone.url, (admin) => admin.query(`create database ${database}`));
  const client = new pg.Client({ connectionString: databaseUrl(clone.url, database) });
  try {
    await client.connect();
    const [mine = ''] = named('watch_health_of_clusters');
    const before = readdirSync(migrations).filter((name) => /^\d/.test(name) && name < mine);
    for (const name of before.sort()) await client.query(sqlOf(name));
    const [organisation, tenant, cluster] = [randomUUID(), randomUUID(), randomUUID()];
    await client.query('insert into organisation (id, name) values ($1, $2)', [organisation, 'acme']);
    await client.query('insert into tenant (id, organisation_id, name) values ($1, $2, $3)', [
      tenant,
      organisation,
      'main',
    ]);
    const register = (id: string, name: string) =>
      client.query(
        `insert into cluster (id, organisation_id, tenant_id, name, server, ca_data, cluster_uid, credential, namespaces,
          mesh_confirmation, kubernetes_version, verified_at)
        values ($1, $2, $3, $4, 'https://127.0.0.1', '', 'uid', '', '{shop}', 'linkerd-smi', 'v1.35.4', now())`,
        [id, organisation, tenant, name],
      );
    await register(cluster, 'east');
    await client.query(sqlOf(mine));

    const later = randomUUID();
    await register(later, 'west');
    const { rows } = await client.query(
      `select c.name, c.mesh_confirmation, c.mesh_setting, c.access_version, h.state, h.organisation_id, h.tenant_id,
        h.next_check_at <= now() as due from cluster c join cluster_health h on h.cluster_id = c.id order by c.name`,
    );
    const row = {
      mesh_confirmation: 'linkerd-smi',
      mesh_setting: null,
      access_version: 0,
      state: 'unknown',
      organisation_id: organisation,
      tenant_id: tenant,
      due: true,
    };
    assert.deepEqual(rows, [
      { name: 'east', ...row },
      { name: 'west', ...row },
    ]);
    const { rows: forced } = await client.query(
      `select relforcerowsecurity as forced from pg_class where relname in ('cluster', 'cluster_health')`,
    );
    assert.deepEqual(forced, [{ forced: true }, { forced: true }]);
  } finally {
    await client.end();
    await withAdmin(clone.url, (admin) => admin.query(`drop database ${database} with (force)`));
    await clone.drop();
  }
});
