import { type Fields, isFields, type KubeObject } from './objects.ts';
import type { Schema } from './schema.ts';

export type PrinterColumn = { name: string; type: string; jsonPath: string; description?: string; priority?: number };

/** One kind of object that the API serves. All its versions share one storage. */
export type Resource = {
  /** `plural.group`, or just the plural in the core group. */
  id: string;
  group: string;
  /** Preferred first. */
  versions: string[];
  plural: string;
  singular: string;
  kind: string;
  shortNames: string[];
  namespaced: boolean;
  status: boolean;
  scale: boolean;
  /** Whether `metadata.generation` counts changes of the specification. */
  generation: boolean;
  /** Present for custom resources: schema and columns of each version. */
  custom?: { schemas: Record<string, Schema>; columns: Record<string, PrinterColumn[]> };
};

export type Target = { resource: Resource; version: string; namespace: string; name: string };

export function groupVersion(resource: Resource, version: string): string {
  return resource.group ? `${resource.group}/${version}` : version;
}

export const definitionsId = 'customresourcedefinitions.apiextensions.k8s.io';

type BuiltIn = [group: string, version: string, kind: string, plural: string, shortNames: string, flags: string];

/** Flags: n namespaced, s status, r scale, g generation. */
const builtIns: BuiltIn[] = [
  ['', 'v1', 'Namespace', 'namespaces', 'ns', 's'],
  ['', 'v1', 'Node', 'nodes', 'no', 's'],
  ['', 'v1', 'Service', 'services', 'svc', 'ns'],
  ['', 'v1', 'Pod', 'pods', 'po', 'ns'],
  ['', 'v1', 'ConfigMap', 'configmaps', 'cm', 'n'],
  ['', 'v1', 'Secret', 'secrets', '', 'n'],
  ['', 'v1', 'ServiceAccount', 'serviceaccounts', 'sa', 'n'],
  ['', 'v1', 'ResourceQuota', 'resourcequotas', 'quota', 'ns'],
  ['', 'v1', 'Event', 'events', 'ev', 'n'],
  ['apps', 'v1', 'Deployment', 'deployments', 'deploy', 'nsrg'],
  ['apps', 'v1', 'ReplicaSet', 'replicasets', 'rs', 'nsrg'],
  ['apps', 'v1', 'StatefulSet', 'statefulsets', 'sts', 'nsg'],
  ['autoscaling', 'v2', 'HorizontalPodAutoscaler', 'horizontalpodautoscalers', 'hpa', 'ns'],
  ['discovery.k8s.io', 'v1', 'EndpointSlice', 'endpointslices', '', 'ng'],
  ['apiextensions.k8s.io', 'v1', 'CustomResourceDefinition', 'customresourcedefinitions', 'crd,crds', 'sg'],
  ['rbac.authorization.k8s.io', 'v1', 'Role', 'roles', '', 'n'],
  ['rbac.authorization.k8s.io', 'v1', 'RoleBinding', 'rolebindings', '', 'n'],
  ['rbac.authorization.k8s.io', 'v1', 'ClusterRole', 'clusterroles', '', ''],
  ['rbac.authorization.k8s.io', 'v1', 'ClusterRoleBinding', 'clusterrolebindings', '', ''],
];

export type Registry = {
  all(): Resource[];
  find(group: string, version: string, plural: string): Resource | undefined;
  byId(id: string): Resource;
  /** Serves the custom resource that a CustomResourceDefinition describes, replacing an earlier form of it. */
  register(definition: KubeObject): void;
  unregister(definition: KubeObject): void;
};

export function createRegistry(): Registry {
  const resources = new Map<string, Resource>();
  for (const [group, version, kind, plural, shortNames, flags] of builtIns) {
    const id = group ? `${plural}.${group}` : plural;
    resources.set(id, {
      id,
      group,
      versions: [version],
      plural,
      singular: kind.toLowerCase(),
      kind,
      shortNames: shortNames ? shortNames.split(',') : [],
      namespaced: flags.includes('n'),
      status: flags.includes('s'),
      scale: flags.includes('r'),
      generation: flags.includes('g'),
    });
  }
  return {
    all: () => [...resources.values()],
    find(group, version, plural) {
      const resource = resources.get(group ? `${plural}.${group}` : plural);
      return resource?.versions.includes(version) ? resource : undefined;
    },
    byId(id) {
      const resource = resources.get(id);
      if (!resource) throw new Error(`the sandbox serves no resource ${id}`);
      return resource;
    },
    register(definition) {
      const resource = resourceOf(definition);
      resources.set(resource.id, resource);
    },
    unregister(definition) {
      resources.delete(definition.metadata.name);
    },
  };
}

type DefinitionSpec = {
  group: string;
  scope: string;
  names: { plural: string; singular?: string; kind: string; shortNames?: string[] };
  versions: {
    name: string;
    served: boolean;
    storage: boolean;
    schema?: { openAPIV3Schema?: Schema };
    subresources?: Fields;
    additionalPrinterColumns?: PrinterColumn[];
  }[];
};

function resourceOf(definition: KubeObject): Resource {
  const spec = definition.spec as DefinitionSpec;
  const served = spec.versions.filter((version) => version.served);
  return {
    id: `${spec.names.plural}.${spec.group}`,
    group: spec.group,
    versions: served.map((version) => version.name).sort(byAge),
    plural: spec.names.plural,
    singular: spec.names.singular || spec.names.kind.toLowerCase(),
    kind: spec.names.kind,
    shortNames: spec.names.shortNames ?? [],
    namespaced: spec.scope === 'Namespaced',
    status: served.some((version) => isFields(version.subresources?.status)),
    scale: false,
    generation: true,
    custom: {
      schemas: Object.fromEntries(served.map(({ name, schema }) => [name, schema?.openAPIV3Schema ?? {}])),
      columns: Object.fromEntries(served.map((version) => [version.name, version.additionalPrinterColumns ?? []])),
    },
  };
}

/** Kubernetes' preference between versions: stable before beta before alpha, then the higher number. */
function byAge(a: string, b: string): number {
  const rank = (version: string) => {
    const [, major = '0', stage, minor = '0'] = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(version) ?? [];
    return (stage === 'alpha' ? 0 : stage === 'beta' ? 1 : 2) * 1e6 + Number(major) * 1e3 + Number(minor);
  };
  return rank(b) - rank(a);
}
