import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PrismaPg } from '@prisma/adapter-pg';
import {
  bindMigrationAwareSqlAdapterFactory,
  ColumnTypeEnum,
  DriverAdapterError,
  type SqlMigrationAwareDriverAdapterFactory,
} from '@prisma/driver-adapter-utils';
import { type MigrationList, SchemaEngine } from '@prisma/schema-engine-wasm';
import { runMigrations as migrateQueue } from 'bullmq';
import pg from 'pg';
import { schemaPath } from './generate.ts';

/** The schema could not be brought up to date. The message says what to do. */
export class MigrationError extends Error {
  override name = 'MigrationError';
}

const migrationsDir = fileURLToPath(new URL('../../../../prisma/migrations', import.meta.url));
const filters = { externalTables: [], externalEnums: [] };

/** Held while migrating, so that two processes that start at once do not migrate at once. Any constant does: this one spells CDAS. */
const migrationLock = 0x43444153;

/**
 * Applies the migrations of prisma/migrations that are missing, and BullMQ's own, under an advisory lock. It does what
 * `prisma migrate deploy` does and keeps the same `_prisma_migrations` table, with Prisma's engine as WebAssembly, because
 * the native one is a download that not every machine may make.
 *
 * @param url of the database, as a user who may create roles the first time
 * @returns the names of the migrations applied, in order
 * @throws MigrationError
 */
export async function migrate(url: string): Promise<{ applied: string[] }> {
  if (!/^postgres(ql)?:\/\//.test(url)) {
    throw new MigrationError('DATABASE_URL must look like postgresql://user:password@host:5432/database.');
  }
  const client = new pg.Client({ connectionString: url, application_name: 'cdaas migrate' });
  try {
    await client.connect();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new MigrationError(`The database cannot be reached: ${reason}. Check DATABASE_URL.`, { cause });
  }
  try {
    const version = Number(
      (await client.query<{ v: string }>("select current_setting('server_version_num') v")).rows[0]?.v,
    );
    if (version < 150_000) {
      throw new MigrationError(`PostgreSQL 15 or newer is needed; this server is ${Math.floor(version / 10_000)}.`);
    }
    await client.query('select pg_advisory_lock($1)', [migrationLock]);
    const applied = await applyMigrations(url);
    await migrateQueue(client);
    await client.query(`
      grant usage on schema bullmq to cdaas_api, cdaas_worker;
      grant select, insert, update, delete on all tables in schema bullmq to cdaas_api, cdaas_worker;
      grant usage on all sequences in schema bullmq to cdaas_api, cdaas_worker;
      grant execute on all functions in schema bullmq to cdaas_api, cdaas_worker`);
    return { applied };
  } finally {
    await client.end();
  }
}

/**
 * What `prisma/schema.prisma` says that the migrations do not, as SQL; empty when they agree. Replays the migrations in a
 * database of its own on the given server (the WebAssembly engine makes no shadow database) and drops it.
 */
export async function diffSchema(url: string): Promise<string> {
  const name = `cdaas_shadow_${process.pid}_${Date.now()}`;
  const shadow = new URL(url);
  shadow.pathname = `/${name}`;
  const admin = new pg.Client({ connectionString: url });
  await admin.connect();
  try {
    await admin.query(`create database ${name}`);
    await applyMigrations(shadow.href);
    const schema = { files: [{ path: schemaPath, content: await readFile(schemaPath, 'utf8') }] };
    return await withEngine(shadow.href, async (engine) => {
      const { stdout, exitCode } = await engine.diff({
        from: { tag: 'schemaDatasource', configDir: dirname(schemaPath), ...schema },
        to: { tag: 'schemaDatamodel', ...schema },
        script: true,
        exitCode: true,
        filters,
      });
      return exitCode === 2 ? (stdout ?? '') : '';
    });
  } finally {
    await admin.query(`drop database if exists ${name} with (force)`);
    await admin.end();
  }
}

/**
 * Writes `prisma/migrations/<time>_<name>/migration.sql` with what the schema has more than the migrations.
 *
 * @param name in snake_case, as verb_what
 * @returns the path of the new file, or null when nothing changed
 */
export async function newMigration(url: string, name: string): Promise<string | null> {
  if (!/^[a-z][a-z0-9_]*$/.test(name))
    throw new MigrationError(`"${name}" is no migration name: use snake_case, as verb_what.`);
  const sql = await diffSchema(url);
  if (sql === '') return null;
  const time = new Date().toISOString().replaceAll(/\D/g, '').slice(0, 14);
  const directory = join(migrationsDir, `${time}_${name}`);
  await mkdir(directory);
  const file = join(directory, 'migration.sql');
  await writeFile(file, `set local role cdaas_owner;\n\n${sql}`);
  return file;
}

