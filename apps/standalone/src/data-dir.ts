import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { commandOf, isAlive } from './processes.ts';
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
    mkdirSync(path, { recursive: true });
    chmodSync(path, 0o711);
    const probe = join(path, `.probe-${process.pid}`);
    writeFileSync(probe, '');
    rmSync(probe);
  } catch (cause) {
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
    postgres: join(path, 'postgres'),
    sandbox: join(path, 'sandbox'),
  };
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

type Lock = { pid: number; url: string | null };

/**
 * Lets one process at a time use a data folder. A lock left by a process that is gone, or whose id has gone to another
 * program since, is taken over.
 *
 * @returns how to tell others the URL, and how to give the folder back
 * @throws Remedy while another instance is running
 */
export function lockDataDir(dir: DataDir): { announce(url: string): void; release(): void } {
  const mine: Lock = { pid: process.pid, url: null };
  for (;;) {
    try {
      writeFileSync(dir.lock, JSON.stringify(mine), { flag: 'wx', mode: 0o600 });
      break;
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
      removeStaleLock(dir);
    }
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

function removeStaleLock(dir: DataDir): void {
  const held = readLock(dir.lock);
  if (held !== undefined && isAlive(held.pid) && commandOf(held.pid).includes('standalone')) {
    throw new Remedy(
      `CDaaS is running on ${dir.path} already (process ${held.pid}${held.url ? `, ${held.url}` : ''}).\n` +
        `Stop it first (kill ${held.pid}), or start a second one beside it:\n` +
        `  CDAAS_DATA_DIR=.cdaas-2 PORT=0 npm start`,
    );
  }
  // Moved, not deleted: of two processes that find the same stale lock only one moves it, and the other sees it gone.
  const moved = `${dir.lock}.stale-${process.pid}`;
  try {
    renameSync(dir.lock, moved);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return;
    throw error;
  }
  rmSync(moved, { force: true });
}

function readLock(path: string): Lock | undefined {
  try {
    const content: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (typeof content !== 'object' || content === null || !('pid' in content) || typeof content.pid !== 'number') {
      return undefined;
    }
    return { pid: content.pid, url: 'url' in content && typeof content.url === 'string' ? content.url : null };
  } catch {
    // Being written at this moment by another process, or cut short by a crash: the age tells.
    const fresh = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0) < 2000;
    if (fresh) throw new Remedy('Another CDaaS is starting on this data folder at this moment. Try again.');
    return undefined;
  }
}
