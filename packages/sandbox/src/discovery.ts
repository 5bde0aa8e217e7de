import type { Registry, Resource } from './resources.ts';
import { groupVersion } from './resources.ts';

/** The Kubernetes version that the sandbox says it is; the API is modelled after it. */
const gitVersion = 'v1.35.4';

export const versionInfo = {
  major: '1',
  minor: '35',
  gitVersion: `${gitVersion}-sandbox`,
  gitCommit: '',
  gitTreeState: 'clean',
  buildDate: '1970-01-01T00:00:00Z',
  goVersion: '',
  compiler: 'node',
  platform: `${process.platform}/${process.arch}`,
};

export const coreVersions = { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] };

const reviewGroup = 'authorization.k8s.io';

type Group = { name: string; versions: string[] };

function groupsOf(registry: Registry): Group[] {
  const groups = new Map<string, Set<string>>([[reviewGroup, new Set(['v1'])]]);
  for (const { group, versions } of registry.all()) {
    if (!group) continue;
    const known = groups.get(group) ?? new Set();
    groups.set(group, known);
    for (const version of versions) known.add(version);
  }
  return [...groups].map(([name, versions]) => ({ name, versions: [...versions] }));
}

function groupDocument({ name, versions }: Group) {
  const all = versions.map((version) => ({ groupVersion: `${name}/${version}`, version }));
  return { name, versions: all, preferredVersion: all[0] };
}

export function groupList(registry: Registry) {
  return { kind: 'APIGroupList', apiVersion: 'v1', groups: groupsOf(registry).map(groupDocument) };
}

export function group(registry: Registry, name: string) {
  const found = groupsOf(registry).find((one) => one.name === name);
  return found && { kind: 'APIGroup', apiVersion: 'v1', ...groupDocument(found) };
}

const verbs = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];

/** `APIResourceList` of one group and version, or undefined where it is not served. */
export function resourceList(registry: Registry, name: string, version: string) {
  const served = registry.all().filter((one) => one.group === name && one.versions.includes(version));
  const resources = served.flatMap((resource) => [
    {
      name: resource.plural,
      singularName: resource.singular,
      namespaced: resource.namespaced,
      kind: resource.kind,
      verbs,
      ...(resource.shortNames.length > 0 ? { shortNames: resource.shortNames } : {}),
      ...(inAll.has(resource.id) ? { categories: ['all'] } : {}),
    },
    ...(resource.status ? [subresource(resource, 'status')] : []),
    ...(resource.scale
      ? [{ ...subresource(resource, 'scale'), group: 'autoscaling', version: 'v1', kind: 'Scale' }]
      : []),
  ]);
  if (name === reviewGroup) {
    for (const kind of ['SelfSubjectAccessReview', 'SelfSubjectRulesReview']) {
      const singularName = kind.toLowerCase();
      resources.push({ name: `${singularName}s`, singularName, namespaced: false, kind, verbs: ['create'] });
    }
  }
  if (resources.length === 0) return undefined;
  const prefix = name ? `${name}/` : '';
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: `${prefix}${version}`, resources };
}

export const aggregatedType = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';

export function wantsAggregated(accept: string | undefined): boolean {
  return (accept ?? '').split(',').some((type) => type.trim() === aggregatedType);
}

/** All groups with their resources, as kubectl asks for them in one go: of the core for `api`, of all others for `apis`. */
export function aggregated(registry: Registry, root: string) {
  const groups = root === 'api' ? [{ name: '', versions: ['v1'] }] : root === 'apis' ? groupsOf(registry) : undefined;
  return (
    groups && {
      kind: 'APIGroupDiscoveryList',
      apiVersion: 'apidiscovery.k8s.io/v2',
      metadata: {},
      items: groups.map(({ name, versions }) => ({
        metadata: { ...(name ? { name } : {}), creationTimestamp: null },
        versions: versions.map((version) => {
          return { version, freshness: 'Current', resources: discovered(resourceList(registry, name, version)) };
        }),
      })),
    }
  );
}

function discovered(list: ReturnType<typeof resourceList>) {
  const all = list?.resources ?? [];
  return all
    .filter(({ name }) => !name.includes('/'))
    .map(({ name, kind, namespaced, singularName, verbs, ...more }) => {
      const parts = all.filter((one) => one.name.startsWith(`${name}/`));
      const subresources = parts.map((one) => {
        return { subresource: one.name.slice(name.length + 1), responseKind: { kind: one.kind }, verbs: one.verbs };
      });
      return {
        resource: name,
        responseKind: { group: '', version: '', kind },
        scope: namespaced ? 'Namespaced' : 'Cluster',
        singularResource: singularName,
        verbs,
        ...more,
        ...(subresources.length > 0 ? { subresources } : {}),
      };
    });
}

/** What `kubectl get all` shows. */
const inAll = new Set([
  'pods',
  'services',
  'deployments.apps',
  'replicasets.apps',
  'statefulsets.apps',
  'horizontalpodautoscalers.autoscaling',
]);

function subresource(resource: Resource, name: string) {
  return {
    name: `${resource.plural}/${name}`,
    singularName: '',
    namespaced: resource.namespaced,
    kind: resource.kind,
    verbs: ['get', 'patch', 'update'],
  };
}

/** The index of /openapi/v3. */
export function openApiIndex(registry: Registry) {
  const paths: Record<string, { serverRelativeURL: string }> = {};
  for (const { group: name, versions } of registry.all()) {
    for (const version of versions) {
      const path = name ? `apis/${name}/${version}` : `api/${version}`;
      paths[path] = { serverRelativeURL: `/openapi/v3/${path}` };
    }
  }
  return { paths };
}

/**
 * The OpenAPI document of one group and version: enough for kubectl to see that `fieldValidation` is understood and
 * which kinds there are. The fields of custom resources are described by their definitions, those of other kinds are not.
 */
export function openApiDocument(registry: Registry, name: string, version: string) {
  const served = registry.all().filter((one) => one.group === name && one.versions.includes(version));
  if (served.length === 0) return undefined;
  const paths: Record<string, unknown> = {};
  const schemas: Record<string, unknown> = {};
  for (const resource of served) {
    const marks = [{ group: name, version, kind: resource.kind }];
    const root = name ? `/apis/${name}/${version}` : `/api/${version}`;
    const space = resource.namespaced ? '/namespaces/{namespace}' : '';
    paths[`${root}${space}/${resource.plural}/{name}`] = {
      patch: {
        parameters: ['dryRun', 'fieldManager', 'fieldValidation', 'force'].map((parameter) => {
          return { name: parameter, in: 'query', schema: { type: parameter === 'force' ? 'boolean' : 'string' } };
        }),
        responses: { 200: { description: 'OK' } },
        'x-kubernetes-action': 'patch',
        'x-kubernetes-group-version-kind': marks[0],
      },
    };
    schemas[`${groupVersion(resource, version)}/${resource.kind}`.replaceAll('/', '.')] = {
      type: 'object',
      ...resource.custom?.schemas[version],
      'x-kubernetes-group-version-kind': marks,
    };
  }
  const info = { title: 'Kubernetes', version: gitVersion };
  return { openapi: '3.0.0', info, paths, components: { schemas } };
}
