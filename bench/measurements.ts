import { setTimeout as sleep } from 'node:timers/promises';
import { createClusterClient } from '../test/support/cluster-client.ts';
import { until } from '../test/support/until.ts';
import {
  type Application,
  application,
  barrierWeight,
  deploymentFile,
  pauseMs,
  steps,
  weights,
} from './applications.ts';
import type { BenchCluster, Counts } from './clusters.ts';
import type { ControlPlane, Started, WorkerProcess } from './control-plane.ts';
import { type CpuSeconds, cpuSeconds, cpuSecondsOfAll, difference, residentMb } from './processes.ts';

/*
 * Times are taken where they count: when the API server tells a watcher in this process of the new weight. Whole canaries
 * run, through the real use cases and a worker process; what is told of them is divided into set-up (start to pods ready and
 * the split created), weights, and clean-up (100 % to SUCCEEDED).
 */

const splits = ['apis/split.smi-spec.io/v1alpha2', 'trafficsplits'] as const;

/** Use cases that are called at once, as that many callers of the API would. */
const callers = 16;
const patienceMs = 600_000;

export type Together = {
  size: number;
  /** From the first word to go on until the last canary has 100 %; ideally ten pauses of a second. */
  weightsMs: number;
  setUpMs: number;
  cleanUpMs: number;
  /** Of all weights, how long after its pause. */
  lateMs: number[];
  /** Of the worker from the word to go on until the last 100 %, and from start to end. */
  workerCpu: { weights: number; whole: number };
  /** Of everybody who takes part, in the time of the weights, and of all programs of the machine. */
  cpu: CpuSeconds;
  cpuOfAll: number;
  /** Requests to the cluster in the time of the weights. */
  requests: Counts;
  residentMb: number;
};

type Canary = Parameters<typeof deploymentFile>[2];

