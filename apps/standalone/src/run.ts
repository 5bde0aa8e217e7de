import { existsSync } from 'node:fs';
import { relative } from 'node:path';
import { settingsFor } from '@cdaas/api/deps.ts';
import { startApi } from '@cdaas/api/server.ts';
import { openDatabase } from '@cdaas/control-plane/database/db.ts';
import { MigrationError, migrate } from '@cdaas/control-plane/database/migrate.ts';
import { createVault, loadOrCreateKey } from '@cdaas/control-plane/encryption.ts';
import { createLogger } from '@cdaas/control-plane/logging.ts';
import { type LoginRole, renewLogins } from '@cdaas/control-plane/logins.ts';
import { createOutbound, type OutboundRule } from '@cdaas/control-plane/outbound.ts';
import { type CallerContext, systemContext } from '@cdaas/control-plane/principals.ts';
import { openQueue } from '@cdaas/control-plane/queue.ts';
import { type Sandbox, startSandbox } from '@cdaas/sandbox/sandbox.ts';
import { startWorker } from '@cdaas/worker/worker.ts';
import type { Logger } from 'pino';
import { isFree, localUrl, portToListenOn } from './addresses.ts';
import { type Admin, ensureAdmin } from './admin.ts';
import type { Again } from './again.ts';
import { signIn } from './api-client.ts';
import type { Config, Options } from './config.ts';
import { type DataDir, lockDataDir, openDataDir } from './data-dir.ts';
import { demoTrouble, isDemoDue, runDemo } from './demo.ts';
import { tellWhatToTry } from './hints.ts';
import { openLogFile } from './log-file.ts';
import { type OwnCluster, readOwnCluster, registerOwnCluster, rulesFor } from './own-cluster.ts';
import { startPostgres } from './postgres.ts';
import { registerSandbox, sandboxAccount } from './register-sandbox.ts';
import { Remedy } from './remedy.ts';
import type { Screen } from './screen.ts';
import { startShopTraffic } from './shop-traffic.ts';

/** Something that runs; stopped in the reverse order of starting. */
type Part = { name: string; stop(): Promise<void> };

/** The port of /metrics where nobody chose one; where it is taken there are no metrics, which is said. */
const usualMetricsPort = 9464;
/** How long the API may take for requests in flight when it is told to stop. */
const stopSeconds = 10;

/**
 * Runs everything in this process until `shutDown` aborts, then stops it. What has started is stopped too when a later
 * part fails.
 *
 * @throws Remedy where something stands in the way that a person can mend
 */
export async function runStandalone(
  config: Config,
  options: Options,
  screen: Screen,
  shutDown: AbortSignal,
): Promise<void> {
  const parts: Part[] = [];
  const failure = new AbortController();
  const end = AbortSignal.any([shutDown, failure.signal]);
  try {
    const own = options.own === null ? null : readOwnCluster(options.own);
    const system = await startParts(config, own, screen, parts, {
      goOn: () => end.throwIfAborted(),
      fail: (remedy) => failure.abort(remedy),
    });
    await present(system, options, screen, end);
    end.throwIfAborted();
    await new Promise((resolve) => end.addEventListener('abort', resolve, { once: true }));
    end.throwIfAborted();
  } catch (error) {
    if (error !== shutDown.reason) throw error instanceof MigrationError ? new Remedy(error.message) : error;
  } finally {
    await stopParts(parts, screen);
  }
}

/** `goOn` throws where it is to end; `fail` ends it later, when a part fails that cannot be done without. */
type Course = { goOn(): void; fail(remedy: Remedy): void };

type System = {
  url: string /** The same API without what may stand before it. */;
  local: string;
  admin: Admin;
  dir: DataDir;
  cluster: Target;
  drainSeconds: number;
};

/** The cluster to deploy to: the sandbox, or one's own. `isNew`: this data folder did not know it. */
type Target = { account: string; kubeconfig: string; sandbox: Sandbox | null; isNew: boolean };