async function applyMigrations(url: string): Promise<string[]> {
  const migrationsList = await readMigrations();
  return withEngine(url, async (engine) => {
    const { appliedMigrationNames } = await engine.applyMigrations({ migrationsList, filters });
    return appliedMigrationNames;
  });
}

async function readMigrations(): Promise<MigrationList> {
  const names = (await readdir(migrationsDir, { withFileTypes: true }))
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort();
  return {
    baseDir: migrationsDir,
    shadowDbInitScript: '',
    lockfile: {
      path: 'migration_lock.toml',
      content: await readFile(join(migrationsDir, 'migration_lock.toml'), 'utf8'),
    },
    migrationDirectories: await Promise.all(
      names.map(async (name) => ({
        path: name,
        migrationFile: {
          path: 'migration.sql',
          content: { tag: 'ok' as const, value: await readFile(join(migrationsDir, name, 'migration.sql'), 'utf8') },
        },
      })),
    ),
  };
}

async function withEngine<T>(url: string, work: (engine: SchemaEngine) => Promise<T>): Promise<T> {
  // Without this registry a panic of the engine ends the process with a meaningless message.
  let reason = '';
  Object.assign(globalThis, {
    PRISMA_WASM_PANIC_REGISTRY: {
      set_message: (message: string) => {
        reason = message;
      },
    },
  });
  const datamodel: [string, string] = [schemaPath, await readFile(schemaPath, 'utf8')];
  const pool = new pg.Pool({ connectionString: url, max: 1, application_name: 'cdaas migrate' });
  try {
    const adapter = bindMigrationAwareSqlAdapterFactory(
      migrationAdapter(pool, (said) => {
        reason = said;
      }),
    );
    const engine = await SchemaEngine.new({ datamodels: [datamodel] }, () => {}, adapter);
    const result = await work(engine);
    engine.free();
    return result;
  } catch (cause) {
    throw explain(cause, reason);
  } finally {
    await pool.end();
  }
}

/** Prisma's adapter, mended where migrating needs more of it than queries do. */
function migrationAdapter(pool: pg.Pool, onError: (reason: string) => void): SqlMigrationAwareDriverAdapterFactory {
  // It cannot name the type "char" (oid 18), which introspection reads. The engine asks one query after the other, so the
  // positions noted while a query runs are that query's.
  let characters: number[] = [];
  const query = pool.query.bind(pool) as (...args: unknown[]) => Promise<pg.QueryResult>;
  pool.query = (async (...args: unknown[]) => {
    const result = await query(...args);
    characters = [];
    for (const [position, field] of (result.fields ?? []).entries()) {
      if (field.dataTypeID !== 18) continue;
      field.dataTypeID = 25;
      characters.push(position);
    }
    return result;
  }) as typeof pool.query;

  const factory = new PrismaPg(pool);
  const connect = factory.connect.bind(factory);
  factory.connect = async () => {
    const adapter = await connect();
    const queryRaw = adapter.queryRaw.bind(adapter);
    adapter.queryRaw = async (sql) => {
      const result = await queryRaw(sql);
      for (const position of characters) result.columnTypes[position] = ColumnTypeEnum.Character;
      return result;
    };
    // The adapter's own cuts the script at every semicolon, also at those inside function bodies. Whole, it is one implicit
    // transaction as well, as with the native engine.
    adapter.executeScript = async (script) => {
      await pool.query(script).catch((cause: pg.DatabaseError) => {
        const { code = 'N/A', severity = 'ERROR', message, detail, column, hint, position } = cause;
        const line = position ? ` at line ${script.slice(0, Number(position)).split('\n').length}` : '';
        onError([`${message}${line}`, detail, hint].filter(Boolean).join('. '));
        throw new DriverAdapterError({ kind: 'postgres', code, severity, message, detail, column, hint });
      });
    };
    return adapter;
  };
  return factory;
}

/** Puts what Postgres or the engine said into one sentence, without the engine's own trace. */
function explain(cause: unknown, reason: string): MigrationError {
  const said = cause instanceof Error ? cause.message : String(cause);
  const [told = '', ...trace] = said.split(/\n {3}0: /);
  const name = /migration_name="([^"]+)"/.exec(trace.join(''))?.[1];
  if (name) return new MigrationError(`Migration ${name} failed: ${reason || told.trim()}`, { cause });
  const failed = /The `([^`]+)` migration .* failed/.exec(told)?.[1];
  if (failed) {
    return new MigrationError(
      `Migration ${failed} failed earlier and blocks the later ones. Mend what made it fail, delete its row from _prisma_migrations, and migrate again.`,
      { cause },
    );
  }
  return new MigrationError(`The database could not be migrated: ${reason || told.trim()}`, { cause });
}
