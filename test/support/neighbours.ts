import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { registerCluster } from '@cdaas/control-plane/clusters.ts';
import { approveStep } from '@cdaas/control-plane/deployments.ts';
import { createClusterClient } from './cluster-client.ts';
import { approval, shopYaml, weight } from './deployment-files.ts';
import type { Run } from './run.ts';
import { spawnSandbox } from './sandbox-process.ts';
import type { Cluster } from './test-cluster.ts';
import { startUnpleasantCluster, type Trouble, type UnpleasantCluster } from './unpleasant-cluster.ts';
import type { Vitals } from './vitals.ts';
import { openWorld, type Tenant } from './world.ts';

/**
 * How a canary fares on a cluster that is well while another cluster is not. One worker, in a process of its own, drives
 * both; the healthy cluster is a process of its own as well, so that what is measured is what the worker makes of it.
 */
export type Neighbours = {
  /** The steps of one canary while a cluster with deployments is in trouble; undefined: nobody is. */
  measure(trouble: Trouble | undefined): Promise<Measured>;
  close(): Promise<void>;
};

/** Milliseconds from one weight to the next, the mesh's confirmation included; what the worker said of itself meanwhile. */
export type Measured = { p50: number; max: number; stalledMs: number; heapMiB: number; rssMiB: number };

/** Weights that the measured canary asks for, one after the other without pauses. */
const stepCount = 40;
const troubled = 3;

export async function openNeighbours(name: string): Promise<Neighbours> {
  const world = await openWorld(name, { workers: 0, logLevel: 'warn' });
  const folder = mkdtempSync(join(tmpdir(), 'cdaas-neighbours-'));
  const healthy = await spawnSandbox(folder);
  const client = createClusterClient(healthy);
  await world.spawnWorker({ vitals: true });
  const tenant = await world.tenant('neighbours');
  const other = await world.tenant('others');
  const real = await world.cluster();
  await registerCluster(tenant.ctx, {
    name: 'healthy',
    server: healthy.server,
    caData: healthy.caData,
    token: healthy.token,
    meshConfirmation: 'stored',
  });
  await client.create('Namespace', '', { metadata: { name: 'shop' } });
  const opened: UnpleasantCluster[] = [];
  const steps = Array.from(
    { length: stepCount },
    (_, index) => weight(((index + 1) * 100) / (stepCount + 1)).setWeight,
  ).map(({ weight: value }) => weight(Math.floor(value)));
  const deploy = (version: string) =>
    tenant.start({ yaml: shopYaml({ namespace: 'shop', account: 'healthy', version, steps }) });
  let version = 1;
  await (await deploy('1')).end();

  return {
    async measure(trouble) {
      const away = trouble === undefined ? undefined : await begin(trouble);
      const linesBefore = world.logs.length;
      const seen = await (await deploy(String(++version))).end(60_000);
      if (seen.status !== 'SUCCEEDED') throw new Error(`the healthy canary ended ${seen.status}: ${seen.state.error}`);
      const vitals = world.logs
        .slice(linesBefore)
        .filter((line) => line.includes('"vitals"'))
        .map((line) => JSON.parse(line) as Vitals);
      await away?.();
      const at = seen.events
        .filter(({ type, data }) => type === 'written' && /^S7\..*weight/.test(String(data.key)))
        .map((event) => event.at.getTime());
      const times = at.slice(1).map((time, index) => time - (at[index] ?? time));
      times.sort((a, b) => a - b);
      const most = (field: 'stalledMs' | 'heapMiB' | 'rssMiB') => Math.max(...vitals.map((one) => one[field]));
      return {
        p50: times[Math.floor(times.length / 2)] ?? 0,
        max: times.at(-1) ?? 0,
        stalledMs: most('stalledMs'),
        heapMiB: most('heapMiB'),
        rssMiB: most('rssMiB'),
      };
    },
    async close() {
      await world.close();
      for (const cluster of opened) await cluster.close();
      client.close();
      await healthy.kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };

  /** Deployments at 10 %, one that starts, and the trouble in which they go on; answers how to end it all. */
  async function begin(trouble: Trouble): Promise<() => Promise<void>> {
    const cluster = await startUnpleasantCluster(real.sandbox);
    opened.push(cluster);
    const account = `unpleasant-${opened.length}`;
    await registerCluster(other.ctx, { name: account, ...cluster.access });
    const runs = await Promise.all(Array.from({ length: troubled }, () => halfWay(other, real, account)));
    const over = cluster.begin(trouble);
    for (const run of runs) await approveStep(other.ctx, { id: run.deploymentId, ref: 'canary-step-2' });
    const scene = await world.scene({ tenant: other, cluster: real, account });
    runs.push(await scene.deploy({ version: '1' }));
    // Until it is met, it is none.
    await met(cluster);
    return async () => {
      over();
      await Promise.all(runs.map((run) => run.end(60_000).catch(() => undefined)));
    };
  }

  async function halfWay(owner: Tenant, cluster: Cluster, account: string): Promise<Run> {
    const scene = await world.scene({ tenant: owner, cluster, account });
    await scene.first();
    const run = await scene.deploy({ version: '2', steps: [weight(10), approval(), weight(60)] });
    await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    return run;
  }
}

async function met(cluster: UnpleasantCluster): Promise<void> {
  while (cluster.met() === 0) await new Promise((resolve) => setImmediate(resolve));
}