async function startParts(
  config: Config,
  own: OwnCluster | null,
  screen: Screen,
  parts: Part[],
  course: Course,
): Promise<System> {
  const { goOn, fail } = course;
  const began = performance.now();
  const dir = openDataDir(config.dataDir);
  const lock = await lockDataDir(dir, config.again);
  parts.push({ name: 'lock', stop: async () => lock.release() });
  const port = await portToListenOn(config.host, config.port, config.again);
  const url = config.publicUrl ?? localUrl(config.host, port);
  const log = createLogger(
    config.logLevel,
    openLogFile(dir.logFile, (words) => screen.line(`  ${words}`)),
  );
  screen.line(screen.paint('bold', 'CDaaS is starting'));

  goOn();
  const databaseUrl = await startDatabase(config, dir, screen, parts, fail);
  goOn();
  const { applied } = await migrate(databaseUrl);
  if (applied.length > 0) screen.part('Schema', `${applied.length} migrations applied`);
  const urls = config.databaseUrl === undefined ? await renewLogins(databaseUrl) : null;
  const used = own === null ? { sandbox: await startSandboxPart(dir, log, screen, parts) } : { own };
  goOn();

  const key = await openKey(config, dir);
  const outbound = createOutbound([...config.outboundRules, ...(await rulesOf(used))]);
  const open = async (role: LoginRole) => {
    const roleUrl = urls?.[role] ?? databaseUrl;
    const db = await openDatabase({ url: roleUrl, role });
    parts.push({ name: `${role}'s connections`, stop: () => db.close() });
    const queue = await openQueue({
      databaseUrl: roleUrl,
      role,
      onError: (err) => log.warn({ err }, 'the queue has trouble; due rows are found without it'),
      ...(config.redisUrl ? { redisUrl: config.redisUrl } : {}),
    });
    parts.push({ name: `${role}'s queue`, stop: () => queue.close() });
    return { db, queue, vault: createVault(key, db), outbound, log, clock: db.clock };
  };
  const forApi = await open('cdaas_api');
  const forWorker = await open('cdaas_worker');
  goOn();

  const worker = await startWorker(forWorker);
  parts.push({ name: 'worker', stop: () => worker.close() });
  const { admin, scope } = await ensureAdmin(dir, forApi.db, url);
  const { allowedHosts, ...settings } = settingsFor(url);
  const { clustersPerTenant } = settings;
  const base = { ...forApi, publicUrl: url, clustersPerTenant, drainSeconds: config.drainSeconds };
  const ctx = systemContext(base, scope, 'npm start');
  const cluster =
    'own' in used
      ? await useOwnCluster(ctx, dir, used.own, screen, config.again)
      : await useSandbox(ctx, dir, used.sandbox);
  const metricsPort = await metricsPortOf(config, screen);
  const local = localUrl(config.host, port);
  const api = await startApi(
    {
      ...forApi,
      settings: {
        ...settings,
        drainSeconds: config.drainSeconds,
        allowedHosts: [...allowedHosts, new URL(local).host],
      },
    },
    { host: config.host, port, metricsPort, drainSeconds: stopSeconds },
  );
  parts.push({ name: 'API', stop: () => api.close() });
  lock.announce(url);
  screen.part('API', `${screen.paint('bold', url)}  credential: ${shown(dir.adminFile)}`);
  screen.part('Ready', `logs: ${shown(dir.logFile)}`, performance.now() - began);
  screen.line();
  return { url, local, admin, dir, cluster, drainSeconds: config.drainSeconds };
}

async function startDatabase(
  config: Config,
  dir: DataDir,
  screen: Screen,
  parts: Part[],
  fail: (remedy: Remedy) => void,
): Promise<string> {
  if (config.databaseUrl !== undefined) {
    screen.part('Postgres', `DATABASE_URL, ${new URL(config.databaseUrl).host}`);
    return config.databaseUrl;
  }
  const began = performance.now();
  const postgres = await startPostgres(dir.postgres, (words) => screen.line(`  ${words}`));
  process.once('exit', postgres.abandon);
  void postgres.failed.then(fail);
  parts.push({
    name: 'Postgres',
    async stop() {
      await postgres.stop();
      process.off('exit', postgres.abandon);
    },
  });
  screen.part('Postgres', `embedded, ${shown(postgres.folder)}, port ${postgres.port}`, performance.now() - began);
  return postgres.url;
}

async function startSandboxPart(dir: DataDir, log: Logger, screen: Screen, parts: Part[]): Promise<Sandbox> {
  const began = performance.now();
  const sandbox = await startSandbox({
    dataDir: dir.sandbox,
    log: (line) => log.info({ line }, 'sandbox cluster'),
  }).catch((cause: unknown) => {
    throw new Remedy(cause instanceof Error ? cause.message : String(cause), { cause });
  });
  parts.push({ name: 'sandbox', stop: () => sandbox.stop() });
  const detail = `a cluster to try things on, account "${sandboxAccount}", kubeconfig: ${shown(dir.kubeconfig)}`;
  screen.part('Sandbox', detail, performance.now() - began);
  return sandbox;
}

