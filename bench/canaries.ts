/**
 * `npm run bench [-- --canaries 1,100]`: whole canaries through the real engine, a worker process of its own, the
 * sandbox cluster and an embedded Postgres, all on this machine. Times are taken where they count: when the API server
 * tells a watcher of the new weight. Nothing here is a test; absolute figures move with the machine, ratios hold.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { registerCluster } from '@cdaas/control-plane/clusters.ts';
import { openDatabase } from '@cdaas/control-plane/db.ts';
import { createKubeClient } from '@cdaas/control-plane/drivers/kube.ts';
import { watchResource } from '@cdaas/control-plane/drivers/kube-watch.ts';
import { createVault, loadOrCreateKey } from '@cdaas/control-plane/encryption.ts';
import { bootstrap } from '@cdaas/control-plane/organisations.ts';
import { createOutbound, parseOutboundAllow } from '@cdaas/control-plane/outbound.ts';
import { systemContext } from '@cdaas/control-plane/principals.ts';
import { openQueue } from '@cdaas/control-plane/queue.ts';
import { startPipeline } from '@cdaas/control-plane/start.ts';
import { startSandbox } from '@cdaas/sandbox/sandbox.ts';
import { pino } from 'pino';
import { cloneDatabase } from '../test/support/database.ts';

const usage = `npm run bench [-- options]

Measures whole canaries of ten weights: a worker process, the sandbox cluster and an embedded Postgres, all on this
machine. Told are the time from weight to weight as a watcher of the cluster sees it (without pauses), how late weights
are after pauses of 1 s, writes to the cluster, CPU and memory of the worker. It takes about half a minute on two
cores, longer for more canaries. Nothing is kept. Figures of one machine can be compared, those of two cannot.

  --canaries 1,100   how many canaries at once, for the rows with pauses
  --help             this text
`;
const { values } = parseArgs({
  options: { canaries: { type: 'string', default: '1,100' }, help: { type: 'boolean' } },
});
if (values.help) {
  process.stdout.write(usage);
  process.exit(0);
}
const sizes = values.canaries.split(',').map(Number);
if (!sizes.every((size) => Number.isInteger(size) && size > 0)) {
  process.stderr.write(`--canaries takes whole numbers, such as 1,100\n\n${usage}`);
  process.exit(2);
}

const weights = [10, 20, 30, 40, 50, 60, 70, 80, 90, 99];

/** A deployment file of one pod, ten weights, and a pause of a second after each where asked for. */
function file(name: string, version: number, pauses: boolean): string {
  const steps = weights.flatMap((weight) => [
    { setWeight: { weight } },
    ...(pauses ? [{ pause: { duration: 1, unit: 'seconds' } }] : []),
  ]);
  const labels = { app: name };
  const deployment = {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name },
    spec: {
      replicas: 1,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [{ name: 'app', image: `bench:${version}` }] } },
    },
  };
  const service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name },
    spec: { selector: labels, ports: [{ port: 80 }] },
  };
  return JSON.stringify({
    version: 'v1',
    kind: 'kubernetes',
    application: name,
    targets: { bench: { account: 'sandbox', namespace: 'default', strategy: 'ten' } },
    manifests: [deployment, service].map((object) => ({ inline: JSON.stringify(object) })),
    strategies: { ten: { canary: { steps } } },
    trafficManagement: [{ smi: [{ rootServiceName: name }] }],
  });
}

const folder = mkdtempSync(join(tmpdir(), 'cdaas-bench-'));
const log = pino({ level: 'error' });
const sandbox = await startSandbox({ dataDir: join(folder, 'sandbox') });
const database = await cloneDatabase('bench');
const keyFile = join(folder, 'key');
const key = await loadOrCreateKey(keyFile);
const allow = `cluster:127.0.0.1/32:${sandbox.port}`;
const allowed = parseOutboundAllow(allow);
const outbound = createOutbound(allowed.ok ? allowed.rules : []);
const db = await openDatabase({ url: database.url, role: 'cdaas_api' });
const workerDb = await openDatabase({ url: database.url, role: 'cdaas_worker' });
const queue = await openQueue({ databaseUrl: database.url, role: 'cdaas_api' });
const scope = await bootstrap(db, { organisation: 'bench', tenant: 'main', credential: 'bench' });
const vault = createVault(key, db);
const base = { db, queue, vault, outbound, log, clock: db.clock, publicUrl: 'http://127.0.0.1', drainSeconds: 0 };
const ctx = systemContext(base, scope, 'bench');
const { server, caData, token } = sandbox;
await registerCluster(ctx, { name: 'sandbox', server, caData, token, meshConfirmation: 'stored' });

