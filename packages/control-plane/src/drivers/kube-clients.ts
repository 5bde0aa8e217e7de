import type { ClusterAccess } from '../kubeconfig.ts';
import type { Outbound } from '../outbound.ts';
import { createKubeClient, type KubeClient } from './kube.ts';
import type { TransportOptions } from './kube-transport.ts';

export type ClusterKey = { organisationId: string; tenantId: string; clusterId: string };

/**
 * Reads a cluster's access. Given the version that is in use it may answer 'unchanged' and spare the decryption;
 * undefined means that the cluster is gone. Any change of server, CA or credential must change `version`.
 */
export type LoadCluster = (
  key: ClusterKey,
  knownVersion?: string,
) => Promise<{ version: string; access: ClusterAccess } | 'unchanged' | undefined>;

export type KubeClients = {
  /** The client of a cluster, shared by all callers; undefined if the cluster is gone. Do not keep it for long. */
  get(key: ClusterKey): Promise<KubeClient | undefined>;
  /** Makes the next get() ask for the access again, e.g. after a 401 or a change. */
  invalidate(key: ClusterKey): void;
  close(): Promise<void>;
};

const idleMs = 600_000;
const tidyEveryMs = 60_000;

/**
 * Keeps one client per cluster. Access is loaded again at most every `recheckMs` for a cluster in use; a client whose
 * version is out of date is replaced and closed, and one that nobody asked for in ten minutes is closed and forgotten, so
 * that no credential of a cluster that is gone stays in memory.
 */
export function createKubeClients(
  loadCluster: LoadCluster,
  outbound: Outbound,
  { recheckMs = 5000, now = Date.now, ...rest }: { recheckMs?: number } & Pick<TransportOptions, 'limits' | 'now'> = {},
): KubeClients {
  type Entry = { version: string; client: KubeClient; checkedAt: number; usedAt: number };
  const entries = new Map<string, Entry>();
  const loading = new Map<string, Promise<KubeClient | undefined>>();
  // The whole key: a client never reaches a caller of another tenant, whatever cluster id he names.
  const keyOf = ({ organisationId, tenantId, clusterId }: ClusterKey) =>
    JSON.stringify([organisationId, tenantId, clusterId]);

  const load = async (key: ClusterKey): Promise<KubeClient | undefined> => {
    const entry = entries.get(keyOf(key));
    const loaded = await loadCluster(key, entry?.version);
    if (entry && (loaded === 'unchanged' || loaded?.version === entry.version)) {
      entry.checkedAt = now();
      return entry.client;
    }
    entries.delete(keyOf(key));
    void entry?.client.close();
    if (loaded === undefined || loaded === 'unchanged') return undefined;
    const client = createKubeClient({ ...loaded.access, outbound, now, ...rest });
    entries.set(keyOf(key), { version: loaded.version, client, checkedAt: now(), usedAt: now() });
    return client;
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
    async get(key) {
      const id = keyOf(key);
      const entry = entries.get(id);
      if (entry) entry.usedAt = now();
      if (entry && now() - entry.checkedAt < recheckMs) return entry.client;
      let pending = loading.get(id);
      if (!pending) {
        pending = load(key).finally(() => loading.delete(id));
        loading.set(id, pending);
      }
      return pending;
    },
    invalidate(key) {
      const entry = entries.get(keyOf(key));
      if (entry) entry.checkedAt = Number.NEGATIVE_INFINITY;
    },
    async close() {
      clearInterval(timer);
      const clients = [...entries.values()].map((entry) => entry.client);
      entries.clear();
      await Promise.all(clients.map((client) => client.close()));
    },
  };
}
