import { chmodSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { type Again, createAgain, nextName } from './again.ts';
import { identityOf } from './processes.ts';
import { Remedy, systemCode } from './remedy.ts';

/** The files of one data folder. Everything that standalone keeps is under it. */
export type DataDir = {
  path: string;
  lock: string;
  key: string;
  adminFile: string;
  kubeconfig: string;
  logFile: string;
  demoFile: string;
  /** Written where a cluster's credential lacks rights. */
  rbacFile: string;
  postgres: string;
  sandbox: string;
};

/**
 * Makes the data folder if it is missing, for its owner alone save that others may pass through it: as root, Postgres runs
 * as another user and must reach its own folder inside.
 *
 * @throws Remedy where it cannot be written
 */
export function openDataDir(path: string): DataDir {
  try {
    makeFolder(path);
    chmodSync(path, 0o711);
    // Whatever the folder is called: its keys and passwords are in no repository. In a folder that others fill it is not ours.
    if (readdirSync(path).length === 0) writeFileSync(join(path, '.gitignore'), '*\n');
    const probe = join(path, `.probe-${process.pid}`);
    writeFileSync(probe, '');
    rmSync(probe);
  } catch (cause) {
    if (cause instanceof Remedy) throw cause;
    throw new Remedy(
      `The data folder ${path} cannot be written (${systemCode(cause) ?? String(cause)}).\n` +
        `Give this user the folder, or choose another: CDAAS_DATA_DIR=/path/to/folder npm start`,
      { cause },
    );
  }
  return {
    path,
    lock: join(path, 'lock.json'),
    key: join(path, 'key'),
    adminFile: join(path, 'admin.json'),
    kubeconfig: join(path, 'sandbox.kubeconfig'),
    logFile: join(path, 'cdaas.log'),
    demoFile: join(path, 'demo.json'),
    rbacFile: join(path, 'rbac.yaml'),
    postgres: join(path, 'postgres'),
    sandbox: join(path, 'sandbox'),
  };
}

/** Not by `recursive`, which tries for ever where the kernel says that a folder's own parent is missing (under /proc). */
function makeFolder(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found?.isDirectory()) return;
  if (found) {
    throw new Remedy(
      `${path} is a file; the data of CDaaS needs a folder. Choose another: CDAAS_DATA_DIR=/path/to/folder`,
    );
  }
  if (dirname(path) !== path) makeFolder(dirname(path));
  try {
    mkdirSync(path);
  } catch (error) {
    // Somebody else may have made it at the same moment.
    if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw error;
  }
}

/** Writes a file for its owner alone, whole or not at all: a crash leaves the old content or the new. */
export function writePrivate(path: string, content: string): void {
  const unfinished = `${path}.${process.pid}`;
  writeFileSync(unfinished, content, { mode: 0o600, flush: true });
  renameSync(unfinished, path);
}

/** The JSON content of a file, undefined where it is missing. */
export function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw new Remedy(`${path} cannot be read (${String(error)}). Move it away and start again.`, { cause: error });
  }
}

const Lock = z.object({ pid: z.number(), identity: z.string().min(1), url: z.string().nullable() });
type Lock = z.infer<typeof Lock>;

/** How long a lock that was taken over must stay ours before it counts. */
const settleMs = 100;

/**
 * Lets one process at a time use a data folder. A lock left by a process that is gone, or whose id has gone to another
 * program since, is taken over by one of those that find it.
 *
 * @returns how to tell others the URL, and how to give the folder back
 * @throws Remedy while another instance is running
 */
export async function lockDataDir(
  dir: DataDir,
  again: Again = createAgain({}, []),
): Promise<{ announce(url: string): void; release(): void }> {
  const mine: Lock = { pid: process.pid, identity: identityOf(process.pid), url: null };
  if (!create(dir.lock, mine)) {
    refuseIfHeld(dir, readLock(dir.lock), again);
    takeOver(dir, mine, again);
    await sleep(settleMs);
    const now = readLock(dir.lock);
    if (now?.pid !== mine.pid || now.identity !== mine.identity) refuseIfHeld(dir, now, again);
  }
  return {
    announce(url) {
      writePrivate(dir.lock, JSON.stringify({ ...mine, url } satisfies Lock));
    },
    release() {
      rmSync(dir.lock, { force: true });
    },
  };
}

/** Replaces the lock of a process that is gone. Only the maker of a second file may, and looks again before it does. */
function takeOver(dir: DataDir, mine: Lock, again: Again): void {
  const turn = `${dir.lock}.turn`;
  while (!create(turn, mine)) {
    refuseIfHeld(dir, readLock(turn), again);
    rmSync(turn, { force: true });
  }
  try {
    refuseIfHeld(dir, readLock(dir.lock), again);
    writePrivate(dir.lock, JSON.stringify(mine));
  } finally {
    rmSync(turn, { force: true });
  }
}

/** Whether the file was made; false where it is there already. */
function create(path: string, lock: Lock): boolean {
  try {
    writeFileSync(path, JSON.stringify(lock), { flag: 'wx', mode: 0o600 });
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw error;
  }
}

function refuseIfHeld({ path }: DataDir, held: Lock | undefined, again: Again): void {
  if (held === undefined || identityOf(held.pid) !== held.identity) return;
  throw new Remedy(
    `CDaaS is running on ${path} already (process ${held.pid}${held.url ? `, ${held.url}` : ''}).\n` +
      `Stop it first (kill ${held.pid}), or start a second one beside it:\n` +
      `  ${again({ env: { CDAAS_DATA_DIR: nextName(path), PORT: '0' } })}`,
  );
}

/** Undefined where there is none, or one that a crash cut short. */
function readLock(path: string): Lock | undefined {
  try {
    return Lock.safeParse(JSON.parse(readFileSync(path, 'utf8'))).data;
  } catch {
    return undefined;
  }
}
