import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startPostgres } from '@cdaas/standalone/postgres.ts';
import pg from 'pg';

/** A server for tests, and a database on it, migrated, that tests clone. */
export type TestServer = { url: string; template: string; stop(): Promise<void> };

/**
 * Uses the server of DATABASE_URL, where it is set, else starts the embedded one in a folder of its own, and makes the
 * migrated template. `stop` removes what was made.
 */
export async function startTestServer(): Promise<TestServer> {
  const given = process.env.DATABASE_URL;
  const server = given ? { url: given, stop: async () => {}, abandon: () => {} } : await startEmbedded();
  // Should this process end without stopping it, the server does not outlive it.
  const abandon = () => {
    server.abandon();
    process.exit(1);
  };
  process.once('exit', server.abandon).once('SIGINT', abandon).once('SIGTERM', abandon);
  const template = `cdaas_test_template_${process.pid}_${Date.now()}`;
  await withAdmin(server.url, (admin) => admin.query(`create database ${template}`));
  await migrateApart(databaseUrl(server.url, template));
  return {
    url: server.url,
    template,
    async stop() {
      if (given)
        await withAdmin(server.url, (admin) => admin.query(`drop database if exists ${template} with (force)`));
      process.off('exit', server.abandon).off('SIGINT', abandon).off('SIGTERM', abandon);
      await server.stop();
    },
  };
}

async function startEmbedded() {
  const folder = mkdtempSync(join(tmpdir(), 'cdaas-postgres-'));
  // The server's own user must reach its folder inside.
  chmodSync(folder, 0o755);
  const server = await startPostgres(join(folder, 'db'), () => {});
  await withAdmin(server.url, async (admin) => {
    // Tests need not survive a power cut.
    for (const name of ['fsync', 'synchronous_commit', 'full_page_writes'])
      await admin.query(`alter system set ${name} = off`);
    await admin.query('select pg_reload_conf()');
  });
  return {
    url: server.url,
    async stop() {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
    abandon: () => server.abandon(),
  };
}

/** `npm run db:migrate` in a process of its own: Prisma's engine leaves a timer of 10 s behind that would hold up this one. */
function migrateApart(url: string): Promise<void> {
  const script = fileURLToPath(new URL('../../scripts/prisma.ts', import.meta.url));
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', script, 'migrate'], {
      env: { ...process.env, DATABASE_URL: url },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let errors = '';
    child.stderr.on('data', (chunk) => {
      errors += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) =>
      code === 0 ? resolve() : reject(new Error(`migrating the template failed: ${errors}`)),
    );
  });
}

/** The connection string of another database of the same server. */
export function databaseUrl(url: string, name: string): string {
  const other = new URL(url);
  other.pathname = `/${name}`;
  return other.href;
}

/** Work on the server as the user who started it. */
export async function withAdmin<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
