import { type Database, scoped } from './db.ts';
import type { LoadCluster } from './drivers/kube-clients.ts';
import type { Vault } from './encryption.ts';
import type { ClusterAccess } from './kubeconfig.ts';

/**
 * Reads how to reach a cluster, in a transaction that sees its tenant only. A cluster's access never changes in place
 * before it is verified anew, so the moment of verification is its version.
 */
export function createClusterLoader({ db, vault }: { db: Database; vault: Vault }): LoadCluster {
  return async (key, knownVersion) => {
    const row = await scoped(db, key, (tx) => tx.cluster.findUnique({ where: { id: key.clusterId } }));
    if (!row) return undefined;
    const version = row.verifiedAt?.toISOString() ?? row.createdAt.toISOString();
    if (version === knownVersion) return 'unchanged';
    const at = { table: 'cluster', row: row.id, field: 'credential' };
    const credential = (await vault.decryptJson(key.organisationId, at, row.credential)) as ClusterAccess['credential'];
    return { version, access: { server: row.server, caData: row.caData, credential } };
  };
}
