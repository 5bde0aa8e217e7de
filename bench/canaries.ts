import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { type Counts, realCluster, sandboxCluster } from './clusters.ts';
import { hasRedis, openControlPlane, type QueueBackend, queueBackends, startDatabase } from './control-plane.ts';
import { type Figure, judged, quantile, type RowId, rows, table } from './figures.ts';
import { openBench, type Together } from './measurements.ts';
import { residentMb } from './processes.ts';

const rowIds = Object.keys(rows) as RowId[];
const usualRows: RowId[] = ['step', 'late', 'requests', '100-at-once', 'cpu', 'kill', 'restart'];

/** As scripts/start.mjs has it. */
const usualFlags = '--max-semi-space-size=8 --heap-growing-percent=30';

const usage = `npm run bench [-- options]

Measures whole canaries of ten weights and one pod: the real use cases, a worker process, a Postgres with its defaults, and
a cluster, all on this machine, beside the figures of others. Times are taken when the cluster tells a watcher of a weight.
Fifty applications share a namespace. Connections do not drain (DRAIN_SECONDS is 0); set-up (to ready pods and the TrafficSplit) and clean-up are told apart.
Figures of one machine can be compared, those of two cannot.

  --real             on a real Kubernetes control plane (Go builds it once), with raised client limits of its controllers;
                     requests are counted from its audit log. Without: on the sandbox, in the bench's own process
  --rows LIST        which rows, divided by commas: ${rowIds.join(', ')}
                     usual: ${usualRows.join(', ')}
  --queue LIST       ${queueBackends.join(', ')}; usual: both, where redis-server is there
  --mesh             weights count when Linkerd's SMI adaptor has taken them; usual: as stored
  --profile FOLDER   workers write CPU profiles there, for the profiler of Chrome or VS Code
  --flags=FLAGS      flags of Node that workers run with; usual: ${usualFlags}
  --help             this text

The usual rows take about two minutes a queue; 500-at-once and memory some minutes each, 1000-at-once more.
`;

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        real: { type: 'boolean', default: false },
        rows: { type: 'string', default: usualRows.join(',') },
        queue: { type: 'string', default: hasRedis() ? queueBackends.join(',') : 'postgres' },
        mesh: { type: 'boolean', default: false },
        profile: { type: 'string' },
        flags: { type: 'string', default: usualFlags },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.help) {
      process.stdout.write(usage);
      process.exit(0);
    }
    return {
      isReal: values.real,
      wanted: new Set(oneOf('rows', values.rows, rowIds)),
      backends: oneOf('queue', values.queue, queueBackends),
      hasMesh: values.mesh,
      workerFlags: [
        ...values.flags.split(' ').filter((flag) => flag !== ''),
        ...(values.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${resolve(values.profile)}`]),
      ],
    };
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n\n${usage}`);
    process.exit(2);
  }
}

function oneOf<Word extends string>(option: string, text: string, known: readonly Word[]): Word[] {
  return text.split(',').map((word) => {
    const found = known.find((each) => each === word);
    if (found === undefined) throw new Error(`--${option} knows ${known.join(', ')}, not "${word}"`);
    return found;
  });
}

