/**
 * Every right that the engine needs in a cluster, as one table: registration asks for each of these
 * (cluster-reviews.ts), the RBAC to paste gives exactly these (rbac-manifest.ts), and a test compares the table with the
 * requests that whole runs really make. A new kind of request needs its line here, or that test names it.
 */

export const rightVerbs = ['get', 'list', 'watch', 'create', 'update', 'patch', 'delete'] as const;
export type RightVerb = (typeof rightVerbs)[number];

/**
 * `always`: without it no deployment works. `served`: needed as soon as the cluster serves the API group. `optional`:
 * without it something is left out, as `without` says.
 */
export type Need = 'always' | 'served' | 'optional';

export type Right = {
  /** API group; empty for the core group. */
  group: string;
  /** Plural, as in URLs and RBAC rules. */
  resource: string;
  verbs: readonly RightVerb[];
  need: Need;
  /** What for, as a comment in the RBAC and an explanation where it is missing. */
  why: string;
  /** What does not work without an optional right. */
  without?: string;
};

/** A right to one named object, in a namespace or outside of all. */
export type NamedRight = Right & { name: string; namespace?: string };

/** In every namespace that is deployed to. */
export const engineRights: readonly Right[] = [
  {
    group: '',
    resource: 'services',
    verbs: ['get', 'list', 'watch', 'create', 'update', 'patch', 'delete'],
    need: 'always',
    why: 'the root Service is pinned to one version and restored, the canary Service made and removed',
  },
  { group: '', resource: 'pods', verbs: ['list', 'watch'], need: 'always', why: 'which pods are ready' },
  {
    group: 'discovery.k8s.io',
    resource: 'endpointslices',
    verbs: ['list', 'watch'],
    need: 'always',
    why: 'where the Services lead',
  },
  {
    group: 'apps',
    resource: 'replicasets',
    verbs: ['get', 'list', 'watch', 'create', 'patch', 'delete'],
    need: 'always',
    why: 'the versions themselves',
  },
  {
    group: 'apps',
    resource: 'deployments',
    verbs: ['get', 'list', 'watch', 'create', 'patch', 'delete'],
    need: 'always',
    why: 'a Deployment that runs already is taken over, or kept up to date where asked for',
  },
  {
    group: 'autoscaling',
    resource: 'horizontalpodautoscalers',
    verbs: ['list'],
    need: 'always',
    why: 'what would scale a version behind our back',
  },
  {
    group: 'split.smi-spec.io',
    resource: 'trafficsplits',
    verbs: ['get', 'list', 'watch', 'create', 'patch', 'delete'],
    need: 'served',
    why: 'the weights of a canary',
  },
  {
    group: 'linkerd.io',
    resource: 'serviceprofiles',
    verbs: ['list', 'watch'],
    need: 'served',
    why: 'whether the mesh has taken a weight',
  },
  {
    group: 'keda.sh',
    resource: 'scaledobjects',
    verbs: ['list'],
    need: 'served',
    why: 'what would scale a version behind our back',
  },
  {
    group: '',
    resource: 'events',
    verbs: ['create'],
    need: 'optional',
    why: 'what a run does is told on its Services',
    without: 'kubectl describe tells nothing of what a run does',
  },
];

/** Outside of the namespaces that are deployed to; each works without, if less well. */
export const lookupRights: readonly NamedRight[] = [
  {
    group: '',
    resource: 'namespaces',
    name: 'kube-system',
    // A request for a Namespace counts as one within it.
    namespace: 'kube-system',
    verbs: ['get'],
    need: 'optional',
    why: 'its uid tells this cluster from others',
    without: 'the cluster is known by its address alone: registered under another one it counts as another cluster',
  },
  {
    group: 'apps',
    resource: 'deployments',
    name: 'smi-adaptor',
    namespace: 'linkerd-smi',
    verbs: ['get'],
    need: 'optional',
    why: 'whether the mesh confirms weights',
    without: 'how the mesh confirms weights is guessed from what the cluster serves',
  },
];

/** What objects of a deployment file are done to: looked at, applied, and put back by a roll back. */
export const manifestVerbs: readonly RightVerb[] = ['get', 'create', 'update', 'patch'];

