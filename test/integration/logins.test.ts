import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { openDatabase, roleUrl } from '@cdaas/control-plane/database/db.ts';
import { renewLogins } from '@cdaas/control-plane/logins.ts';
import pg from 'pg';
import { openTestDatabase, withOrganisation } from '../support/database.ts';
import { startTestPipeline } from '../support/pipelines.ts';

let open: Awaited<ReturnType<typeof openTestDatabase<'cdaas_api'>>>;

before(async () => {
  open = await openTestDatabase('logins', ['cdaas_api']);
});

after(() => open.close());

describe('the users that standalone connects as', () => {
  it('work under their role, and are nobody without it', async () => {
    await renewLogins(open.url);
    const urls = await renewLogins(open.url);
    const db = await openDatabase({ url: urls.cdaas_api, role: 'cdaas_api' });
    await startTestPipeline(db, await withOrganisation(db));
    await db.close();

    const client = new pg.Client({ connectionString: roleUrl(urls.cdaas_api, 'cdaas_api') });
    await client.connect();
    try {
      // `reset role` would lead back to the start-up option's.
      await client.query('set role none');
      const { rows } = await client.query('select rolsuper, rolbypassrls from pg_roles where rolname = current_user');
      assert.deepEqual(rows, [{ rolsuper: false, rolbypassrls: false }]);
      for (const forbidden of [
        'select from pipeline',
        'set role cdaas_worker',
        'set role cdaas_owner',
        'alter table pipeline disable row level security',
      ]) {
        await assert.rejects(client.query(forbidden), /permission denied|must be owner/, forbidden);
      }
    } finally {
      await client.end();
    }
  });
});
