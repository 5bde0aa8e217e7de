import { randomBytes } from 'node:crypto';
import pg from 'pg';

/** The roles that processes work under. */
export type LoginRole = 'cdaas_api' | 'cdaas_worker';

/**
 * Makes a user for each process where it is missing, and gives it a new password that is kept nowhere: a user who may take
 * the one role and nothing else. The start-up option role=… alone is no boundary: SQL that somebody smuggled in can
 * `set role none`, and is then whoever connected.
 *
 * @param url of a migrated database, as a user who may create roles
 * @returns the connection strings
 */
export async function renewLogins(url: string): Promise<Record<LoginRole, string>> {
  const client = new pg.Client({ connectionString: url, application_name: 'cdaas logins' });
  await client.connect();
  const renew = async (role: LoginRole): Promise<string> => {
    const user = `${role}_login`;
    const password = randomBytes(24).toString('hex');
    const { rowCount } = await client.query('select from pg_roles where rolname = $1', [user]);
    await client.query(`
      ${rowCount === 0 ? 'create' : 'alter'} role ${user} login nosuperuser nocreatedb nocreaterole nobypassrls noinherit
        password '${password}';
      grant ${role} to ${user}`);
    const own = new URL(url);
    [own.username, own.password] = [user, password];
    return own.href;
  };
  try {
    return { cdaas_api: await renew('cdaas_api'), cdaas_worker: await renew('cdaas_worker') };
  } finally {
    await client.end();
  }
}
