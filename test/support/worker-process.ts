import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A worker as it runs in production: a process of its own, that can be killed. */
export type WorkerProcess = {
  workerId: number;
  pid: number;
  /** Sends SIGKILL and waits until the process is gone. */
  kill(): Promise<void>;
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void;
  /** Ends it as an operator would; one that was stopped or killed is gone as well. */
  end(): Promise<void>;
};

export type WorkerEnvironment = {
  databaseUrl: string;
  keyFile: string;
  outboundAllow: string;
  /** Log lines tell once in a while how the process is (vitals.ts). */
  vitals?: boolean;
};

/** Starts a worker process and waits until it takes work. */
export async function spawnWorker(
  { databaseUrl, keyFile, outboundAllow, vitals = false }: WorkerEnvironment,
  onLog: (line: string) => void,
): Promise<WorkerProcess> {
  const { REDIS_URL: _, ...environment } = process.env;
  const main = fileURLToPath(new URL('../../apps/worker/src/main.ts', import.meta.url));
  const child = spawn(process.execPath, [...(vitals ? ['--import', vitalsUrl] : []), main], {
    env: {
      ...environment,
      DATABASE_URL: databaseUrl,
      ENCRYPTION_KEY_FILE: keyFile,
      OUTBOUND_ALLOW: outboundAllow,
      LOG_LEVEL: 'debug',
      NODE_COMPILE_CACHE: compileCache(main),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const gone = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const workerId = await started(child, onLog);
  const over = () => child.exitCode !== null || child.signalCode !== null;
  return {
    workerId,
    pid: child.pid ?? 0,
    async kill() {
      child.kill('SIGKILL');
      await gone;
    },
    signal: (signal) => void child.kill(signal),
    async end() {
      if (over()) return;
      child.kill('SIGCONT');
      child.kill('SIGTERM');
      await gone;
    },
  };
}

const vitalsUrl = new URL('./vitals.ts', import.meta.url).href;

let cacheFolder: string | undefined;

/** Where Node keeps what it compiled of the worker, so that the many processes of a test file start in half the time. */
function compileCache(main: string): string {
  if (cacheFolder) return cacheFolder;
  const folder = mkdtempSync(join(tmpdir(), 'cdaas-compiled-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  // Node writes it as a process ends by itself, which a killed worker does not.
  spawnSync(process.execPath, [main, '--help'], {
    env: { ...process.env, NODE_COMPILE_CACHE: folder },
    stdio: 'ignore',
  });
  cacheFolder = folder;
  return folder;
}

function started(child: ChildProcess, onLog: (line: string) => void): Promise<number> {
  return new Promise((resolve, reject) => {
    let errors = '';
    child.stderr?.on('data', (chunk) => {
      errors += chunk;
    });
    let rest = '';
    child.stdout?.setEncoding('utf8');
    child.stdout?.on('data', (chunk: string) => {
      const lines = `${rest}${chunk}`.split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        onLog(line);
        const { msg, workerId } = JSON.parse(line) as { msg: string; workerId?: number };
        if (msg === 'worker started' && workerId !== undefined) resolve(workerId);
      }
    });
    child.once('error', reject);
    child.once('close', (code) => reject(new Error(`the worker process ended with ${code}: ${errors}`)));
  });
}
