import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('../../../..', import.meta.url));

/** Path of the one schema file. */
export const schemaPath = join(root, 'prisma/schema.prisma');

/** Where the generated client lies; ignored by git, so it must be made before anything imports db.ts. */
export const generatedDir = join(root, 'packages/control-plane/src/generated');

const hashPath = join(generatedDir, 'schema.sha256');

/**
 * Generates the Prisma client when the schema, or Prisma's version, is not the one that the present client was made from.
 * Imports nothing but Node's own modules, so that it can run before the client exists.
 *
 * @returns whether it generated
 * @throws Error with what Prisma printed, when the schema is invalid
 */
export async function ensureClient(): Promise<boolean> {
  const require = createRequire(import.meta.url);
  const manifest = require.resolve('prisma/package.json');
  const hash = createHash('sha256')
    .update(await readFile(schemaPath))
    .update(await readFile(manifest))
    .digest('hex');
  if (hash === (await readFile(hashPath, 'utf8').catch(() => ''))) return false;

  await rm(generatedDir, { recursive: true, force: true });
  const cli = join(manifest, '../build/index.js');
  try {
    await promisify(execFile)(process.execPath, [cli, 'generate', '--schema', schemaPath], {
      cwd: root,
      // The native schema engine is a download that generating does not need; naming any binary stops the attempt.
      env: { ...process.env, PRISMA_SCHEMA_ENGINE_BINARY: process.execPath, PRISMA_HIDE_UPDATE_MESSAGE: '1' },
    });
  } catch (cause) {
    const printed = cause instanceof Error && 'stderr' in cause ? String(cause.stderr) : '';
    throw new Error(`The Prisma client could not be generated from ${schemaPath}.\n${printed}`, { cause });
  }
  await mkdir(generatedDir, { recursive: true });
  await writeFile(hashPath, hash);
  return true;
}
