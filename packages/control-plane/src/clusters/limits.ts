import type { Violation } from '@cdaas/contract/errors.ts';
import type { DeploymentPlan } from '@cdaas/pipeline/plan.ts';

/** What may be deployed to a cluster; no namespaces means all of them. */
export type ClusterLimits = { name: string; namespaces: readonly string[]; clusterScopedKinds: readonly string[] };

/**
 * Checks a plan against the allow-lists of its cluster. Without them anybody who may deploy could use the stored
 * credential for all that it can do, up to making himself its administrator. The driver checks again (drivers/effects.ts):
 * only the cluster knows for certain which kinds lie outside of namespaces.
 */
export function checkLimits(plan: DeploymentPlan, cluster: ClusterLimits): Violation[] {
  const path = `/targets/${plan.target.replaceAll('~', '~0').replaceAll('/', '~1')}`;
  const found = new Map<string, Violation>();
  for (const { kind, metadata } of [...plan.workloads.map(({ manifest }) => manifest), ...plan.objects]) {
    const { name, namespace } = metadata;
    const outside = outsideLimits({ kind, name, namespace }, cluster);
    if (outside?.rule === 'kind') {
      found.set(outside.message, { code: 'manifest.kind', message: outside.message, path, hint: outside.hint });
    } else if (outside) {
      const { message, hint } = outside;
      found.set(message, { code: 'field.enum', message, path: `${path}/namespace`, hint });
    }
  }
  return [...found.values()];
}

export type Outside = { rule: 'kind' | 'namespace'; message: string; hint: string };

/**
 * Why an object may not be deployed to a cluster; undefined where it may.
 *
 * @param object `namespace` undefined: its kind lies outside of namespaces
 */
export function outsideLimits(
  { kind, name, namespace }: { kind: string; name: string; namespace: string | undefined },
  { name: cluster, namespaces, clusterScopedKinds }: ClusterLimits,
): Outside | undefined {
  if (namespace === undefined && !clusterScopedKinds.includes(kind)) {
    return {
      rule: 'kind',
      message: `${kind} ${name} is not allowed in cluster "${cluster}": it lies outside of namespaces.`,
      hint: `Cluster-scoped kinds allowed there: ${list(clusterScopedKinds)}.`,
    };
  }
  // A Namespace is as good as what is in it: its labels say who may do what there.
  const entered = namespace ?? (kind === 'Namespace' ? name : undefined);
  if (entered === undefined || namespaces.length === 0 || namespaces.includes(entered)) return undefined;
  return {
    rule: 'namespace',
    message: `Namespace ${entered} is not open for deployments in cluster "${cluster}".`,
    hint: `Open namespaces: ${list(namespaces)}.`,
  };
}

function list(words: readonly string[]): string {
  return words.length === 0 ? 'none' : words.slice(0, 20).join(', ');
}
