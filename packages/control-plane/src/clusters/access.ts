import { MeshConfirmation } from '@cdaas/contract/clusters.ts';
import { type Database, scoped } from '../database/db.ts';
import type { LoadCluster } from '../drivers/kube-clients.ts';
import type { Vault } from '../encryption.ts';
import type { ClusterAccess } from './kubeconfig.ts';

/** Reads how to reach a cluster and what may be done there, in a transaction that sees its tenant only. */
export function createClusterLoader({ db, vault }: { db: Database; vault: Vault }): LoadCluster {
  return async (key, knownVersion) => {
    const row = await scoped(db, key, (tx) => tx.cluster.findUnique({ where: { id: key.clusterId } }));
    if (!row) return undefined;
    // Also by the time, because a release that does not count changes yet may be running beside this one.
    const version = `${row.accessVersion} ${row.verifiedAt.toISOString()}`;
    if (version === knownVersion) return 'unchanged';
    const { name, clusterUid, server, caData, namespaces, clusterScopedKinds } = row;
    const meshConfirmation = MeshConfirmation.parse(row.meshConfirmation);
    return {
      version,
      access: { server, caData, credential: await readCredential(vault, row) },
      settings: { name, clusterUid, namespaces, clusterScopedKinds, meshConfirmation },
    };
  };
}

/** The stored credential of a cluster, for those who are about to use it: it never goes into an answer. */
export async function readCredential(
  vault: Vault,
  { id, organisationId, credential }: { id: string; organisationId: string; credential: Uint8Array },
): Promise<ClusterAccess['credential']> {
  const at = { table: 'cluster', row: id, field: 'credential' };
  return (await vault.decryptJson(organisationId, at, credential)) as ClusterAccess['credential'];
}
