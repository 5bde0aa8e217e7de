import type { Condition, DeploymentState } from '@cdaas/pipeline/deployment-state.ts';
import { narrateObservation } from '@cdaas/pipeline/narrate.ts';
import { readDeploymentState } from '@cdaas/pipeline/stored.ts';
import type { Logger } from 'pino';
import { type Allowance, createAllowance } from '../allowance.ts';
import type { Database } from '../database/db.ts';
import type { ClusterKey, KubeClients } from '../drivers/kube-clients.ts';
import { viewFor } from '../drivers/surroundings.ts';
import { appendNews } from '../news.ts';
import { releaseWatchLease, takeWatchLease, type UnfoldedEvent } from '../ownership.ts';
import type { WakeQueue } from '../queue.ts';
import { asStored } from '../storable-json.ts';
import { type ClusterWatches, type NamespacesInUse, watchCluster } from './watch-cluster.ts';
import { reportsSince, stillAsked } from './watch-reports.ts';
import {
  createWatchedDeployments,
  newsOf,
  type Report,
  type Since,
  toldBy,
  type Watched,
  type WatchedDeployments,
} from './watched-deployments.ts';

/**
 * The watches of clusters (design.md, "Watches have one owner"). One worker holds a cluster's lease; it watches each
 * resource once for all deployments there, evaluates their conditions in memory, and only when one turns true or false
 * appends an `observed` event. The event is inserted only while the lease's epoch still matches.
 *
 * A new owner lists, evaluates everything, and reports what differs from what the deployments were last told. Where a
 * watch stays broken, the owner asks the cluster every few seconds instead.
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

export type WatchedRow = ClusterKey & { id: string; version: number };

export type WatchesDeps = {
  db: Database;
  clients: KubeClients;
  queue: Pick<WakeQueue, 'enqueueWake'>;
  workerId: number;
  log: Logger;
  /** News was appended for a deployment that this worker drives: all of one append. */
  wake(deploymentId: string, news: UnfoldedEvent[]): void;
  patience?: Partial<Patience>;
};

/** With clusters whose watches are broken. */
export type Patience = {
  /** How long watches may be stale before the cluster is asked, and how often it is. Default 5 s. */
  pollEveryMs: number;
  /** How long a cluster may be neither watched nor asked with success before its deployments hear of it. Default 12 s. */
  unseenAfterMs: number;
};

type Cluster = {
  key: ClusterKey;
  /** Of the lease, while this worker holds it. */
  epoch: number | null;
  /** Those that are watched; empty: all. */
  namespaces: readonly string[];
  /** The worker that watches it, where that is another. */
  leaseOwner: number | null;
  watches: ClusterWatches | null;
  deployments: WatchedDeployments;
  /** Namespaces of the deployments that wait for the mesh. */
  meshed: Map<string, string>;
  /** Of the TrafficSplits that are watched. */
  splitApiVersion: string | null;
  /** Those that runs use, by deployment. */
  splitVersions: Map<string, string>;
  needed: NamespacesInUse;
  dirty: Set<string>;
  flushing: boolean;
  polledAt: number;
  polling: boolean;
  /** When it was last asked with success. */
  answeredAt: number;
  /** What deployments were last told of it: since when and why it cannot be seen; null where it can. */
  unseen: string | null;
  /** Reports of each condition that each deployment may still be told at once. */
  allowance: Allowance;
  idleSince: number | null;
};

const releaseAfterMs = 60_000;
/** How long after a report that could not be stored, or was one too many, it is tried again. */
const retryAfterMs = 1_000;
/** Deployments asked for in one such round, so that it stays bounded. */
const polledAtOnce = 20;
/**
 * Reports of one condition to a deployment at once, and from then on one a second: a cluster whose pods flicker, or that
 * lies, must not fill the database. Of each condition apart, so that a run of many quick steps is never slowed.
 */
const reportsAtOnce = 20;

