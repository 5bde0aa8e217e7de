import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chownSync, closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join, parse } from 'node:path';
import { z } from 'zod';
import { readJson, writePrivate } from './data-dir.ts';
import { type Account, accountToRunAs, type Binaries, closedTo, findBinaries } from './postgres-binaries.ts';
import { becomes, commandOf, isAlive } from './processes.ts';
import { Remedy } from './remedy.ts';

/**
 * The embedded Postgres of `npm start`: real PostgreSQL, its binaries from the npm package of this platform, its data under
 * the data folder. The package's own launcher is not used: it ties Postgres to the terminal's process group, so that
 * Ctrl-C would stop the database while the API and the worker still drain.
 *
 * After a kill -9 of this process Postgres goes on alone. The next start finds it by postmaster.pid, stops it in order and
 * starts its own; where that process is gone, or is another program by now, only the file is removed. Where Postgres is
 * what ends unasked, it is started again on the same port.
 */
export type Postgres = {
  /** Where its data is. */
  folder: string;
  url: string;
  port: number;
  /** Settles when it ended unasked and could not be started again. */
  failed: Promise<Remedy>;
  stop(): Promise<void>;
  /** For when this process ends at once: Postgres aborts, and recovers at its next start. */
  abandon(): void;
};

/** `folder` is where the data is, if not beside these settings. */
const Settings = z.object({ port: z.number().int(), password: z.string(), folder: z.string().optional() });
type Settings = z.infer<typeof Settings>;

const database = 'cdaas';
const superuser = 'postgres';
const startTimeoutMs = 60_000;
const stopTimeoutMs = 30_000;
/** So many ends in so long are no accident any more. */
const endsAllowed = 5;
const endsWithinMs = 60_000;

/** For data of a Postgres that runs as another user than us, where that user may not enter our folder (a clone in /root). */
const sharedFolder = '/var/lib/cdaas';

/**
 * Starts Postgres, making the database on the first start.
 *
 * @param wanted folder for its data. Settings (port and password, 0600) and the log lie beside it
 * @param note told in words what was found and done about an earlier run
 * @throws Remedy where it cannot run
 */
export async function startPostgres(wanted: string, note: (words: string) => void): Promise<Postgres> {
  const account = accountToRunAs();
  const binaries = await findBinaries(account);
  const settingsFile = `${wanted}.json`;
  const logFile = `${wanted}.log`;
  const settings = readSettings(settingsFile, wanted) ?? newSettings(wanted, account, note);
  const folder = settings.folder ?? wanted;

  await stopEarlier(folder, note);
  const port = await freePort(settings.port);
  // Before the data: a crash between the two leaves a folder to be made, never one whose password is lost.
  writePrivate(settingsFile, JSON.stringify({ ...settings, port }));
  if (!existsSync(join(folder, madeMark))) initialise(folder, binaries, account, settings.password);
  const url = `postgres://${superuser}:${settings.password}@127.0.0.1:${port}/${database}`;
  const server = await keepRunning(() => launchUntilReady(folder, binaries, account, port, logFile), logFile, note);
  return { folder, url, port, ...server };
}

/** Starts the server, and again each time that it ends unasked. */
async function keepRunning(
  start: () => Promise<ChildProcess>,
  logFile: string,
  note: (words: string) => void,
): Promise<Pick<Postgres, 'failed' | 'stop' | 'abandon'>> {
  const ends: number[] = [];
  let stopping = false;
  let server = await start();
  let restarting: Promise<void> | undefined;
  let fail: (remedy: Remedy) => void = () => {};
  const failed = new Promise<Remedy>((resolve) => {
    fail = resolve;
  });

  const restart = async () => {
    const how = server.signalCode ?? `exit code ${server.exitCode}`;
    const now = performance.now();
    if (ends.push(now) > endsAllowed && now - (ends.at(-1 - endsAllowed) ?? 0) < endsWithinMs) {
      throw new Remedy(`Postgres ends again and again (${how}). The end of ${logFile}:\n\n${tail(logFile)}`);
    }
    note(`Postgres ended unasked (${how}); starting it again.`);
    server = await start();
    note('Postgres is back.');
    if (!stopping) watch();
  };
  const watch = () => {
    const onEnd = () => {
      if (stopping) return;
      restarting = restart().catch((error: unknown) => {
        if (!stopping) fail(error instanceof Remedy ? error : new Remedy(`Postgres did not start: ${String(error)}`));
      });
    };
    if (hasEnded(server)) onEnd();
    else server.once('exit', onEnd);
  };
  watch();

  return {
    failed,
    async stop() {
      stopping = true;
      await restarting;
      await stopServer(server, note);
    },
    abandon() {
      stopping = true;
      server.kill('SIGQUIT');
    },
  };
}

