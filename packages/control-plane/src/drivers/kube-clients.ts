import { isDeepStrictEqual } from 'node:util';
import type { MeshConfirmation } from '@cdaas/pipeline/deployment-state.ts';
import type { ClusterAccess } from '../clusters/kubeconfig.ts';
import type { Outbound } from '../outbound.ts';
import { createKubeClient, type KubeClient } from './kube.ts';
import type { TransportOptions } from './kube-transport.ts';

export type ClusterKey = { organisationId: string; tenantId: string; clusterId: string };

/** What a registration says of a cluster besides how it is reached. */
export type ClusterSettings = {
  name: string;
  /** The same for all registrations of one cluster. */
  clusterUid: string;
  /** Empty: all. */
  namespaces: readonly string[];
  clusterScopedKinds: readonly string[];
  meshConfirmation: MeshConfirmation;
};

export type LoadedCluster = { version: string; access: ClusterAccess; settings: ClusterSettings };

/**
 * Reads a cluster's registration. Given the version that is in use it may answer 'unchanged' and spare the decryption;
 * undefined means that the cluster is gone. Any change must change `version`.
 */
export type LoadCluster = (key: ClusterKey, knownVersion?: string) => Promise<LoadedCluster | 'unchanged' | undefined>;

export type KubeClients = {
  /** The client of a cluster, shared by all callers; undefined if the cluster is gone. Do not keep it for long. */
  get(key: ClusterKey): Promise<KubeClient | undefined>;
  /** The settings of a cluster, no older than its client; undefined if the cluster is gone. */
  settings(key: ClusterKey): Promise<ClusterSettings | undefined>;
  /** Makes the next get() ask for the access again, e.g. after a 401 or a change. */
  invalidate(key: ClusterKey): void;
  close(): Promise<void>;
};

type KubeClientsOptions = {
  recheckMs?: number;
  /** A cluster that counted as away has answered. */
  onAnswersAgain?(key: ClusterKey): void;
} & Pick<TransportOptions, 'limits' | 'now'>;

const idleMs = 600_000;
const tidyEveryMs = 60_000;

/**
 * Keeps one client per cluster. Its registration is loaded again at most every `recheckMs` for a cluster in use; where the
 * access has changed, the client changes over to it (KubeClient.replaceAccess), so that nobody who holds it loses anything.
 * A client that nobody asked for in ten minutes is closed and forgotten, so that no credential of a cluster that is gone
 * stays in memory.
 */
export function createKubeClients(
  loadCluster: LoadCluster,
  outbound: Outbound,
  { recheckMs = 5000, now = Date.now, onAnswersAgain, ...rest }: KubeClientsOptions = {},
): KubeClients {
  type Entry = LoadedCluster & { client: KubeClient; checkedAt: number; usedAt: number };
  const entries = new Map<string, Entry>();
  const loading = new Map<string, Promise<Entry | undefined>>();
  let closed = false;
  // The whole key: a client never reaches a caller of another tenant, whatever cluster id he names.
  const keyOf = ({ organisationId, tenantId, clusterId }: ClusterKey) =>
    JSON.stringify([organisationId, tenantId, clusterId]);

  const load = async (key: ClusterKey): Promise<Entry | undefined> => {
    const entry = entries.get(keyOf(key));
    const loaded = await loadCluster(key, entry?.version);
    if (closed) return undefined;
    if (loaded === undefined) {
      entries.delete(keyOf(key));
      void entry?.client.close();
      return undefined;
    }
    if (entry) entry.checkedAt = now();
    if (loaded === 'unchanged') return entry;
    if (entry) {
      if (!isDeepStrictEqual(loaded.access, entry.access)) entry.client.replaceAccess(loaded.access);
      return Object.assign(entry, loaded);
    }
    const client = createKubeClient({
      ...loaded.access,
      outbound,
      now,
      onAnswersAgain: () => onAnswersAgain?.(key),
      ...rest,
    });
    const made = { ...loaded, client, checkedAt: now(), usedAt: now() };
    entries.set(keyOf(key), made);
    return made;
  };

  const current = async (key: ClusterKey): Promise<Entry | undefined> => {
    const id = keyOf(key);
    const entry = entries.get(id);
    if (entry) entry.usedAt = now();
    if (entry && now() - entry.checkedAt < recheckMs) return entry;
    let pending = loading.get(id);
    if (!pending) {
      pending = load(key).finally(() => loading.delete(id));
      loading.set(id, pending);
    }
    return pending;
  };

  // Watches ask for their client every half minute.
  const timer = setInterval(() => {
    for (const [id, { client, usedAt }] of entries) {
      if (now() - usedAt < idleMs) continue;
      entries.delete(id);
      void client.close();
    }
  }, tidyEveryMs);
  timer.unref();

  return {
    get: async (key) => (await current(key))?.client,
    settings: async (key) => (await current(key))?.settings,
    invalidate(key) {
      const entry = entries.get(keyOf(key));
      if (entry) entry.checkedAt = Number.NEGATIVE_INFINITY;
    },
    async close() {
      closed = true;
      clearInterval(timer);
      const clients = [...entries.values()].map((entry) => entry.client);
      entries.clear();
      await Promise.all(clients.map((client) => client.close()));
    },
  };
}
