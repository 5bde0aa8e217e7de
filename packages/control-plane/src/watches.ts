import { activeConditions, evaluate } from '@cdaas/pipeline/conditions.ts';
import type { Condition, DeploymentState } from '@cdaas/pipeline/deployment-state.ts';
import { deploymentKey, hashKey } from '@cdaas/pipeline/marks.ts';
import { narrateObservation } from '@cdaas/pipeline/narrate.ts';
import type { Logger } from 'pino';
import { type ClusterCache, createClusterCache, interestsOf, type WatchedKind } from './cluster-cache.ts';
import { type Database, scoped } from './db.ts';
import type { KubeClients } from './drivers/kube-clients.ts';
import { watchResource } from './drivers/kube-watch.ts';
import { appendNews } from './news.ts';
import { releaseWatchLease, takeWatchLease } from './ownership.ts';
import type { WakeQueue } from './queue.ts';

/**
 * The watches of clusters (design.md, "Watches have one owner"). One worker holds a cluster's lease; it watches each
 * resource once for all deployments there, evaluates their conditions in memory, and only when one turns true or false
 * appends an `observed` event. The event is inserted only while the lease's epoch still matches.
 *
 * A new owner lists, evaluates everything, and reports what differs from what the deployments were last told.
 */
export type Watches = {
  /** A deployment's state as this worker just committed it, with all events up to `folded`: what it waits for from now on. */
  update(row: WatchedRow, state: DeploymentState, folded: number): void;
  /** Another worker committed a wait of this deployment. */
  look(deploymentId: string): Promise<void>;
  /** Takes free leases and takes up what other workers committed; called by the sweep. */
  refresh(): Promise<void>;
  close(): Promise<void>;
};

export type WatchedRow = {
  id: string;
  organisationId: string;
  tenantId: string;
  clusterId: string;
  version: number;
};

export type WatchesDeps = {
  db: Database;
  clients: KubeClients;
  queue: Pick<WakeQueue, 'enqueueWake'>;
  workerId: number;
  log: Logger;
  /** News was appended for a deployment that this worker drives. */
  wake(deploymentId: string): void;
};

type Watched = {
  id: string;
  version: number;
  conditions: Condition[];
  /** By condition key: what the deployment was last told, and by which of its events. */
  told: Map<string, Told>;
  /** Driven by another worker, so that it may have moved on meanwhile. */
  elsewhere: boolean;
};

type Told = { holds: boolean; trouble: string; number: number };

type Cluster = {
  key: { organisationId: string; tenantId: string; clusterId: string };
  epoch: number | null;
  /** The worker that watches it, where that is another. */
  leaseOwner: number | null;
  /** Those that the cluster was registered for; empty: all. */
  namespaces: string[];
  cache: ClusterCache;
  deployments: Map<string, Watched>;
  byInterest: Map<string, Set<string>>;
  dirty: Set<string>;
  flushing: boolean;
  /** Watches that have not delivered their list, or whose connection is broken. */
  stale: Set<string>;
  stop: AbortController;
  profileNamespaces: Set<string>;
  idleSince: number | null;
};

const releaseAfterMs = 60_000;