/** The key-encryption key; made on the first start only, because another one cannot read what is stored. */
async function openKey(config: Config, dir: DataDir): Promise<Uint8Array> {
  const file = config.encryptionKeyFile ?? dir.key;
  if (existsSync(dir.adminFile) && !existsSync(file)) {
    throw new Remedy(
      `The key-encryption key ${file} is missing; without it the stored cluster credentials cannot be read.\n` +
        `Put it back from your backup. To begin with nothing instead, move ${dir.path} away.`,
    );
  }
  return loadOrCreateKey(file);
}

/** Beside what the operator allows: the port of the sandbox, or the address of one's own cluster. */
async function rulesOf(used: { own: OwnCluster } | { sandbox: Sandbox }): Promise<OutboundRule[]> {
  if ('own' in used) return rulesFor(used.own);
  return [{ purpose: 'cluster', network: '127.0.0.1', prefix: 32, port: used.sandbox.port }];
}

async function useSandbox(ctx: CallerContext, dir: DataDir, sandbox: Sandbox): Promise<Target> {
  await registerSandbox(ctx, dir, sandbox);
  return { account: sandboxAccount, kubeconfig: shown(dir.kubeconfig), sandbox, isNew: false };
}

async function useOwnCluster(
  ctx: CallerContext,
  dir: DataDir,
  own: OwnCluster,
  screen: Screen,
  again: Again,
): Promise<Target> {
  const began = performance.now();
  const { isNew, trouble } = await registerOwnCluster(ctx, dir, own, again);
  const detail = `${own.server}, account "${own.account}", ${isNew ? 'registered now' : 'registered before'}`;
  screen.part('Cluster', detail, performance.now() - began);
  if (trouble !== null)
    screen.line(`  It does not answer now: ${trouble}\n  Deployments to it that are in progress hold until it does.`);
  return { account: own.account, kubeconfig: shown(own.kubeconfig), sandbox: null, isNew };
}

async function metricsPortOf(config: Config, screen: Screen): Promise<number | null> {
  if (config.metricsPort !== undefined)
    return portToListenOn('127.0.0.1', config.metricsPort, config.again, 'METRICS_PORT');
  if (await isFree(usualMetricsPort)) return usualMetricsPort;
  screen.line(`  Port ${usualMetricsPort} is in use: no /metrics. METRICS_PORT chooses another.`);
  return null;
}

/** Shows the demo where it is due, and what to try. Then the terminal is quiet. */
async function present(system: System, options: Options, screen: Screen, shutDown: AbortSignal): Promise<void> {
  const { url, local, admin, dir, cluster, drainSeconds } = system;
  // What cannot be asked for now must not end what runs.
  const look = () =>
    signIn(local, admin)
      .then((api) => api.overview())
      .catch(() => null);
  let overview = await look();
  let demoEndedWell = false;
  // On a cluster of one's own it was asked for.
  if (options.demo && isDemoDue(dir, cluster.account, cluster.sandbox === null || overview?.isEmpty === true)) {
    const traffic = cluster.sandbox && startShopTraffic(cluster.sandbox);
    try {
      const api = await signIn(local, admin);
      const { account } = cluster;
      demoEndedWell = await runDemo({ dir, api, account, traffic, screen, signal: shutDown, drainSeconds });
    } catch (error) {
      if (!shutDown.aborted) screen.line(demoTrouble(error, url));
    } finally {
      traffic?.stop();
    }
    if (shutDown.aborted) return;
    screen.line();
    overview = await look();
  }
  const { account, kubeconfig, isNew } = cluster;
  const place = { url, adminFile: shown(dir.adminFile), kubeconfig, account };
  tellWhatToTry(screen, place, { demoEndedWell, isNew }, overview);
  screen.line('CDaaS serves until Ctrl-C.');
}

async function stopParts(parts: Part[], screen: Screen): Promise<void> {
  const began = performance.now();
  if (parts.length > 1) screen.line('\nStopping …');
  for (const { name, stop } of parts.toReversed()) {
    try {
      await stop();
    } catch (error) {
      screen.line(`  ${name} did not stop in order: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  if (parts.length > 1) screen.line(`Stopped in ${((performance.now() - began) / 1000).toFixed(1)} s.`);
}

/** A path as short as it can be written from here. */
function shown(path: string): string {
  const short = relative(process.cwd(), path);
  return short.startsWith('..') ? path : short;
}