function hasEnded(server: ChildProcess): boolean {
  return server.exitCode !== null || server.signalCode !== null || server.pid === undefined;
}

/** A file that is made last: without it the folder is a half-made one. */
const madeMark = 'cdaas-database-made';

function newSettings(wanted: string, account: Account, note: (words: string) => void): Settings {
  const settings = { port: 0, password: randomBytes(24).toString('base64url') };
  const closed = account && closedTo(dirname(wanted), account);
  if (closed === undefined) return settings;
  const folder = join(sharedFolder, `postgres-${randomBytes(4).toString('hex')}`);
  note(`As root, Postgres runs as the user "postgres", which may not enter ${closed}: its data is in ${folder}.`);
  return { ...settings, folder };
}

/** Stops with "fast": connections are ended, everything committed is on disk. Kills only what does not end in time. */
async function stopServer(server: ChildProcess, note: (words: string) => void): Promise<void> {
  if (hasEnded(server)) return;
  server.kill('SIGINT');
  if (await becomes(() => hasEnded(server), stopTimeoutMs)) return;
  note('Postgres did not stop in time and was killed; it recovers at the next start.');
  server.kill('SIGKILL');
}

async function stopEarlier(folder: string, note: (words: string) => void): Promise<void> {
  const pidFile = join(folder, 'postmaster.pid');
  if (!existsSync(pidFile)) return;
  const pid = Number(readFileSync(pidFile, 'utf8').split('\n')[0]);
  if (pid > 0 && isAlive(pid) && isPostgresOn(pid, folder)) {
    note(`Postgres of an earlier run is still alive (process ${pid}); stopping it first.`);
    process.kill(pid, 'SIGINT');
    if (!(await becomes(() => !isAlive(pid), stopTimeoutMs))) {
      throw new Remedy(
        `An earlier Postgres (process ${pid}) holds ${folder} and does not stop.\n` +
          `End it (kill -QUIT ${pid}) and start again; nothing that was committed is lost.`,
      );
    }
    return;
  }
  note('Postgres of an earlier run did not end in order; it recovers from its log.');
  // A file that names no process is left to Postgres: by it Postgres finds orphans that still have its memory. One that
  // names another program by now would make it refuse.
  if (isAlive(pid)) rmSync(pidFile, { force: true });
}

function isPostgresOn(pid: number, folder: string): boolean {
  const command = commandOf(pid);
  return command.includes('postgres') && command.includes(folder);
}

/** Line 8 of postmaster.pid is what pg_ctl waits for as well. */
function isReady(folder: string, pid: number | undefined): boolean {
  const file = join(folder, 'postmaster.pid');
  if (!existsSync(file)) return false;
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines[0] === String(pid) && lines[7]?.trim() === 'ready';
}

async function launchUntilReady(
  folder: string,
  binaries: Binaries,
  account: Account,
  port: number,
  logFile: string,
): Promise<ChildProcess> {
  const end = performance.now() + startTimeoutMs;
  for (;;) {
    const server = launch(folder, binaries, account, port, logFile);
    await becomes(() => hasEnded(server) || isReady(folder, server.pid), end - performance.now());
    if (!hasEnded(server) && isReady(folder, server.pid)) return server;
    server.kill('SIGKILL');
    // Processes of a killed server end by themselves within moments.
    if (tail(logFile).includes('shared memory block') && performance.now() < end) continue;
    throw new Remedy(startTrouble(folder, logFile, tail(logFile)));
  }
}