export function createWatches(deps: WatchesDeps): Watches {
  const clusters = new Map<string, Cluster>();
  const taking = new Map<string, Promise<void>>();
  let closed = false;

  const clusterOf = (row: WatchedRow): Cluster => {
    let cluster = clusters.get(row.clusterId);
    if (!cluster) {
      const { organisationId, tenantId, clusterId } = row;
      cluster = {
        key: { organisationId, tenantId, clusterId },
        epoch: null,
        leaseOwner: null,
        namespaces: [],
        cache: createClusterCache(),
        deployments: new Map(),
        byInterest: new Map(),
        dirty: new Set(),
        flushing: false,
        stale: new Set(),
        stop: new AbortController(),
        profileNamespaces: new Set(),
        idleSince: null,
      };
      clusters.set(clusterId, cluster);
    }
    return cluster;
  };

  const take = async (cluster: Cluster): Promise<void> => {
    if (cluster.epoch !== null || closed) return;
    const { clusterId } = cluster.key;
    let pending = taking.get(clusterId);
    if (!pending) {
      pending = (async () => {
        const lease = await takeWatchLease(deps.db, deps.workerId, clusterId);
        cluster.leaseOwner = lease.owner === deps.workerId ? null : lease.owner;
        if (lease.owner !== deps.workerId || closed) return;
        cluster.epoch = lease.epoch;
        cluster.namespaces = await namespacesOf(deps.db, cluster);
        startWatching(deps, cluster, (interests) => touch(cluster, interests));
        watchProfiles(deps, cluster, (interests) => touch(cluster, interests));
      })().finally(() => taking.delete(clusterId));
      taking.set(clusterId, pending);
    }
    return pending;
  };

  const touch = (cluster: Cluster, interests: Iterable<string>): void => {
    for (const interest of interests) for (const id of cluster.byInterest.get(interest) ?? []) cluster.dirty.add(id);
    schedule(cluster);
  };

  const schedule = (cluster: Cluster): void => {
    if (cluster.flushing || cluster.dirty.size === 0 || cluster.stale.size > 0 || cluster.epoch === null || closed)
      return;
    cluster.flushing = true;
    setImmediate(async () => {
      try {
        await flush(deps, cluster, learn);
      } catch (err) {
        deps.log.error({ err, clusterId: cluster.key.clusterId }, 'reporting what a cluster shows failed');
      } finally {
        cluster.flushing = false;
        schedule(cluster);
      }
    });
  };

  /** Takes note of what a deployment waits for; answers whether that is anything new. */
  const note = (row: WatchedRow, state: DeploymentState, since: Since): boolean => {
    const cluster = clusterOf(row);
    const isNew = setConditions(cluster, row, state, since);
    if (state.survey?.meshConfirmation === 'linkerd-smi' && cluster.deployments.has(row.id)) {
      cluster.profileNamespaces.add(state.outline.namespace);
      if (cluster.epoch !== null) watchProfiles(deps, cluster, (interests) => touch(cluster, interests));
    }
    schedule(cluster);
    return isNew;
  };

  /** Takes up what other workers committed. */
  const learn = async (ids: string[]): Promise<void> => {
    const rows = await deps.db.prisma.deployment.findMany({
      where: { id: { in: ids }, NOT: { startedAt: null } },
      select: {
        id: true,
        version: true,
        clusterId: true,
        organisationId: true,
        tenantId: true,
        state: true,
        foldedEvent: true,
        lastEvent: true,
      },
    });
    for (const { state, foldedEvent: folded, lastEvent, ...row } of rows) {
      const reports = lastEvent > folded ? await reportsSince(deps.db, row.id, folded) : [];
      note(row, state as unknown as DeploymentState, { folded, reports, elsewhere: true });
    }
  };

  return {
    update(row, state, folded) {
      if (closed) return;
      const isNew = note(row, state, { folded, reports: [], elsewhere: false });
      const cluster = clusterOf(row);
      if (cluster.epoch !== null || cluster.deployments.size === 0) return;
      const tell = async () => {
        if (cluster.leaseOwner === null) await take(cluster);
        if (isNew && cluster.leaseOwner !== null)
          await deps.queue.enqueueWake('deployment', row.id, cluster.leaseOwner);
      };
      tell().catch((err) => deps.log.error({ err }, 'taking the lease of a cluster failed'));
    },

    async look(deploymentId) {
      if ([...clusters.values()].some(({ epoch }) => epoch !== null)) await learn([deploymentId]);
    },

    async refresh() {
      const rows = await deps.db.prisma.deployment.findMany({
        where: { done: false, NOT: { startedAt: null } },
        select: { id: true, version: true, clusterId: true, organisationId: true, tenantId: true, owner: true },
      });
      const stale = rows.filter((row) => {
        const known = clusters.get(row.clusterId)?.deployments.get(row.id);
        return row.owner !== deps.workerId && (known?.version ?? -1) < row.version;
      });
      if (stale.length > 0) await learn(stale.map(({ id }) => id));
      const open = new Set(rows.map(({ id }) => id));
      for (const [clusterId, cluster] of clusters) {
        for (const id of cluster.deployments.keys()) if (!open.has(id)) forget(cluster, id);
        await take(cluster);
        await releaseIfIdle(deps, clusters, clusterId, cluster);
      }
    },

    async close() {
      closed = true;
      for (const [clusterId, cluster] of clusters) {
        cluster.stop.abort();
        if (cluster.epoch !== null) await releaseWatchLease(deps.db, deps.workerId, clusterId);
      }
      clusters.clear();
    },
  };
}

/** `folded`: the newest event that a state holds; `reports`: what the deployment was told since, by whoever watched before. */
type Since = { folded: number; reports: [key: string, told: Told][]; elsewhere: boolean };

async function reportsSince(db: Database, deploymentId: string, folded: number): Promise<Since['reports']> {
  const events = await db.prisma.event.findMany({
    where: { deploymentId, type: 'observed', number: { gt: folded } },
    orderBy: { number: 'asc' },
    select: { number: true, data: true },
  });
  return events.map(({ number, data }) => {
    const { condition, holds, detail } = data as { condition: string; holds: boolean; detail: string };
    return [condition, { holds, trouble: troubleOf(detail), number }];
  });
}

