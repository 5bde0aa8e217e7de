import type { Violation } from '@cdaas/contract/errors.ts';
import type { DeploymentPlan } from '@cdaas/pipeline/plan.ts';

/** What may be deployed to a cluster; no namespaces means all of them. */
export type ClusterLimits = { name: string; namespaces: readonly string[]; clusterScopedKinds: readonly string[] };

/**
 * Checks a plan against the allow-lists of its cluster. Without them anybody who may deploy could use the stored
 * credential for all that it can do, up to making himself its administrator.
 */
export function checkLimits(plan: DeploymentPlan, cluster: ClusterLimits): Violation[] {
  const path = `/targets/${plan.target.replaceAll('~', '~0').replaceAll('/', '~1')}`;
  const found = new Map<string, Violation>();
  for (const { kind, metadata } of [...plan.workloads.map(({ manifest }) => manifest), ...plan.objects]) {
    const { name, namespace } = metadata;
    if (namespace === undefined) {
      if (cluster.clusterScopedKinds.includes(kind)) continue;
      const message = `${kind} ${name} is not allowed in cluster "${cluster.name}": it lies outside of namespaces.`;
      const hint = `Cluster-scoped kinds allowed there: ${list(cluster.clusterScopedKinds)}.`;
      found.set(`kind ${kind} ${name}`, { code: 'manifest.kind', message, path, hint });
    } else if (cluster.namespaces.length > 0 && !cluster.namespaces.includes(namespace)) {
      const message = `Namespace ${namespace} is not open for deployments in cluster "${cluster.name}".`;
      const hint = `Open namespaces: ${list(cluster.namespaces)}.`;
      found.set(`namespace ${namespace}`, { code: 'field.enum', message, path: `${path}/namespace`, hint });
    }
  }
  return [...found.values()];
}

function list(words: readonly string[]): string {
  return words.length === 0 ? 'none' : words.slice(0, 20).join(', ');
}