export function openBench(cluster: BenchCluster, controlPlane: ControlPlane) {
  const client = createClusterClient(cluster.address);
  /** When each split was given each weight: name -> canary weight -> performance.now(). */
  const seen = new Map<string, Map<number, number>>();
  const versions = new Map<string, number>();
  const namespaces = new Set<string>();
  let listed: Promise<unknown> | undefined;

  async function watch(): Promise<void> {
    const from = await client.list(splits, '');
    client.watch(splits, '', from, ({ type, object }) => {
      if (type === 'DELETED') return;
      const { name } = object.metadata;
      const { service, backends } = object.spec as { service: string; backends: { service: string; weight: number }[] };
      const canary = backends.find((backend) => backend.service !== service);
      const times = seen.get(name) ?? new Map<number, number>();
      seen.set(name, times);
      const weight = Number(canary?.weight ?? 0);
      if (!times.has(weight)) times.set(weight, performance.now());
    });
  }

  const timeOf = (name: string, weight: number) => seen.get(name)?.get(weight);
  const haveAll = (names: string[], weight: number) => () => names.every((name) => timeOf(name, weight) !== undefined);

  /** Starts the next version of each. */
  async function startAll(all: readonly Application[], canary: Canary): Promise<Started[]> {
    return atOnce(all, (one) => {
      const version = (versions.get(one.name) ?? 0) + 1;
      versions.set(one.name, version);
      return controlPlane.start(deploymentFile(one, version, canary));
    });
  }

  /** The first so many applications, each deployed in some version. */
  async function applications(size: number): Promise<Application[]> {
    listed ??= watch();
    await listed;
    const all = Array.from({ length: size }, (_, index) => application(index));
    const missing = all.filter(({ name }) => !versions.has(name));
    for (const namespace of new Set(missing.map((one) => one.namespace))) {
      if (namespaces.has(namespace)) continue;
      namespaces.add(namespace);
      await client.create('Namespace', '', { metadata: { name: namespace } });
    }
    await controlPlane.succeeded(await startAll(missing, steps.withoutPauses));
    return all;
  }

  async function one(canary: Canary): Promise<{ name: string; started: Started }> {
    const first = await applications(1);
    seen.clear();
    const [started] = await startAll(first, canary);
    if (!started) throw new Error('a canary that was not started');
    return { name: application(0).name, started };
  }

  /** The gaps between the ten weights of one canary, less what they were to be. */
  async function gaps(canary: Canary, idealMs: number): Promise<number[]> {
    const { name, started } = await one(canary);
    await controlPlane.succeeded([started]);
    const times = weights.map((weight) => timeOf(name, weight) ?? Number.NaN);
    return times.slice(1).map((time, index) => time - (times[index] ?? Number.NaN) - idealMs);
  }

  return {
    /** Milliseconds from weight to weight without pauses. */
    stepToStep: () => gaps(steps.withoutPauses, 0),

    /** Milliseconds by which weights come late after a pause. */
    lateness: () => gaps(steps.withPauses, pauseMs),

    /** Requests from start to end of one canary, with a worker that knows the cluster. */
    async requests(): Promise<Counts> {
      await applications(1);
      cluster.resetCounts();
      const { started } = await one(steps.withoutPauses);
      await controlPlane.succeeded([started]);
      return cluster.counts();
    },

    /** Many canaries that shift their weights at the same time. */
    async together(size: number, worker: WorkerProcess): Promise<Together> {
      const all = await applications(size);
      const names = all.map(({ name }) => name);
      const cpu = () => ({ worker: cpuSeconds(worker.pid), ...controlPlane.cpu(), ...cluster.cpu() });
      seen.clear();
      const began = performance.now();
      const atStart = cpu();
      const started = await startAll(all, steps.together);
      await until(haveAll(names, barrierWeight), `the weight ${barrierWeight} of all`, patienceMs);
      const setUpMs = performance.now() - began;
      const before = cpu();
      const allBefore = cpuSecondsOfAll();
      cluster.resetCounts();
      const word = performance.now();
      await atOnce(started, (each) => controlPlane.approve(each));
      await until(haveAll(names, 100), '100 % of all', patienceMs);
      const after = cpu();
      const cpuOfAll = cpuSecondsOfAll() - allBefore;
      const requests = cluster.counts();
      const last = Math.max(...names.map((name) => timeOf(name, 100) ?? 0));
      await controlPlane.succeeded(started);
      return {
        size,
        setUpMs,
        weightsMs: last - word,
        cleanUpMs: performance.now() - last,
        lateMs: names.flatMap((name) =>
          weights.slice(1).map((weight, index) => {
            return (timeOf(name, weight) ?? 0) - (timeOf(name, weights[index] ?? 0) ?? 0) - pauseMs;
          }),
        ),
        workerCpu: { weights: after.worker - before.worker, whole: cpu().worker - atStart.worker },
        cpu: difference(after, before),
        cpuOfAll,
        requests,
        residentMb: residentMb(worker.pid),
      };
    },

    /**
     * Milliseconds from the kill -9 of the worker that drives a canary to its next weight.
     *
     * @param replace called at once after the kill, where somebody starts another worker
     */
    async killed(replace?: () => Promise<unknown>): Promise<number> {
      const { name, started } = await one(steps.many);
      await until(() => timeOf(name, 20) !== undefined, 'some weights', patienceMs, 1);
      const owner = await controlPlane.ownerOf(started);
      if (!owner) throw new Error('nobody drives the canary');
      const killedAt = performance.now();
      const gone = owner.kill();
      const replaced = replace?.();
      await gone;
      // What was answered as it died may be told after it.
      await sleep(20);
      const known = seen.get(name)?.size ?? 0;
      const next = () => [...(seen.get(name)?.values() ?? [])][known];
      await until(() => next() !== undefined, 'the next weight', patienceMs, 1);
      const tookMs = (next() ?? Number.NaN) - killedAt;
      await replaced;
      await controlPlane.succeeded([started]);
      return tookMs;
    },

    close: () => client.close(),
  };
}

/** Calls it for each, so many at a time; answers in the order of the input. */
async function atOnce<In, Out>(all: readonly In[], call: (each: In) => Promise<Out>): Promise<Out[]> {
  const answers: Out[] = new Array(all.length);
  let next = 0;
  const caller = async () => {
    for (let index = next++; index < all.length; index = next++) answers[index] = await call(all[index] as In);
  };
  await Promise.all(Array.from({ length: callers }, caller));
  return answers;
}
