import type { KubernetesObject } from './kubernetes.ts';
import { keysOf, type LabelSelector } from './label-selector.ts';

/**
 * What one deployment (one target of a pipeline) is told to do. Resolved once from the deployment file when the pipeline
 * starts, immutable afterwards, and stored encrypted, because manifests may hold secrets.
 */
export type DeploymentPlan = {
  application: string;
  /** Target name; `environment` in annotations and container variables. */
  target: string;
  /** Name of the cluster account. */
  account: string;
  namespace: string;
  /** The target's Deployments, in the order of their names; each becomes a ReplicaSet that the control plane manages. */
  workloads: Workload[];
  /** How traffic is split between old and new versions, in the order of the root Services' names. */
  routes: SmiRoute[];
  /** Every other object of the target, namespace applied, in the order of applying: Namespaces, CRDs, then as written. */
  objects: KubernetesObject[];
  /** The strategy's steps as written; the final weight of 100 is implied. */
  steps: StrategyStep[];
  /** How long pods may take to become ready before the deployment rolls back (spec/deployment-file.md §3). */
  readyTimeoutSeconds: number;
  /** How long connections may drain after traffic left a backend. */
  drainSeconds: number;
  /** In the end a Deployment object stands over each new ReplicaSet, as the manifest has it. */
  keepDeploymentObject?: true;
};

export type Workload = {
  name: string;
  /** `spec.replicas` of the manifest, 1 where it is absent. */
  replicas: number;
  /** The Deployment as in the manifest, namespace applied. */
  manifest: KubernetesObject;
};

/**
 * The labels by which a Deployment of the manifest's selector takes a ReplicaSet for its own: those of its pods that the
 * selector speaks of.
 */
export function keptLabelsOf({ manifest }: Workload): Record<string, string> {
  const { selector, template } = manifest.spec as {
    selector?: LabelSelector;
    template?: { metadata?: { labels?: Record<string, string> } };
  };
  const keys = keysOf(selector);
  const labels = Object.entries(template?.metadata?.labels ?? {});
  return Object.fromEntries(labels.filter(([key]) => keys.includes(key)));
}

/** One `trafficManagement[].smi[]` entry with its defaults filled in (spec/deployment-file.md §10). */
export type SmiRoute = {
  rootServiceName: string;
  canaryServiceName: string;
  /** True where the file names the canary Service: then it must exist, and it is restored instead of deleted. */
  canaryServiceGiven: boolean;
  trafficSplitName: string;
};

export type StrategyStep =
  | { kind: 'setWeight'; weight: number }
  | { kind: 'pause'; duration: number; unit: TimeUnit }
  | { kind: 'pause'; untilApproved: true; approvalExpirationSeconds: number | null };

export type TimeUnit = 'SECONDS' | 'MINUTES' | 'HOURS';

export const secondsPerUnit: Record<TimeUnit, number> = { SECONDS: 1, MINUTES: 60, HOURS: 3600 };

/**
 * Refs of a step as the API shows them, n from 1: `canary-step-<n>-<deployment>` for setWeight, one for each Deployment,
 * else `canary-step-<n>` (spec/behaviour.md §10).
 */
export function stepRefs(
  plan: Pick<DeploymentPlan, 'steps'> & { workloads: Pick<Workload, 'name'>[] },
  index: number,
): string[] {
  const ref = `canary-step-${index + 1}`;
  return plan.steps[index]?.kind === 'setWeight' ? plan.workloads.map(({ name }) => `${ref}-${name}`) : [ref];
}
