// The database's commands, as package.json's db:* scripts call them:
//   generate      make the Prisma client, if the schema changed
//   migrate       apply the missing migrations to DATABASE_URL
//   new <name>    write a migration with what the schema has more than the migrations
//   diff          print that difference; exit 2 if there is one
import { ensureClient } from '../packages/control-plane/src/database/generate.ts';
import { diffSchema, MigrationError, migrate, newMigration } from '../packages/control-plane/src/database/migrate.ts';

const usage = 'usage: node scripts/prisma.ts generate | migrate | new <name> | diff';
const [command = '', name = ''] = process.argv.slice(2);

function databaseUrl(): string {
  const url = process.env.DATABASE_URL;
  if (!url) throw new MigrationError(`DATABASE_URL is not set: "${command}" needs a PostgreSQL server.`);
  return url;
}

async function run(): Promise<number> {
  switch (command) {
    case 'generate':
      console.log((await ensureClient()) ? 'Generated the Prisma client.' : 'The Prisma client is up to date.');
      return 0;
    case 'migrate': {
      const { applied } = await migrate(databaseUrl());
      console.log(applied.length > 0 ? `Applied ${applied.join(', ')}.` : 'The database is up to date.');
      return 0;
    }
    case 'new': {
      const file = await newMigration(databaseUrl(), name);
      console.log(file ? `Wrote ${file}: read it, then run db:migrate.` : 'The schema and the migrations agree.');
      return 0;
    }
    case 'diff': {
      const sql = await diffSchema(databaseUrl());
      console.log(sql || 'The schema and the migrations agree.');
      return sql ? 2 : 0;
    }
    default:
      console.error(usage);
      return 2;
  }
}

// Ended here, because Prisma's engine leaves a timer of 10 s behind.
process.exit(
  await run().catch((error: unknown) => {
    console.error(error instanceof MigrationError ? error.message : error);
    return 1;
  }),
);