export function createWatches(deps: WatchesDeps): Watches {
  const { pollEveryMs = 5_000, unseenAfterMs = 12_000 } = deps.patience ?? {};
  const clusters = new Map<string, Cluster>();
  const taking = new Map<string, Promise<void>>();
  let closed = false;

  const clusterOf = ({ organisationId, tenantId, clusterId }: WatchedRow): Cluster => {
    let cluster = clusters.get(clusterId);
    if (!cluster) {
      cluster = {
        key: { organisationId, tenantId, clusterId },
        epoch: null,
        namespaces: [],
        leaseOwner: null,
        watches: null,
        deployments: createWatchedDeployments(),
        meshed: new Map(),
        splitApiVersion: null,
        splitVersions: new Map(),
        needed: { Deployment: new Set(), ServiceProfile: new Set() },
        dirty: new Set(),
        flushing: false,
        polledAt: 0,
        polling: false,
        answeredAt: 0,
        unseen: null,
        allowance: createAllowance({ atOnce: reportsAtOnce, everyMs: retryAfterMs }),
        idleSince: null,
      };
      clusters.set(clusterId, cluster);
    }
    return cluster;
  };

  const take = (cluster: Cluster): Promise<void> => {
    const { clusterId } = cluster.key;
    if (cluster.epoch !== null || closed) return Promise.resolve();
    let pending = taking.get(clusterId);
    if (!pending) {
      pending = takeLease(cluster).finally(() => taking.delete(clusterId));
      taking.set(clusterId, pending);
    }
    return pending;
  };

  const takeLease = async (cluster: Cluster): Promise<void> => {
    const { clusterId } = cluster.key;
    const lease = await takeWatchLease(deps.db, deps.workerId, clusterId);
    cluster.leaseOwner = lease.owner === deps.workerId ? null : lease.owner;
    if (lease.owner !== deps.workerId) return;
    const settings = await deps.clients.settings(cluster.key);
    if (closed) return;
    cluster.epoch = lease.epoch;
    watch(cluster, settings?.namespaces ?? []);
  };

  /** Begins to watch, anew where it watches already. */
  const watch = (cluster: Cluster, namespaces: readonly string[]): void => {
    cluster.watches?.stop();
    cluster.namespaces = namespaces;
    cluster.watches = watchCluster({
      clients: deps.clients,
      key: cluster.key,
      namespaces,
      log: deps.log,
      onTouched: (interests) => touch(cluster, cluster.deployments.interestedIn(interests)),
      onFresh: () =>
        touch(
          cluster,
          [...cluster.deployments.all()].map(({ id }) => id),
        ),
    });
    need(cluster);
    if (cluster.splitApiVersion !== null) cluster.watches.watchSplits(cluster.splitApiVersion);
    touch(
      cluster,
      [...cluster.deployments.all()].map(({ id }) => id),
    );
  };

  /** A registration that was changed may open other namespaces, or a credential that may list in some only. */
  const rewatch = async (cluster: Cluster): Promise<void> => {
    if (cluster.epoch === null) return;
    const settings = await deps.clients.settings(cluster.key);
    const isChanged = settings && settings.namespaces.join() !== cluster.namespaces.join();
    if (isChanged && cluster.epoch !== null && !closed) watch(cluster, settings.namespaces);
  };

  const touch = (cluster: Cluster, ids: Iterable<string>): void => {
    for (const id of ids) cluster.dirty.add(id);
    if (cluster.flushing || cluster.dirty.size === 0 || cluster.epoch === null || closed) return;
    cluster.flushing = true;
    setImmediate(async () => {
      try {
        await flush(cluster);
      } catch (err) {
        deps.log.error({ err, clusterId: cluster.key.clusterId }, 'reporting what a cluster shows failed');
      }
      cluster.flushing = false;
      touch(cluster, []);
    });
  };

  /** Evaluates what was touched and reports it. */
  const flush = async (cluster: Cluster): Promise<void> => {
    const { watches, deployments } = cluster;
    if (watches === null) return;
    const found: Report[] = [];
    const view = { ...watches.cache, unseen: () => cluster.unseen };
    const later: string[] = [];
    for (const id of cluster.dirty) {
      const watched = deployments.get(id);
      const news = watched ? newsOf(watched, watched.conditions.filter(watches.isFresh), view) : [];
      const allowed = news.filter(({ condition }) => cluster.allowance.take(`${id} ${condition.key}`));
      found.push(...allowed);
      if (allowed.length < news.length) later.push(id);
    }
    cluster.dirty.clear();
    if (later.length > 0) setTimeout(() => touch(cluster, later), retryAfterMs).unref();
    await report(cluster, found);
  };

  /** Appends, in one round trip, an event for each report, and wakes who drives the deployments. */
  const report = async (cluster: Cluster, found: Report[]): Promise<void> => {
    const { epoch, key, deployments } = cluster;
    const reports = await stillAsked(deps.db, found, learn).catch((err: unknown) => {
      untell(cluster, found);
      throw err;
    });
    if (epoch === null || reports.length === 0) return;
    // On its way, and later than whatever the driver commits meanwhile.
    for (const { watched, condition, ...sight } of reports) {
      deployments.get(watched.id)?.told.set(condition.key, toldBy(sight, Number.POSITIVE_INFINITY));
    }
    const at = deps.db.clock.now();
    const news = reports.map(({ watched, condition, ...sight }) => ({
      deploymentId: watched.id,
      type: 'observed',
      data: { condition: condition.key, ...sight },
      message: narrateObservation(condition, sight.holds, sight.detail),
      at,
      observed: { clusterId: key.clusterId, epoch },
    }));
    const results = await appendNews(deps.db, null, news).catch((err: unknown) => {
      untell(cluster, reports);
      throw err;
    });
    const appended = new Map<string, { owner: number | null; events: UnfoldedEvent[] }>();
    for (const [index, result] of results.entries()) {
      const { watched, condition } = reports[index] ?? {};
      const { type, data } = news[index] ?? {};
      if (!watched || !condition || !type || !data) continue;
      const told = deployments.get(watched.id)?.told.get(condition.key);
      if (result.appended) {
        const { owner, number } = result;
        const events = appended.get(watched.id)?.events ?? [];
        appended.set(watched.id, { owner, events });
        events.push({ number, type, data: asStored(data) as UnfoldedEvent['data'], at });
        if (told?.number === Number.POSITIVE_INFINITY) told.number = result.number;
      } else if (result.reason === 'epoch') {
        // Another worker owns the watches now; it evaluates everything anew.
        loseLease(cluster);
      }
    }
    for (const [id, { owner, events }] of appended) {
      if (owner === deps.workerId) deps.wake(id, events);
      else await deps.queue.enqueueWake('deployment', id, owner);
    }
  };

  /** A report that was not stored was not told: it is found again in a moment. */
  const untell = (cluster: Cluster, reports: Report[]): void => {
    for (const { watched, condition } of reports) {
      const told = cluster.deployments.get(watched.id)?.told;
      if (told?.get(condition.key)?.number === Number.POSITIVE_INFINITY) told.delete(condition.key);
    }
    const ids = reports.map(({ watched }) => watched.id);
    setTimeout(() => touch(cluster, ids), retryAfterMs).unref();
  };

  const note = (row: WatchedRow, state: DeploymentState, since: Since): boolean => {
    const cluster = clusterOf(row);
    const isNew = cluster.deployments.note(row.id, row.version, state, since);
    if (cluster.deployments.get(row.id)) {
      cluster.idleSince = null;
      const { namespace } = state.outline;
      const isMeshed = state.survey?.meshConfirmation === 'linkerd-smi';
      if (isMeshed) cluster.meshed.set(row.id, namespace);
      const { needed } = cluster;
      if (!needed.Deployment.has(namespace) || (isMeshed && !needed.ServiceProfile.has(namespace))) need(cluster);
      watchSplits(cluster, row.id, state);
    } else {
      cluster.meshed.delete(row.id);
      cluster.splitVersions.delete(row.id);
    }
    touch(cluster, [row.id]);
    return isNew;
  };

  /**
   * From when a run knows that it will split traffic, so that the watch is current by then. All versions show the same
   * splits, so that the one that is watched stays while a run uses it: each change would make the watch begin anew.
   */
  const watchSplits = (cluster: Cluster, id: string, { survey }: DeploymentState): void => {
    if (!survey?.splitApiVersion || survey.workloads.every(({ mode }) => mode === 'first')) return;
    cluster.splitVersions.set(id, survey.splitApiVersion);
    const known = cluster.splitApiVersion;
    if (known !== null && [...cluster.splitVersions.values()].includes(known)) return;
    cluster.splitApiVersion = survey.splitApiVersion;
    cluster.watches?.watchSplits(survey.splitApiVersion);
  };

  /** Takes up what other workers committed. */
  const learn = async (ids: string[]): Promise<void> => {
    const rows = await deps.db.prisma.deployment.findMany({
      where: { id: { in: ids }, NOT: { startedAt: null } },
      select: { ...rowColumns, state: true, foldedEvent: true, lastEvent: true },
    });
    for (const { state, foldedEvent: folded, lastEvent, ...row } of rows) {
      const reports = lastEvent > folded ? await reportsSince(deps.db, row.id, folded) : [];
      try {
        note(row, readDeploymentState(state), { folded, reports, elsewhere: true });
      } catch (err) {
        // One that this worker cannot read must not keep the others blind; whoever drives it can.
        deps.log.warn({ err, deploymentId: row.id }, 'a deployment cannot be watched');
      }
    }
  };

  /** Tells the deployments of a cluster that it can neither be watched nor asked, and when that is over. */
  const tellUnseen = (cluster: Cluster): void => {
    const stale = cluster.watches?.staleSince() ?? null;
    const now = Date.now();
    const isLong = stale !== null && now - stale.at > unseenAfterMs && now - cluster.answeredAt > unseenAfterMs;
    const isUnseen = isLong && blindOf(cluster).length > 0;
    const since = stale === null ? '' : new Date(Math.max(stale.at, cluster.answeredAt)).toISOString();
    const unseen = isUnseen ? `the cluster cannot be seen since ${since}: ${stale.reason}` : null;
    if (unseen === cluster.unseen) return;
    cluster.unseen = unseen;
    touch(
      cluster,
      [...cluster.deployments.all()].map(({ id }) => id),
    );
  };

  /** Asks a cluster whose watches have been stale for a while what its deployments wait for. Nobody waits for its answer. */
  const poll = async (cluster: Cluster): Promise<void> => {
    const since = cluster.watches?.staleSince() ?? null;
    const now = Date.now();
    if (cluster.watches === null || since === null || now - since.at < pollEveryMs) return;
    if (cluster.polling || now - cluster.polledAt < pollEveryMs) return;
    cluster.polling = true;
    try {
      await pollOnce(cluster);
    } catch (err) {
      deps.log.error(
        { err, clusterId: cluster.key.clusterId },
        'asking a cluster what its deployments wait for failed',
      );
    } finally {
      cluster.polling = false;
      cluster.polledAt = Date.now();
    }
  };

  const pollOnce = async (cluster: Cluster): Promise<void> => {
    const client = await deps.clients.get(cluster.key);
    if (!client) return;
    const isBlind = isBlindIn(cluster);
    const blind = blindOf(cluster);
    // Who was asked for is last the next time.
    const turn = blind.splice(0, polledAtOnce);
    for (const { id } of turn) cluster.deployments.toEnd(id);
    const byNamespace = Map.groupBy(turn, ({ namespace }) => namespace);
    for (const [namespace, deployments] of byNamespace) {
      const asked = deployments.flatMap(({ conditions }) => conditions);
      const view = await viewFor(client, namespace, asked);
      if (view.kind !== 'read') return;
      cluster.answeredAt = Date.now();
      const found = deployments.flatMap(({ id }) => {
        const watched = cluster.deployments.get(id);
        return watched ? newsOf(watched, watched.conditions.filter(isBlind), view.view) : [];
      });
      await report(cluster, found);
    }
  };

  return {
    update(row, state, folded) {
      if (closed) return;
      const isNew = note(row, state, { folded, reports: [], elsewhere: false });
      const cluster = clusterOf(row);
      if (cluster.epoch !== null || cluster.deployments.size() === 0) return;
      const tell = async () => {
        if (cluster.leaseOwner === null) await take(cluster);
        if (!isNew || cluster.leaseOwner === null) return;
        await deps.queue.enqueueWake('deployment', row.id, cluster.leaseOwner);
      };
      tell().catch((err) => deps.log.error({ err }, 'taking the lease of a cluster failed'));
    },

    async look(deploymentId) {
      if ([...clusters.values()].some(({ epoch }) => epoch !== null)) await learn([deploymentId]);
    },

    async refresh() {
      const where = { done: false, NOT: { startedAt: null } };
      const rows = await deps.db.prisma.deployment.findMany({ where, select: { ...rowColumns, owner: true } });
      const stale = rows.filter((row) => {
        const known = clusters.get(row.clusterId)?.deployments.get(row.id);
        return row.owner !== deps.workerId && (known?.version ?? -1) < row.version;
      });
      if (stale.length > 0) await learn(stale.map(({ id }) => id));
      const open = new Set(rows.map(({ id }) => id));
      for (const [clusterId, cluster] of clusters) {
        for (const { id } of [...cluster.deployments.all()]) if (!open.has(id)) cluster.deployments.forget(id);
        for (const known of [cluster.meshed, cluster.splitVersions])
          for (const id of [...known.keys()]) if (!open.has(id)) known.delete(id);
        need(cluster);
        // A cluster that cannot be used, by its credential for one, must not keep the others blind.
        try {
          await take(cluster);
          await rewatch(cluster);
        } catch (err) {
          deps.log.error({ err, clusterId }, 'beginning to watch a cluster failed');
        }
        tellUnseen(cluster);
        void poll(cluster);
        try {
          await releaseIfIdle(deps, clusters, clusterId, cluster);
        } catch (err) {
          deps.log.error({ err, clusterId }, 'letting go of a cluster failed');
        }
      }
    },

    async close() {
      closed = true;
      const held = [...clusters].filter(([, { epoch }]) => epoch !== null);
      for (const cluster of clusters.values()) cluster.watches?.stop();
      clusters.clear();
      for (const [clusterId] of held) await releaseWatchLease(deps.db, deps.workerId, clusterId);
    },
  };
}

