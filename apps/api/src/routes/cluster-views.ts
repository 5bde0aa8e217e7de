import { ClusterState, type ClusterView, MeshConfirmation } from '@cdaas/contract/clusters.ts';
import { resourceWords } from '@cdaas/control-plane/clusters/engine-rights.ts';
import type { Findings, Health, RegisteredCluster } from '@cdaas/control-plane/clusters/rows.ts';
import type { CallerContext } from '@cdaas/control-plane/principals.ts';
import { moment } from '../answers.ts';

/** A cluster in a list. Who may only deploy sees names, to choose a target by. */
export function listedClusterView(ctx: CallerContext, cluster: RegisteredCluster): ClusterView {
  if (!ctx.permissions.has('cluster.manage')) return { name: cluster.name };
  const { name, server, namespaces, clusterScopedKinds, meshSetting, meshDetected } = cluster;
  const findings = cluster.findings as Findings | null;
  const meshConfirmation = MeshConfirmation.parse(cluster.meshConfirmation);
  return {
    name,
    server,
    version: cluster.kubernetesVersion,
    ...(findings ? { credential: findings.credential } : {}),
    namespaces,
    clusterScopedKinds,
    meshConfirmation,
    meshConfirmationSetting: meshSetting === 'detected' ? 'detected' : meshConfirmation,
    meshConfirmationDetected: meshDetected === null ? null : MeshConfirmation.parse(meshDetected),
    trafficSplitVersion: cluster.splitVersion,
    createdAtIso8601: moment(cluster.createdAt),
    state: ClusterState.parse(cluster.health?.state ?? 'unknown'),
  };
}

/** One cluster, with what its health is and what its last verification saw. */
export function shownClusterView(ctx: CallerContext, cluster: RegisteredCluster): ClusterView {
  const listed = listedClusterView(ctx, cluster);
  if (!ctx.permissions.has('cluster.manage')) return listed;
  const findings = cluster.findings as Findings | null;
  return {
    ...listed,
    ...(cluster.health ? { health: healthView(cluster.health) } : {}),
    ...(findings ? { verification: verificationView(findings, cluster.verifiedAt) } : {}),
  };
}

function healthView(health: Health): ClusterView['health'] {
  return {
    state: ClusterState.parse(health.state),
    sinceIso8601: moment(health.since),
    checkedAtIso8601: moment(health.checkedAt),
    lastSuccessAtIso8601: moment(health.lastSuccessAt),
    latencyMs: health.latencyMs,
    error: health.error,
    changes: health.changes.map(({ state, at, error }) => ({
      state: ClusterState.parse(state),
      atIso8601: moment(at),
      error,
    })),
  };
}

function verificationView(findings: Findings, verifiedAt: Date): ClusterView['verification'] {
  return {
    verifiedAtIso8601: moment(verifiedAt),
    serverCertificateUntilIso8601: findings.serverUntil,
    caUntilIso8601: findings.caUntil,
    credentialUntilIso8601: moment(findings.credentialUntil),
    trafficSplitVersions: findings.splitVersions,
    meshEvidence: findings.meshEvidence,
    missing: missingView(findings.missing),
  };
}

/** One entry for all verbs of a resource, as a rule of RBAC would give them. */
function missingView(missing: Findings['missing']) {
  const alike = Map.groupBy(missing, ({ verb: _, ...right }) => JSON.stringify(Object.entries(right).sort()));
  return [...alike.values()].flatMap((rights) => {
    const [first] = rights;
    if (first === undefined) return [];
    const { namespace, name, without = '', verb: _, ...right } = first;
    return {
      resource: resourceWords(right),
      verbs: rights.map(({ verb }) => verb),
      ...(namespace === '' ? {} : { namespace }),
      ...(name === undefined ? {} : { name }),
      without,
    };
  });
}