function setConditions(cluster: Cluster, row: WatchedRow, state: DeploymentState, since: Since): boolean {
  const known = cluster.deployments.get(row.id);
  if (known && known.version > row.version) return false;
  forget(cluster, row.id);
  const conditions = activeConditions(state);
  if (conditions.length === 0) return false;
  const told = new Map<string, Told>();
  for (const { key } of conditions) {
    const seen = state.observed[key];
    if (seen) told.set(key, { holds: seen.holds, trouble: troubleOf(seen.detail), number: 0 });
    const unfolded = known?.told.get(key);
    if (unfolded && unfolded.number > since.folded) told.set(key, unfolded);
  }
  for (const [key, report] of since.reports) told.set(key, report);
  const { id, version } = row;
  cluster.deployments.set(id, { id, version, conditions, told, elsewhere: since.elsewhere });
  for (const interest of conditions.flatMap(interestsOf)) {
    const ids = cluster.byInterest.get(interest);
    if (ids) ids.add(row.id);
    else cluster.byInterest.set(interest, new Set([row.id]));
  }
  cluster.dirty.add(row.id);
  cluster.idleSince = null;
  const before = new Set(known?.conditions.map(({ key }) => key));
  return conditions.some(({ key }) => !before.has(key));
}

function forget(cluster: Cluster, id: string): void {
  const known = cluster.deployments.get(id);
  if (!known) return;
  cluster.deployments.delete(id);
  cluster.dirty.delete(id);
  for (const interest of known.conditions.flatMap(interestsOf)) {
    const ids = cluster.byInterest.get(interest);
    ids?.delete(id);
    if (ids?.size === 0) cluster.byInterest.delete(interest);
  }
}

type Report = { watched: Watched; condition: Condition; holds: boolean; detail: string };

/**
 * Without the reports to deployments that another worker has moved on since: what they asked for is learnt anew, or the
 * pin that a run itself has just replaced would be told as somebody's disturbance.
 */
async function stillAsked(
  deps: WatchesDeps,
  reports: Report[],
  learn: (ids: string[]) => Promise<void>,
): Promise<Report[]> {
  const elsewhere = new Map(
    reports.filter(({ watched }) => watched.elsewhere).map(({ watched }) => [watched.id, watched]),
  );
  if (elsewhere.size === 0) return reports;
  const rows = await deps.db.prisma.deployment.findMany({
    where: { id: { in: [...elsewhere.keys()] } },
    select: { id: true, version: true },
  });
  const moved = new Set(
    rows.filter(({ id, version }) => version > (elsewhere.get(id)?.version ?? 0)).map(({ id }) => id),
  );
  if (moved.size > 0) await learn([...moved]);
  return reports.filter(({ watched }) => !moved.has(watched.id));
}

/** Evaluates what was touched and appends, in one round trip, an event for each condition that turned. */
async function flush(deps: WatchesDeps, cluster: Cluster, learn: (ids: string[]) => Promise<void>): Promise<void> {
  const { epoch, cache, key } = cluster;
  if (epoch === null) return;
  const found: Report[] = [];
  for (const id of cluster.dirty) {
    const watched = cluster.deployments.get(id);
    for (const condition of watched?.conditions ?? []) {
      const { holds, detail } = evaluate(condition, cache);
      if (watched && isNews(watched, condition.key, holds, detail)) found.push({ watched, condition, holds, detail });
    }
  }
  cluster.dirty.clear();
  const reports = await stillAsked(deps, found, learn);
  if (reports.length === 0) return;
  const toldOf = (id: string) => cluster.deployments.get(id)?.told;
  // On its way, and later than whatever the driver commits meanwhile.
  for (const { watched, condition, holds, detail } of reports) {
    const told = { holds, trouble: troubleOf(detail), number: Number.POSITIVE_INFINITY };
    toldOf(watched.id)?.set(condition.key, told);
  }
  const results = await appendNews(
    deps.db,
    null,
    reports.map(({ watched, condition, holds, detail }) => ({
      deploymentId: watched.id,
      type: 'observed',
      data: { condition: condition.key, holds, detail },
      message: narrateObservation(condition, holds, detail),
      observed: { clusterId: key.clusterId, epoch },
    })),
  );
  const owners = new Map<string, number | null>();
  for (const [index, result] of results.entries()) {
    const report = reports[index];
    if (!report) continue;
    if (result.appended) {
      owners.set(report.watched.id, result.owner);
      const told = toldOf(report.watched.id)?.get(report.condition.key);
      if (told?.number === Number.POSITIVE_INFINITY) told.number = result.number;
    } else if (result.reason === 'epoch') {
      // Another worker owns the watches now; it evaluates everything anew.
      loseLease(cluster);
      return;
    }
  }
  for (const [id, owner] of owners) {
    if (owner === deps.workerId) deps.wake(id);
    else await deps.queue.enqueueWake('deployment', id, owner);
  }
}