/** Whether what a condition looks at is not current. */
function isBlindIn({ watches }: Cluster): (condition: Condition) => boolean {
  return (condition) => watches?.isFresh(condition) === false;
}

/** The deployments that look at something that is not current. */
function blindOf(cluster: Cluster): Watched[] {
  const isBlind = isBlindIn(cluster);
  return [...cluster.deployments.all()].filter(({ conditions }) => conditions.some(isBlind));
}

const rowColumns = { id: true, version: true, clusterId: true, organisationId: true, tenantId: true } as const;

/** Watches what the deployments of now need of their namespaces. */
function need(cluster: Cluster): void {
  const namespaces = new Set([...cluster.deployments.all()].map(({ namespace }) => namespace));
  cluster.needed = { Deployment: namespaces, ServiceProfile: new Set(cluster.meshed.values()) };
  cluster.watches?.watchNamespaces(cluster.needed);
}

function loseLease(cluster: Cluster): void {
  cluster.watches?.stop();
  Object.assign(cluster, { epoch: null, watches: null });
  for (const { told } of cluster.deployments.all()) {
    for (const [key, { number }] of told) if (number === Number.POSITIVE_INFINITY) told.delete(key);
  }
}

async function releaseIfIdle(
  deps: WatchesDeps,
  clusters: Map<string, Cluster>,
  clusterId: string,
  cluster: Cluster,
): Promise<void> {
  if (cluster.deployments.size() > 0) return;
  cluster.idleSince ??= Date.now();
  // A cluster that was removed is let go at once: its watches could only break.
  const isGone = async () => (await deps.clients.get(cluster.key)) === undefined;
  if (Date.now() - cluster.idleSince < releaseAfterMs && !(await isGone())) return;
  if (cluster.deployments.size() > 0) return;
  clusters.delete(clusterId);
  cluster.watches?.stop();
  if (cluster.epoch !== null) await releaseWatchLease(deps.db, deps.workerId, clusterId);
}
