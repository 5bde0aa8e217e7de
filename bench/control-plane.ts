import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '@cdaas/contract/errors.ts';
import { registerCluster } from '@cdaas/control-plane/clusters.ts';
import { openDatabase } from '@cdaas/control-plane/database/db.ts';
import { approveStep } from '@cdaas/control-plane/deployments.ts';
import { createVault, loadOrCreateKey } from '@cdaas/control-plane/encryption.ts';
import { bootstrap } from '@cdaas/control-plane/organisations.ts';
import { createOutbound, parseOutboundAllow } from '@cdaas/control-plane/outbound.ts';
import { systemContext } from '@cdaas/control-plane/principals.ts';
import { openQueue } from '@cdaas/control-plane/queue.ts';
import { startPipeline } from '@cdaas/control-plane/start.ts';
import { startPostgres } from '@cdaas/standalone/postgres.ts';
import { pino } from 'pino';
import { freePort } from '../test/support/free-port.ts';
import { until } from '../test/support/until.ts';
import { account, barrierRef } from './applications.ts';
import type { BenchCluster } from './clusters.ts';
import { type CpuSeconds, cpuSeconds } from './processes.ts';

export const queueBackends = ['postgres', 'redis'] as const;
export type QueueBackend = (typeof queueBackends)[number];

export type Started = { pipelineId: string; deploymentId: string };

/** The control plane, less the HTTP API: use cases in this process, workers in their own. */
export type ControlPlane = {
  backend: QueueBackend;
  start(file: string): Promise<Started>;
  /** Approves the step at which a measurement's canaries wait, as soon as it waits. */
  approve(started: Started): Promise<void>;
  /** Waits until all have succeeded. */
  succeeded(all: readonly Started[]): Promise<void>;
  startWorker(): Promise<WorkerProcess>;
  /** The worker process that drives a deployment now. */
  ownerOf(started: Started): Promise<WorkerProcess | undefined>;
  cpu(): CpuSeconds;
  close(): Promise<void>;
};

/** What must not outlive this process. */
const children = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

export type WorkerProcess = { pid: number; workerId: number; kill(): Promise<void>; end(): Promise<void> };

/** A Postgres as it is by default (fsync on), migrated. */
export async function startDatabase(folder: string) {
  mkdirSync(folder, { recursive: true });
  chmodSync(folder, 0o755);
  const postgres = await startPostgres(join(folder, 'db'), () => {});
  process.once('exit', postgres.abandon);
  const script = join(import.meta.dirname, '../scripts/prisma.ts');
  const { status, stderr } = spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', script, 'migrate'], {
    env: { ...process.env, DATABASE_URL: postgres.url },
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`migrating failed: ${stderr}`);
  const pid = Number(readFileSync(join(postgres.folder, 'postmaster.pid'), 'utf8').split('\n')[0]);
  return { url: postgres.url, pid, stop: () => postgres.stop() };
}

export function hasRedis(): boolean {
  return spawnSync('redis-server', ['--version'], { stdio: 'ignore' }).status === 0;
}

async function startRedis(folder: string) {
  const port = await freePort();
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--hz', '100'];
  const server = spawn('redis-server', [...args, '--dir', folder], { stdio: 'ignore' });
  children.add(server);
  const url = `redis://127.0.0.1:${port}`;
  return { url, pid: server.pid ?? 0, stop: () => stopped(server, 'SIGTERM') };
}

export type ControlPlaneOptions = {
  folder: string;
  backend: QueueBackend;
  database: { url: string; pid: number };
  cluster: BenchCluster;
  /** How a weight counts as in force. */
  meshConfirmation: 'stored' | 'linkerd-smi';
  /** Flags of Node that workers run with. */
  workerFlags: readonly string[];
};