/** Why Postgres did not start, and what helps. `told`: the end of its log. */
export function startTrouble(folder: string, logFile: string, told: string): string {
  const versions = /initialized by PostgreSQL version (\S+), which is not compatible with this version (\S+?)\.?$/m;
  const [, made, here] = versions.exec(told) ?? [];
  if (made !== undefined && here !== undefined) {
    return (
      `The data in ${folder} was made by PostgreSQL ${made}; this release of CDaaS brings PostgreSQL ${here}, which cannot read it.\n` +
      `Start the release that made it, or give its data to a server of your own (pg_dump there, psql here) and name that by\n` +
      `DATABASE_URL. To begin with an empty database, move ${folder} away.`
    );
  }
  return (
    `Postgres did not start. The end of ${logFile}:\n\n${told}\n\n` +
    `If its data is damaged beyond repair, move ${folder} away and start again: a new database is made.`
  );
}

function initialise(folder: string, binaries: Binaries, account: Account, password: string): void {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(dirname(folder), { recursive: true, mode: 0o755 });
  mkdirSync(folder, { mode: 0o700 });
  if (account) chownSync(folder, account.uid, account.gid);
  const run = { ...account, cwd: parse(folder).root, encoding: 'utf8' } as const;
  const passwordFile = `${folder}.initial-password`;
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  if (account) chownSync(passwordFile, account.uid, account.gid);
  const made = spawnSync(
    binaries.initdb,
    [
      `--pgdata=${folder}`,
      `--username=${superuser}`,
      '--auth=scram-sha-256',
      `--pwfile=${passwordFile}`,
      '--encoding=UTF8',
      '--no-locale',
    ],
    run,
  );
  rmSync(passwordFile);
  const created =
    made.status === 0 &&
    spawnSync(binaries.postgres, ['--single', '-D', folder, 'postgres'], {
      ...run,
      input: `create database ${database}\n`,
    });
  if (created === false || created.status !== 0) {
    const failed = created === false ? made : created;
    rmSync(folder, { recursive: true, force: true });
    throw new Remedy(
      `Postgres could not make its database in ${folder}:\n\n${failed.error?.message ?? failed.stderr.trim()}\n\n` +
        `Check the space and the rights there, or use a Postgres of your own: DATABASE_URL=postgres://… npm start`,
    );
  }
  writeFileSync(join(folder, madeMark), '');
}

function launch(folder: string, binaries: Binaries, account: Account, port: number, logFile: string): ChildProcess {
  // Its log goes to a file directly, not through a pipe that a crash of this process would break.
  const log = openSync(logFile, 'a', 0o600);
  const server = spawn(
    binaries.postgres,
    [
      '-D',
      folder,
      '-p',
      String(port),
      '-c',
      'listen_addresses=127.0.0.1',
      '-c',
      'unix_socket_directories=',
      '-c',
      'timezone=UTC',
    ],
    { ...account, cwd: parse(folder).root, stdio: ['ignore', log, log], detached: true },
  );
  closeSync(log);
  server.on('error', () => undefined);
  return server;
}

function readSettings(file: string, folder: string): Settings | undefined {
  const content = readJson(file);
  const parsed = Settings.safeParse(content);
  if (parsed.success) return parsed.data;
  if (content === undefined && !existsSync(folder)) return undefined;
  throw new Remedy(
    `${file}, which holds the password of the embedded Postgres, is missing or damaged.\n` +
      `Restore it, or move ${folder} away to begin with an empty database.`,
  );
}

/** The wanted port if it is free, else one that is. 0 takes any. */
async function freePort(wanted: number): Promise<number> {
  for (const port of [wanted, 0]) {
    const found = await new Promise<number | undefined>((resolve) => {
      const server = createServer();
      server.once('error', () => resolve(undefined));
      server.listen(port, '127.0.0.1', () => {
        const address = server.address();
        server.close(() => resolve(typeof address === 'object' ? address?.port : undefined));
      });
    });
    if (found !== undefined) return found;
  }
  throw new Remedy('No port on 127.0.0.1 is free for Postgres.');
}

function tail(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8').trimEnd().split('\n').slice(-12).join('\n') : '(no log)';
}
