import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { until } from '../support/until.ts';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** A data folder of its own, and `npm start` on it as a real process, as a person would run it. */
export type Installation = {
  folder: string;
  path(name: string): string;
  start(args?: string[], environment?: Record<string, string>): Running;
  /** Ends what still runs and deletes the folder. */
  remove(): Promise<void>;
};

export type Running = {
  process: ChildProcess;
  /** Everything printed so far, standard output and error together. */
  output(): string;
  /** Waits until a text has been printed, and answers the match. Fails with the output when the process ends first. */
  prints(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray>;
  /** The URL, once the API serves. */
  url(): Promise<string>;
  /** Waits for the end; answers the exit code. */
  ended(timeoutMs?: number): Promise<number | null>;
  /** The process that scripts/start.mjs stands in for. */
  mainPid(): number;
};

export function newInstallation(): Installation {
  const folder = mkdtempSync(join(tmpdir(), 'cdaas-standalone-'));
  // As root, Postgres runs as another user, who must be able to reach its folder inside.
  chmodSync(folder, 0o755);
  const started: Running[] = [];
  const path = (name: string) => join(folder, 'data', name);
  return {
    folder,
    path,
    start(args = [], environment = {}) {
      const running = launch(
        args,
        { CDAAS_DATA_DIR: join(folder, 'data'), PORT: '0', METRICS_PORT: '0', ...environment },
        path,
      );
      started.push(running);
      return running;
    },
    async remove() {
      for (const { process: launcher, ended } of started) {
        if (launcher.exitCode !== null || launcher.signalCode !== null) continue;
        launcher.kill('SIGTERM');
        await ended(30_000);
      }
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function launch(args: string[], environment: Record<string, string>, path: (name: string) => string): Running {
  const launcher = spawn(process.execPath, ['scripts/start.mjs', ...args], {
    cwd: root,
    env: {
      ...process.env,
      DATABASE_URL: '',
      REDIS_URL: '',
      PUBLIC_URL: '',
      HOST: '',
      OUTBOUND_ALLOW: '',
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let printed = '';
  const keep = (chunk: Buffer) => {
    printed += chunk.toString();
  };
  launcher.stdout.on('data', keep);
  launcher.stderr.on('data', keep);
  const closed = new Promise<void>((resolve) => launcher.on('close', () => resolve()));

  const running: Running = {
    process: launcher,
    output: () => printed,
    async prints(pattern, timeoutMs = 60_000) {
      const match = () => pattern.exec(printed);
      await until(() => match() !== null || launcher.exitCode !== null, `${pattern} in:\n${printed}`, timeoutMs);
      const found = match();
      assert.ok(found, `ended with ${launcher.exitCode} before printing ${pattern}:\n${printed}`);
      return found;
    },
    async url() {
      const [, url = ''] = await running.prints(/API\s[^\n]*(http:\/\/[\w.:[\]]+)/);
      return url;
    },
    async ended(timeoutMs = 60_000) {
      const late = sleep(timeoutMs, 'late', { ref: false });
      const outcome = await Promise.race([closed, late]);
      assert.notEqual(outcome, 'late', `still running after ${timeoutMs} ms:\n${printed}`);
      return launcher.exitCode;
    },
    mainPid: () => (JSON.parse(readFileSync(path('lock.json'), 'utf8')) as { pid: number }).pid,
  };
  return running;
}

/** The process id of the embedded Postgres, undefined while there is none. */
export function postgresPid(installation: Installation): number | undefined {
  const file = installation.path('postgres/postmaster.pid');
  if (!existsSync(file)) return undefined;
  return Number(readFileSync(file, 'utf8').split('\n')[0]);
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Calls the API with the credential of admin.json. */
export async function connect(installation: Installation, url: string) {
  const admin = JSON.parse(readFileSync(installation.path('admin.json'), 'utf8')) as Record<string, string>;
  const token = await fetch(`${url}/oauth/token`, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'client_credentials',
      client_id: admin.clientId ?? '',
      client_secret: admin.clientSecret ?? '',
    }),
  });
  assert.equal(token.status, 200);
  const { access_token } = (await token.json()) as { access_token: string };
  const headers = { authorization: `Bearer ${access_token}` };
  return {
    async get<Answer>(path: string): Promise<Answer> {
      const answer = await fetch(url + path, { headers });
      assert.equal(answer.status, 200, `GET ${path}: ${answer.status}`);
      return (await answer.json()) as Answer;
    },
    async post<Answer>(path: string, body?: string): Promise<Answer> {
      const type = body === undefined ? {} : { 'content-type': 'application/yaml' };
      const answer = await fetch(url + path, {
        method: 'POST',
        headers: { ...headers, ...type },
        ...(body === undefined ? {} : { body }),
      });
      const text = await answer.text();
      assert.equal(answer.status, 202, `POST ${path}: ${answer.status} ${text}`);
      return JSON.parse(text) as Answer;
    },
  };
}

export function example(name: string): string {
  return readFileSync(join(root, 'examples', name), 'utf8');
}