export async function openControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const { folder, backend, database, cluster, meshConfirmation, workerFlags } = options;
  const redis = backend === 'redis' ? await startRedis(folder) : undefined;
  const keyFile = join(folder, 'key');
  const key = await loadOrCreateKey(keyFile);
  const allow = 'cluster:127.0.0.1/32:*';
  const allowed = parseOutboundAllow(allow);
  const outbound = createOutbound(allowed.ok ? allowed.rules : []);
  const db = await openDatabase({ url: database.url, role: 'cdaas_api' });
  const workerDb = await openDatabase({ url: database.url, role: 'cdaas_worker' });
  const redisUrl = redis === undefined ? {} : { redisUrl: redis.url };
  const queue = await openQueue({ databaseUrl: database.url, role: 'cdaas_api', ...redisUrl });
  const scope = await bootstrap(db, { organisation: 'bench', tenant: 'main', credential: 'bench' });
  const vault = createVault(key, db);
  const log = pino({ level: 'error' });
  const settings = { publicUrl: 'http://127.0.0.1', clustersPerTenant: 1, drainSeconds: 0 };
  const base = { db, queue, vault, outbound, log, clock: db.clock, ...settings };
  const ctx = systemContext(base, scope, 'bench');
  const { server, caData } = cluster.address;
  await registerCluster(ctx, { name: account, server, caData, token: cluster.token, meshConfirmation });
  const workers = new Set<WorkerProcess>();

  return {
    backend,
    async start(file) {
      const { pipelineId, deployments } = await startPipeline(ctx, { source: { json: file } });
      return { pipelineId, deploymentId: deployments[0]?.id ?? '' };
    },
    async approve({ deploymentId }) {
      await until(async () => {
        try {
          await approveStep(ctx, { id: deploymentId, ref: barrierRef });
          return true;
        } catch (error) {
          if (error instanceof AppError && error.code === 'step.state') return false;
          throw error;
        }
      }, 'an approval');
    },
    async succeeded(all) {
      const ids = all.map(({ pipelineId }) => pipelineId);
      await until(
        async () => {
          const statuses = await workerDb.prisma.pipeline.groupBy({
            by: ['status'],
            where: { id: { in: ids } },
            _count: true,
          });
          const bad = statuses.find(({ status }) => ['FAILED', 'CANCELLED'].includes(status));
          if (bad) throw new Error(`${bad._count} of ${ids.length} runs ended ${bad.status}: ${await whyFailed(ids)}`);
          return statuses.every(({ status }) => status === 'SUCCEEDED');
        },
        'all to succeed',
        600_000,
        100,
      );
    },
    async startWorker() {
      const worker = await spawnWorker(workerFlags, {
        DATABASE_URL: database.url,
        ENCRYPTION_KEY_FILE: keyFile,
        OUTBOUND_ALLOW: allow,
        REDIS_URL: redis?.url ?? '',
      });
      workers.add(worker);
      return worker;
    },
    async ownerOf({ deploymentId }) {
      const row = await workerDb.prisma.deployment.findUnique({ where: { id: deploymentId }, select: { owner: true } });
      return [...workers].find(({ workerId }) => workerId === row?.owner);
    },
    cpu: () => ({
      'bench itself': process.cpuUsage().user / 1e6 + process.cpuUsage().system / 1e6,
      Postgres: cpuSeconds(database.pid),
      ...(redis === undefined ? {} : { Redis: cpuSeconds(redis.pid) }),
    }),
    async close() {
      await Promise.all([...workers].map((worker) => worker.end()));
      await queue.close();
      await Promise.all([db.close(), workerDb.close()]);
      await redis?.stop();
    },
  };

  async function whyFailed(ids: string[]): Promise<string> {
    const [event] = await workerDb.prisma.event.findMany({
      where: { pipelineId: { in: ids }, message: { contains: 'fail' } },
      take: 1,
    });
    return event?.message ?? 'no event says why';
  }
}

function spawnWorker(nodeFlags: readonly string[], environment: Record<string, string>): Promise<WorkerProcess> {
  const main = join(import.meta.dirname, '../apps/worker/src/main.ts');
  const flags = ['--disable-warning=ExperimentalWarning', ...nodeFlags, main];
  const child = spawn(process.execPath, flags, {
    env: { ...process.env, ...environment, LOG_LEVEL: 'info' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.add(child);
  return new Promise((resolve, reject) => {
    let rest = '';
    child.once('error', reject);
    child.once('close', (code) => reject(new Error(`the worker ended with ${code}`)));
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = `${rest}${chunk}`.split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        // Node's own words, where its flags ask for some.
        if (!line.startsWith('{')) {
          process.stderr.write(`worker: ${line}\n`);
          continue;
        }
        const { msg, workerId, level } = JSON.parse(line) as { msg: string; workerId?: number; level: number };
        if (level >= 50) process.stderr.write(`worker: ${line}\n`);
        if (msg !== 'worker started' || workerId === undefined) continue;
        const [kill, end] = (['SIGKILL', 'SIGTERM'] as const).map((signal) => () => stopped(child, signal));
        if (kill && end) resolve({ pid: child.pid ?? 0, workerId, kill, end });
      }
    });
  });
}

async function stopped(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  children.delete(child);
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('close', resolve));
  child.kill(signal);
  await gone;
}