export type ManifestKind = { kind: string; group: string; resource: string; namespaced: boolean };

/** Kinds that are part of Kubernetes (1.35) and that deployment files bring along. Services are in `engineRights`. */
export const manifestKinds: readonly ManifestKind[] = [
  ['ConfigMap', '', 'configmaps', true],
  ['Secret', '', 'secrets', true],
  ['ServiceAccount', '', 'serviceaccounts', true],
  ['PersistentVolumeClaim', '', 'persistentvolumeclaims', true],
  ['LimitRange', '', 'limitranges', true],
  ['ResourceQuota', '', 'resourcequotas', true],
  ['DaemonSet', 'apps', 'daemonsets', true],
  ['StatefulSet', 'apps', 'statefulsets', true],
  ['HorizontalPodAutoscaler', 'autoscaling', 'horizontalpodautoscalers', true],
  ['CronJob', 'batch', 'cronjobs', true],
  ['Job', 'batch', 'jobs', true],
  ['Ingress', 'networking.k8s.io', 'ingresses', true],
  ['NetworkPolicy', 'networking.k8s.io', 'networkpolicies', true],
  ['PodDisruptionBudget', 'policy', 'poddisruptionbudgets', true],
  ['Role', 'rbac.authorization.k8s.io', 'roles', true],
  ['RoleBinding', 'rbac.authorization.k8s.io', 'rolebindings', true],
  ['ServiceProfile', 'linkerd.io', 'serviceprofiles', true],
  ['Namespace', '', 'namespaces', false],
  ['PersistentVolume', '', 'persistentvolumes', false],
  ['CustomResourceDefinition', 'apiextensions.k8s.io', 'customresourcedefinitions', false],
  ['IngressClass', 'networking.k8s.io', 'ingressclasses', false],
  ['ClusterRole', 'rbac.authorization.k8s.io', 'clusterroles', false],
  ['ClusterRoleBinding', 'rbac.authorization.k8s.io', 'clusterrolebindings', false],
  ['PriorityClass', 'scheduling.k8s.io', 'priorityclasses', false],
  ['StorageClass', 'storage.k8s.io', 'storageclasses', false],
].map(([kind, group, resource, namespaced]) => ({ kind, group, resource, namespaced }) as ManifestKind);

/** Kinds so common in deployment files that registration says whether they can be deployed. */
const usualKinds = ['ConfigMap', 'Secret', 'ServiceAccount'];

/** The rights to deploy a kind; without them its objects fail a deployment at its preflight. */
export function manifestRight({ kind, group, resource }: ManifestKind): Right {
  return {
    group,
    resource,
    verbs: manifestVerbs,
    need: 'optional',
    why: `objects of kind ${kind} in deployment files`,
    without: `a deployment file with a ${kind} fails before it changes anything`,
  };
}

/** What registration asks about besides: the usual kinds, in each namespace. */
export const usualManifestRights: readonly Right[] = manifestKinds
  .filter(({ kind }) => usualKinds.includes(kind))
  .map(manifestRight);

/**
 * The rights to the cluster-scoped kinds that may be deployed. Where namespaces are limited, Namespaces but those cannot be
 * deployed, so that nobody needs the right to more; a create cannot be limited by name.
 */
export function clusterScopedRights(kinds: readonly string[], namespaces: readonly string[]): (Right | NamedRight)[] {
  const wanted = manifestKinds.filter(({ kind, namespaced }) => !namespaced && kinds.includes(kind));
  return wanted.flatMap((kind) => {
    const right = manifestRight(kind);
    if (kind.kind !== 'Namespace' || namespaces.length === 0) return [right];
    const verbs = manifestVerbs.filter((verb) => verb !== 'create');
    return [
      { ...right, verbs: ['create'] },
      ...namespaces.map((name) => ({ ...right, verbs, name, namespace: name })),
    ] satisfies (Right | NamedRight)[];
  });
}

/** `replicasets.apps`, as kubectl and RBAC messages write it. */
export function resourceWords({ group, resource }: Pick<Right, 'group' | 'resource'>): string {
  return group === '' ? resource : `${resource}.${group}`;
}
