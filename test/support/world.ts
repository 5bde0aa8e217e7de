import { randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { registerCluster } from '@cdaas/control-plane/clusters.ts';
import { type Database, openDatabase } from '@cdaas/control-plane/database/db.ts';
import { listenForEvents } from '@cdaas/control-plane/database/listen.ts';
import { createVault, loadOrCreateKey } from '@cdaas/control-plane/encryption.ts';
import { bootstrap, type NewCredential } from '@cdaas/control-plane/organisations.ts';
import { createOutbound, parseOutboundAllow, type Resolve } from '@cdaas/control-plane/outbound.ts';
import { type CallerContext, systemContext } from '@cdaas/control-plane/principals.ts';
import { openQueue } from '@cdaas/control-plane/queue.ts';
import { startPipeline } from '@cdaas/control-plane/start.ts';
import type { Outline } from '@cdaas/pipeline/deployment-state.ts';
import type { FileText } from '@cdaas/pipeline/file/parse.ts';
import { startWorker, type Worker, type WorkerDeps } from '@cdaas/worker/worker.ts';
import { pino } from 'pino';
import type { ClusterClient } from './cluster-client.ts';
import { cloneDatabase } from './database.ts';
import { type Shop, service, shopYaml } from './deployment-files.ts';
import { withAdmin } from './postgres.ts';
import { type Recorder, startRecorder } from './recorder.ts';
import { type Run, type Seen, tell, watchRun } from './run.ts';
import { type AnyCluster, type Cluster, startCluster } from './test-cluster.ts';
import { spawnWorker, type WorkerProcess } from './worker-process.ts';

/**
 * Everything that a deployment needs, real: a migrated database of its own, sandbox clusters behind TLS, and workers in
 * this process or in processes of their own.
 */
export type World = {
  url: string;
  /** As the worker sees it: the rows of all tenants. */
  db: Database;
  /** The key that wraps all others. */
  key: Buffer;
  /** Every line that the processes of this world logged. */
  logs: string[];
  tenant(name: string): Promise<Tenant>;
  cluster(): Promise<Cluster>;
  startWorker(): Promise<Worker>;
  spawnWorker(options?: { vitals?: boolean }): Promise<WorkerProcess>;
  /** The worker process that drives a deployment now. */
  ownerOf(deploymentId: string): Promise<WorkerProcess | undefined>;
  /** Shortens waits of the runs in a namespace that start from now on: a file cannot ask for so little. */
  shorten(namespace: string, limits: Partial<Pick<Outline, 'readyTimeoutSeconds' | 'steps'>>): Promise<void>;
  /** A namespace of a cluster, with a tenant that has it registered: where most tests take place. */
  scene(options?: { tenant?: Tenant; cluster?: Cluster; account?: string }): Promise<Scene>;
  /** The same on any cluster, which the world closes at its end. */
  sceneOn(tenant: Tenant, cluster: AnyCluster): Promise<AnyScene>;
  close(): Promise<void>;
};

export type WorldOptions = {
  /** Workers in this process. */
  workers?: number;
  drainSeconds?: number;
  logLevel?: string;
  /** Of the workers in this process. */
  towardsClusters?: Pick<WorkerDeps, 'clusterLimits' | 'clusterPatience'>;
  /** Where names lead; as the operating system says, where it is left out. */
  resolve?: Resolve;
};

export type Tenant = {
  ctx: CallerContext;
  credential: NewCredential;
  /** Registers a cluster and answers its account. */
  register(cluster: AnyCluster, name?: string): Promise<string>;
  /** Starts a file of one target. */
  start(source: FileText): Promise<Run>;
  /** Starts a file of several targets; its runs by target. */
  startAll(source: FileText): Promise<Map<string, Run>>;
};

export async function openWorld(name: string, options: WorldOptions = {}): Promise<World> {
  const clone = await cloneDatabase(name);
  const folder = mkdtempSync(join(tmpdir(), 'cdaas-world-'));
  const keyFile = join(folder, 'key');
  const key = await loadOrCreateKey(keyFile);
  const logs: string[] = [];
  const log = pino({ level: options.logLevel ?? 'debug' }, { write: (line) => void logs.push(line) });
  const allow = 'cluster:127.0.0.1/32:*';
  const allowed = parseOutboundAllow(allow);
  if (!allowed.ok) throw new Error('the rule of this support is not readable');
  const outbound = createOutbound(allowed.rules, options.resolve);
  const open = async (role: 'cdaas_api' | 'cdaas_worker') => {
    const db = await openDatabase({ url: clone.url, role });
    return { db, queue: await openQueue({ databaseUrl: clone.url, role }), vault: createVault(key, db), outbound, log };
  };
  const api = await open('cdaas_api');
  const forWorkers = await open('cdaas_worker');
  const { db } = forWorkers;
  await addLimits(clone.url);

  const stirred = new EventEmitter().setMaxListeners(0);
  const listener = await listenForEvents(db, () => stirred.emit('event'));
  const workers = await Promise.all(
    Array.from({ length: options.workers ?? 1 }, () =>
      startWorker({ ...forWorkers, ...options.towardsClusters, log: log.child({ process: 'worker' }) }),
    ),
  );
  const processes: WorkerProcess[] = [];
  const clusters: AnyCluster[] = [];
  let count = 0;
  let main: Promise<[Tenant, Cluster]> | undefined;

  const world: World = {
    url: clone.url,
    db,
    key: Buffer.from(key),
    logs,

    async tenant(tenantName) {
      const names = { organisation: tenantName, tenant: 'main', credential: 'ci' };
      const made = await bootstrap(api.db, names);
      const drainSeconds = options.drainSeconds ?? 0;
      const settings = { publicUrl: 'http://127.0.0.1:8080', clustersPerTenant: 10_000, drainSeconds };
      const base = { ...api, clock: api.db.clock, ...settings };
      const ctx = systemContext(base, made, 'ci');
      const tenant: Tenant = {
        ctx,
        credential: made.credential,
        async register({ address: { server, caData, token } }, account = `account-${++count}`) {
          await registerCluster(ctx, { name: account, server, caData, token });
          return account;
        },
        async start(source) {
          const [run, ...others] = (await tenant.startAll(source)).values();
          if (run === undefined || others.length > 0) throw new Error('the file has more than one target');
          return run;
        },
        async startAll(source) {
          const { pipelineId, deployments } = await startPipeline(ctx, { source });
          return new Map(
            deployments.map(({ target, id }) => [target, watchRun(db, stirred, { pipelineId, deploymentId: id })]),
          );
        },
      };
      return tenant;
    },

    async cluster() {
      const cluster = await startCluster(join(folder, `cluster-${++count}`));
      clusters.push(cluster);
      return cluster;
    },

    async startWorker() {
      const worker = await startWorker({
        ...forWorkers,
        ...options.towardsClusters,
        log: log.child({ process: 'worker' }),
      });
      workers.push(worker);
      return worker;
    },

    async spawnWorker(options = {}) {
      const process = await spawnWorker({ databaseUrl: clone.url, keyFile, outboundAllow: allow, ...options }, (line) =>
        logs.push(line),
      );
      processes.push(process);
      return process;
    },

    async ownerOf(deploymentId) {
      const row = await db.prisma.deployment.findUnique({ where: { id: deploymentId }, select: { owner: true } });
      return processes.find(({ workerId }) => workerId === row?.owner);
    },

    async shorten(namespace, limits) {
      await withAdmin(clone.url, (admin) =>
        admin.query('insert into shortened values ($1, $2)', [namespace, JSON.stringify(limits)]),
      );
    },

    async scene({ tenant, cluster, account } = {}) {
      main ??= Promise.all([world.tenant('main'), world.cluster()]);
      const [mainTenant, mainCluster] = await main;
      const [who, where] = [tenant ?? mainTenant, cluster ?? mainCluster];
      const opened = await openScene(world, who, where, account ?? (await accountOf(who, where)));
      const { namespace } = opened;
      return Object.assign(opened, {
        cluster: where,
        send: (count: number) => where.sandbox.send({ namespace, service: 'web', count }),
      });
    },

    async sceneOn(tenant, cluster) {
      if (!clusters.includes(cluster)) clusters.push(cluster);
      return openScene(world, tenant, cluster, await accountOf(tenant, cluster));
    },

    async close() {
      for (const cluster of clusters) for (const release of cluster.held) release('drop');
      await Promise.all([...workers.map((worker) => worker.close()), ...processes.map((process) => process.end())]);
      for (const cluster of clusters) await cluster.close();
      await listener.close();
      await api.queue.close();
      await forWorkers.queue.close();
      await api.db.close();
      await db.close();
      await clone.drop();
      rmSync(folder, { recursive: true, force: true });
    },
  };

  const accounts = new Map<Tenant, Map<AnyCluster, Promise<string>>>();
  const accountOf = (tenant: Tenant, cluster: AnyCluster): Promise<string> => {
    const known = accounts.get(tenant) ?? new Map<AnyCluster, Promise<string>>();
    accounts.set(tenant, known);
    const account = known.get(cluster) ?? tenant.register(cluster);
    known.set(cluster, account);
    return account;
  };
  return world;
}

/** Lets tests shorten waits below what a file can ask for: applied as the run is stored, before any worker sees it. */
async function addLimits(url: string): Promise<void> {
  await withAdmin(url, (admin) =>
    admin.query(`
      create table shortened (namespace text, limits jsonb);
      create function shorten() returns trigger language plpgsql security definer as $$
      declare limits jsonb;
      begin
        select s.limits into limits from public.shortened s where s.namespace = new.namespace;
        if limits is not null then
          new.state := jsonb_set(new.state, '{outline}', (new.state -> 'outline') || limits);
        end if;
        return new;
      end $$;
      create trigger shorten before insert on deployment for each row execute function shorten()`),
  );
}

/** A namespace where one application is deployed. */
export type AnyScene = {
  world: World;
  tenant: Tenant;
  cluster: AnyCluster;
  account: string;
  namespace: string;
  client: ClusterClient;
  yaml(shop: Partial<Shop> & { version: string }): string;
  deploy(shop: Partial<Shop> & { version: string }): Promise<Run>;
  /** Deploys version 1 and waits for its end. */
  first(shop?: Partial<Shop>): Promise<Seen>;
  record(): Promise<Recorder>;
};

/** One in a sandbox cluster. */
export type Scene = AnyScene & {
  cluster: Cluster;
  /** Requests of meshed clients to the root Service, counted by the version that answered. */
  send(count: number): { answers: Record<string, number>; failed: number };
};

async function openScene(world: World, tenant: Tenant, cluster: AnyCluster, account: string): Promise<AnyScene> {
  const namespace = `ns-${randomUUID().slice(0, 8)}`;
  await cluster.client.create('Namespace', '', { metadata: { name: namespace } });
  const scene: AnyScene = {
    world,
    tenant,
    cluster,
    account,
    namespace,
    client: cluster.client,
    yaml: (shop) => shopYaml({ namespace, account, ...shop }),
    deploy: (shop) => tenant.start({ yaml: scene.yaml(shop) }),
    async first(shop = {}) {
      if (shop.root === null) await cluster.client.create('Service', namespace, service('web'));
      const seen = await (await scene.deploy({ version: '1', ...shop })).end();
      if (seen.status !== 'SUCCEEDED') throw new Error(`the first deployment did not succeed\n${tell(seen)}`);
      return seen;
    },
    async record() {
      const recorder = await startRecorder(cluster.client, namespace);
      const stopIntercepting = cluster.intercept(namespace, ({ verb, path, body }, phase) => {
        // Kubernetes Events are beside the run, at any time.
        if (phase === 'before' && !path.endsWith('/events')) recorder.writes.push({ verb, path, body, at: Date.now() });
        return 'continue';
      });
      return {
        ...recorder,
        async stop() {
          stopIntercepting();
          return recorder.stop();
        },
      };
    },
  };
  return scene;
}
