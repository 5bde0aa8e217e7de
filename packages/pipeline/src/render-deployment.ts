import { templateFor } from './deployment-object.ts';
import type { KubernetesObject } from './kubernetes.ts';
import { deploymentKey } from './marks.ts';

/**
 * A Deployment object over a ReplicaSet that runs: as people wrote it, with the ReplicaSet's own template and number of
 * pods, and paused, so that it starts no pod whatever stands there when it is made.
 *
 * @param from the manifest, or the form that an earlier Deployment had
 * @param marks labels and annotations to add; `atLeast`: pods that it asks for even where somebody scaled the ReplicaSet down
 */
export function renderDeployment(
  from: KubernetesObject,
  replicaSet: KubernetesObject,
  marks: { run: string; annotations: Record<string, string>; atLeast: number },
): Record<string, unknown> {
  const { name, namespace, labels, annotations } = from.metadata;
  const { replicas = 1 } = replicaSet.spec as { replicas?: number };
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: {
      name,
      namespace,
      labels: { ...labels, [deploymentKey]: marks.run },
      annotations: { ...annotations, ...marks.annotations },
    },
    spec: {
      ...(from.spec as object),
      replicas: Math.max(replicas, marks.atLeast),
      paused: true,
      template: templateFor(replicaSet),
    },
  };
}