/** When each weight of each split was told to a watcher: [name, canary weight, ms]. */
const seen: [string, number, number][] = [];
let requests = 0;
sandbox.intercept = async (_request, phase) => {
  if (phase === 'before') requests += 1;
  return 'continue';
};
const watching = new AbortController();
const client = createKubeClient({
  server,
  caData: Buffer.from(caData, 'base64').toString(),
  credential: { token },
  outbound,
});
const watched = watchResource(client, {
  apiVersion: 'split.smi-spec.io/v1alpha2',
  plural: 'trafficsplits',
  signal: watching.signal,
  onSnapshot() {},
  onEvent(type, object) {
    if (type === 'DELETED') return;
    const spec = object.spec as { service: string; backends: { service: string; weight: number }[] };
    const canary = spec.backends.find(({ service }) => service !== spec.service)?.weight ?? 0;
    seen.push([object.metadata.name, canary, performance.now()]);
  },
  onState() {},
});

const worker = startWorkerProcess();
let round = 0;
try {
  process.stdout.write(`${cpus().length} cores; worker, sandbox and Postgres on this machine; stored confirmation\n\n`);
  await measure(1, false);
  for (const size of sizes) await measure(size, true);
} finally {
  worker.kill('SIGTERM');
  watching.abort();
  await watched;
  await client.close();
  await queue.close();
  await Promise.all([db.close(), workerDb.close()]);
  await database.drop();
  await sandbox.stop();
  rmSync(folder, { recursive: true });
}

async function measure(size: number, pauses: boolean): Promise<void> {
  round += 1;
  const names = Array.from({ length: size }, (_, index) => `bench-${round}-${index}`);
  await deployAll(names, 1, pauses);
  seen.length = 0;
  requests = 0;
  const cpuBefore = cpuSeconds(worker);
  const began = performance.now();
  await deployAll(names, 2, pauses);
  const tookMs = performance.now() - began;
  const stepsMs: number[] = [];
  let firstMs = Number.POSITIVE_INFINITY;
  let lastMs = 0;
  for (const name of names) {
    const times = weights.map(
      (weight) => seen.find(([split, canary]) => split === name && canary === weight)?.[2] ?? Number.NaN,
    );
    firstMs = Math.min(firstMs, times[0] ?? Number.NaN);
    lastMs = Math.max(lastMs, times.at(-1) ?? Number.NaN);
    for (let step = 1; step < times.length; step += 1)
      stepsMs.push((times[step] ?? 0) - (times[step - 1] ?? 0) - (pauses ? 1000 : 0));
  }
  stepsMs.sort((a, b) => a - b);
  const p = (share: number) => stepsMs[Math.min(stepsMs.length - 1, Math.floor(stepsMs.length * share))]?.toFixed(1);
  const rows: [string, string][] = [
    [
      pauses ? 'lateness after a pause of 1 s, p50 / p99 / max' : 'step to step, p50 / p99 / max',
      `${p(0.5)} / ${p(0.99)} / ${p(1)} ms`,
    ],
    [
      'first weight to last',
      `${((lastMs - firstMs) / 1000).toFixed(2)} s${pauses ? ` (ideal ${weights.length - 1} s)` : ''}`,
    ],
    ['start request to SUCCEEDED', `${(tookMs / 1000).toFixed(2)} s`],
    ['writes to the cluster per canary', (requests / size).toFixed(1)],
    ['worker CPU / resident memory', `${(cpuSeconds(worker) - cpuBefore).toFixed(2)} s / ${residentMb(worker)} MB`],
  ];
  process.stdout.write(
    `${size} ${size === 1 ? 'canary' : 'canaries at once'}, 10 weights${pauses ? ', 1 s pauses' : ', no pauses'}\n`,
  );
  for (const [what, figure] of rows) process.stdout.write(`  ${what.padEnd(48)}${figure}\n`);
  process.stdout.write('\n');
}

async function deployAll(names: string[], version: number, pauses: boolean): Promise<void> {
  const ids: string[] = [];
  for (const name of names) {
    const text = file(name, version, pauses);
    ids.push((await startPipeline(ctx, { source: { json: text } })).pipelineId);
  }
  for (;;) {
    const open = await workerDb.prisma.pipeline.findMany({
      where: { id: { in: ids }, NOT: { status: 'SUCCEEDED' } },
      select: { status: true },
    });
    if (open.some(({ status }) => status === 'FAILED')) throw new Error('a canary of the bench failed');
    if (open.length === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function startWorkerProcess(): ChildProcess {
  const environment = {
    ...process.env,
    DATABASE_URL: database.url,
    ENCRYPTION_KEY_FILE: keyFile,
    OUTBOUND_ALLOW: allow,
    LOG_LEVEL: 'error',
  };
  const main = join(import.meta.dirname, '../apps/worker/src/main.ts');
  const flags = ['--max-semi-space-size=2', '--disable-warning=ExperimentalWarning', main];
  return spawn(process.execPath, flags, { env: environment, stdio: 'inherit' });
}

/** User and system time of a process so far (Linux: /proc). */
function cpuSeconds({ pid }: ChildProcess): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function residentMb({ pid }: ChildProcess): number {
  const line = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Math.round(Number(line?.[1]) / 1024);
}