/** What is told: a condition that turned, and why pods are not ready, whenever that changes. */
function isNews(watched: Watched, key: string, holds: boolean, detail: string): boolean {
  const told = watched.told.get(key);
  const trouble = troubleOf(detail);
  // A guard that never tripped is well; why the pods of a guard that is well are not ready is nobody's worry.
  const guard = key.startsWith('guard.');
  if (!told) return holds || (trouble !== '' && !guard);
  return told.holds !== holds || (trouble !== '' && told.trouble !== trouble && (holds || !guard));
}

/** The part of a detail that names Kubernetes' reasons, without the counts. */
function troubleOf(detail: string): string {
  return /\(([^)]*)\)/.exec(detail)?.[1]?.replace(/\d+ in /g, '') ?? '';
}

function loseLease(cluster: Cluster): void {
  cluster.stop.abort();
  cluster.stop = new AbortController();
  Object.assign(cluster, { epoch: null, cache: createClusterCache() });
  cluster.stale.clear();
}

const watchedResources: { kind: WatchedKind; apiVersion: string; plural: string; labelSelector: string }[] = [
  { kind: 'Service', apiVersion: 'v1', plural: 'services', labelSelector: deploymentKey },
  { kind: 'EndpointSlice', apiVersion: 'discovery.k8s.io/v1', plural: 'endpointslices', labelSelector: deploymentKey },
  { kind: 'Pod', apiVersion: 'v1', plural: 'pods', labelSelector: hashKey },
  { kind: 'ReplicaSet', apiVersion: 'apps/v1', plural: 'replicasets', labelSelector: deploymentKey },
];

function startWatching(deps: WatchesDeps, cluster: Cluster, touch: (interests: Iterable<string>) => void): void {
  const scopes = cluster.namespaces.length > 0 ? cluster.namespaces.map((namespace) => ({ namespace })) : [{}];
  for (const { kind, ...resource } of watchedResources) {
    for (const scope of scopes) startWatch(deps, cluster, kind, { ...resource, ...scope }, touch);
  }
}

async function namespacesOf(db: Database, { key }: Cluster): Promise<string[]> {
  const where = { id: key.clusterId };
  const row = await scoped(db, key, (tx) => tx.cluster.findUnique({ where, select: { namespaces: true } }));
  return row?.namespaces ?? [];
}

/** ServiceProfiles carry no label of ours: they are watched per namespace in which a split is confirmed by the mesh. */
function watchProfiles(deps: WatchesDeps, cluster: Cluster, touch: (interests: Iterable<string>) => void): void {
  for (const namespace of cluster.profileNamespaces) {
    const resource = { apiVersion: 'linkerd.io/v1alpha2', plural: 'serviceprofiles', namespace };
    startWatch(deps, cluster, 'ServiceProfile', resource, touch);
  }
}

const running = new WeakMap<AbortController, Set<string>>();

function startWatch(
  deps: WatchesDeps,
  cluster: Cluster,
  kind: WatchedKind,
  resource: { apiVersion: string; plural: string; labelSelector?: string; namespace?: string },
  touch: (interests: Iterable<string>) => void,
): void {
  const name = `${kind}/${resource.namespace ?? ''}`;
  const names = running.get(cluster.stop) ?? new Set<string>();
  if (names.has(name)) return;
  running.set(cluster.stop, names.add(name));
  cluster.stale.add(name);
  const { cache, stop } = cluster;
  const live = () => !stop.signal.aborted;
  watchResource(() => deps.clients.get(cluster.key), {
    ...resource,
    signal: stop.signal,
    onSnapshot(objects) {
      if (live()) touch(cache.replace(kind, objects, resource.namespace));
    },
    onEvent(type, object) {
      if (live()) touch(type === 'DELETED' ? cache.remove(kind, object) : cache.put(kind, object));
    },
    onState(state, _since, reason) {
      if (!live()) return;
      if (state === 'broken') {
        cluster.stale.add(name);
        deps.log.warn({ clusterId: cluster.key.clusterId, resource: name, reason }, 'a watch is broken');
        return;
      }
      cluster.stale.delete(name);
      // After an outage everything may have turned: all of it is evaluated again.
      for (const id of cluster.deployments.keys()) cluster.dirty.add(id);
      touch([]);
    },
  }).catch((err) => deps.log.error({ err, clusterId: cluster.key.clusterId }, 'a watch ended'));
}

async function releaseIfIdle(
  deps: WatchesDeps,
  clusters: Map<string, Cluster>,
  clusterId: string,
  cluster: Cluster,
): Promise<void> {
  if (cluster.deployments.size > 0) return;
  cluster.idleSince ??= Date.now();
  if (Date.now() - cluster.idleSince < releaseAfterMs) return;
  clusters.delete(clusterId);
  cluster.stop.abort();
  if (cluster.epoch !== null) await releaseWatchLease(deps.db, deps.workerId, clusterId);
}