const { isReal, wanted, backends, hasMesh, workerFlags } = readOptions();
const folder = mkdtempSync(join(tmpdir(), 'cdaas-bench-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

const columns = new Map<string, Map<RowId, Figure>>();
let name = '';
for (const backend of backends) {
  const [figures, clusterName] = await measureOn(backend);
  columns.set(`queue on ${backend}`, figures);
  name = clusterName;
}
say(`\n${table(name, columns)}\n`);
const missed = [...columns.values()].flatMap((column) => [...column.values()]).filter(({ ok }) => ok === false).length;
say(missed === 0 ? 'Every target was reached.' : `${missed} targets were missed.`);
process.exit();

async function measureOn(backend: QueueBackend): Promise<[Map<RowId, Figure>, string]> {
  const place = mkdtempSync(join(folder, `${backend}-`));
  const database = await startDatabase(join(place, 'postgres'));
  const cluster = isReal ? await realCluster(hasMesh) : await sandboxCluster(place, hasMesh);
  const controlPlane = await openControlPlane({
    folder: place,
    backend,
    database,
    cluster,
    meshConfirmation: hasMesh ? 'linkerd-smi' : 'stored',
    workerFlags,
  });
  const bench = openBench(cluster, controlPlane);
  const figures = new Map<RowId, Figure>();
  const note = (id: RowId, figure: Figure) => {
    figures.set(id, figure);
    say(`  ${rows[id].title}: ${figure.text}   (to reach: ${rows[id].target})`);
  };
  const confirmation = hasMesh ? 'taken by the mesh' : 'as stored';
  say(`\n${cluster.name}, queue on ${backend}, weights ${confirmation}, ${cpus().length} cores for everything`);
  try {
    let worker = await controlPlane.startWorker();
    await sleep(3_000);
    const idleMb = residentMb(worker.pid);

    if (wanted.has('step')) {
      const gaps = await repeated(5, bench.stepToStep);
      note('step', judged(`${ms(quantile(gaps, 0.5))} (p99 ${ms(quantile(gaps, 0.99))})`, quantile(gaps, 0.5) <= 8));
    }
    if (wanted.has('late')) {
      const late = await repeated(3, bench.lateness);
      const [middle, most] = [quantile(late, 0.5), quantile(late, 1)];
      note('late', judged(`${middle.toFixed(1)} / ${ms(most)}`, middle <= 8 && most <= 20));
    }
    if (wanted.has('requests')) {
      const counts = await bench.requests();
      note('requests', requestsFigure(counts));
      say(`    ${tell(counts)}`);
    }
    if (wanted.has('100-at-once') || wanted.has('cpu')) {
      const result = await bench.together(100, worker);
      tellTogether(result);
      if (wanted.has('100-at-once')) note('100-at-once', judged(seconds(result.weightsMs), result.weightsMs <= 11_500));
      const { weights, whole } = result.workerCpu;
      if (wanted.has('cpu')) note('cpu', judged(`${weights.toFixed(2)} s, ${whole.toFixed(2)} s`, whole <= 2));
    }
    if (wanted.has('500-at-once') || wanted.has('memory')) {
      const first = await bench.together(500, worker);
      tellTogether(first);
      if (wanted.has('500-at-once')) note('500-at-once', judged(seconds(first.weightsMs), first.weightsMs <= 17_000));
      if (wanted.has('memory')) {
        let last = first;
        for (let round = 2; round <= 4; round += 1) {
          last = await bench.together(500, worker);
          tellTogether(last);
        }
        const isSmall = first.residentMb <= 200 && last.residentMb - first.residentMb <= 20;
        note('memory', judged(`${idleMb} / ${first.residentMb} / ${last.residentMb} MB`, isSmall));
      }
    }
    if (wanted.has('1000-at-once')) {
      const result = await bench.together(1_000, worker);
      tellTogether(result);
      note('1000-at-once', judged(seconds(result.weightsMs), result.weightsMs <= 26_000));
    }
    if (wanted.has('restart')) {
      const took = await repeated(5, async () => [
        await bench.killed(async () => {
          worker = await controlPlane.startWorker();
        }),
      ]);
      note('restart', killFigure(took, 2_000));
    }
    if (wanted.has('kill')) {
      // The killed one's successor is there before the next kill, so that there are two each time.
      await controlPlane.startWorker();
      const took = await repeated(5, async () => {
        const tookMs = await bench.killed();
        await controlPlane.startWorker();
        return [tookMs];
      });
      note('kill', killFigure(took, 1_000));
    }
    return [figures, cluster.name];
  } finally {
    bench.close();
    await controlPlane.close();
    await cluster.stop();
    await database.stop();
  }
}

/**
 * In all, and patches of TrafficSplits for each weight. Watches, Events and what looks after the cluster's health (/version)
 * are told apart; discovery is not.
 */
function requestsFigure(counts: Counts): Figure {
  const isBeside = (kind: string) => /^watch | events$| \/version\b/.test(kind);
  const sum = (which: (kind: string) => boolean) =>
    Object.entries(counts).reduce((total, [kind, count]) => total + (which(kind) ? count : 0), 0);
  const [all, beside] = [sum((kind) => !isBeside(kind)), sum(isBeside)];
  const perWeight = (counts['patch trafficsplits'] ?? 0) / 10;
  // Besides the ten weights there is the split's own end.
  return judged(`${all}, ${perWeight.toFixed(1)} (and ${beside} watches and Events)`, all <= 35 && perWeight <= 1.2);
}

function tell(counts: Counts): string {
  const parts = Object.entries(counts).sort(([, a], [, b]) => b - a);
  return parts.map(([kind, count]) => `${count} ${kind}`).join(', ');
}

function killFigure(tookMs: number[], mostMs: number): Figure {
  const [middle, most] = [quantile(tookMs, 0.5), quantile(tookMs, 1)];
  return judged(`${(middle / 1000).toFixed(2)} / ${seconds(most)}`, most <= mostMs);
}

function tellTogether({
  size,
  setUpMs,
  weightsMs,
  cleanUpMs,
  lateMs,
  cpu,
  cpuOfAll,
  requests,
  residentMb: mb,
}: Together): void {
  const late = `${ms(quantile(lateMs, 0.5))} / ${ms(quantile(lateMs, 1))}`;
  say(`  ${size} together: set-up ${seconds(setUpMs)}, weights ${seconds(weightsMs)}, clean-up ${seconds(cleanUpMs)}`);
  say(`    late p50 / max ${late}; worker ${mb} MB afterwards`);
  say(`    requests during the weights: ${tell(requests)}`);
  const used = Object.entries(cpu).sort(([, a], [, b]) => b - a);
  const total = used.reduce((sum, [, one]) => sum + one, 0);
  const share = (part: number) => `${((part / (cpus().length * (weightsMs / 1000))) * 100).toFixed(0)} % of all cores`;
  const parts = used.filter(([, one]) => one >= 0.05).map(([who, one]) => `${who} ${one.toFixed(1)} s`);
  say(`    CPU during the weights: ${parts.join(', ')}; together ${share(total)}`);
  const others = Math.max(0, cpuOfAll - total);
  if (others > 0.1 * total) say(`    Other programs of this machine used ${share(others)}: the figures are not clean`);
}

async function repeated(times: number, measure: () => Promise<number[]>): Promise<number[]> {
  const all: number[] = [];
  for (let turn = 0; turn < times; turn += 1) all.push(...(await measure()));
  return all;
}

function ms(value: number): string {
  return `${value.toFixed(1)} ms`;
}

function seconds(valueMs: number): string {
  return `${(valueMs / 1000).toFixed(2)} s`;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
