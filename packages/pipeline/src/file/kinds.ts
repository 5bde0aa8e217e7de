import { didYouMean } from './hints.ts';

/**
 * Kinds that are part of Kubernetes (1.35) or that the rules here look for, by group. The core group is complete: nobody can
 * add kinds to it. Of the others a kind that is missing here is taken as it is.
 */
const storable: Record<string, readonly string[]> = {
  '': [
    'ConfigMap',
    'Endpoints',
    'Event',
    'LimitRange',
    'Namespace',
    'Node',
    'PersistentVolume',
    'PersistentVolumeClaim',
    'PodTemplate',
    'ReplicationController',
    'ResourceQuota',
    'Secret',
    'Service',
    'ServiceAccount',
  ],
  apps: ['ControllerRevision', 'DaemonSet', 'Deployment', 'StatefulSet'],
  autoscaling: ['HorizontalPodAutoscaler'],
  batch: ['CronJob', 'Job'],
  'discovery.k8s.io': ['EndpointSlice'],
  extensions: ['Deployment'],
  'keda.sh': ['ScaledObject'],
  'linkerd.io': ['ServiceProfile'],
  'networking.k8s.io': ['Ingress', 'IngressClass', 'NetworkPolicy'],
  policy: ['PodDisruptionBudget'],
  'rbac.authorization.k8s.io': ['ClusterRole', 'ClusterRoleBinding', 'Role', 'RoleBinding'],
  'split.smi-spec.io': ['TrafficSplit'],
};

/** Kinds that would run beside the strategy. */
const refused: Record<string, readonly string[]> = {
  '': ['Pod'],
  apps: ['ReplicaSet'],
  extensions: ['ReplicaSet'],
};

/** Groups and kinds that are questions or commands to a cluster: they can be posted, but nothing is stored to be found again. */
const questions: Record<string, readonly string[] | 'all'> = {
  '': ['Binding', 'ComponentStatus'],
  'admission.k8s.io': 'all',
  'apiextensions.k8s.io': ['ConversionReview'],
  apps: ['Scale'],
  'authentication.k8s.io': 'all',
  'authorization.k8s.io': 'all',
  autoscaling: ['Scale'],
  extensions: ['Scale'],
  'kustomize.config.k8s.io': 'all',
  'meta.k8s.io': 'all',
  policy: ['Eviction'],
};

const of = <Value>(table: Record<string, Value>, group: string): Value | undefined =>
  Object.hasOwn(table, group) ? table[group] : undefined;

/** Why an object of this kind cannot be deployed; undefined where it can, or where only the cluster knows. */
export function kindProblem(group: string, kind: string): { message: string; hint?: string } | undefined {
  const forbidden = of(refused, group) ?? [];
  const known = of(storable, group) ?? [];
  if (forbidden.includes(kind))
    return { message: `objects of kind ${kind} are not supported`, hint: 'use a Deployment' };
  const asked = of(questions, group);
  if (asked === 'all' || asked?.includes(kind) === true)
    return { message: `${kind} is not an object that a cluster stores, so it cannot be deployed` };
  // A list that holds objects was opened before; of custom kinds, AllowList and the like are good names.
  const isList =
    (group === '' && kind === 'List') ||
    (kind.endsWith('List') && [...known, ...forbidden].includes(kind.slice(0, -4)));
  if (isList) return { message: `${kind} has no list of items, so there is nothing in it to deploy` };
  if (known.includes(kind)) return undefined;
  const written = [...known, ...forbidden].find((word) => word.toLowerCase() === kind.toLowerCase());
  if (written !== undefined) return { message: `kind ${kind} is not known`, hint: `did you mean '${written}'?` };
  if (group !== '') return undefined;
  const hint = didYouMean(kind, known);
  const message = `kind ${kind} is not known in apiVersion v1`;
  return hint === undefined ? { message } : { message, hint };
}
