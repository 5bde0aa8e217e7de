import assert from 'node:assert/strict';
import { until } from '../../support/until.ts';
import { type Cases, eventually, merge } from '../place.ts';
import { backends, split } from './writes.ts';

/** Which kinds a cluster serves, and custom resources: TrafficSplit in its versions. */
export const discoveryCases: Cases = {
  'the version says which Kubernetes it is': async (at) => {
    const { code, body } = await at.call('GET', '/version');
    assert.equal(code, 200);
    assert.match(body.gitVersion, /^v1\.35\.4/);
  },

  'a group lists its served versions and the preferred one': async (at) => {
    const body = await at.done('GET', '/apis/split.smi-spec.io');
    assert.deepEqual([body.kind, body.apiVersion], ['APIGroup', 'v1']);
    const versions = body.versions.map(({ version }) => version);
    assert.deepEqual(versions.slice(-2), ['v1alpha2', 'v1alpha1'], 'the newest first');
    assert.equal(body.preferredVersion.version, versions[0]);
    const { groups } = await at.done('GET', '/apis');
    assert.ok(groups.some(({ name }) => name === 'split.smi-spec.io'));
  },

  'a version lists its kinds, whether they are namespaced, and subresources with a slash': async (at) => {
    const core = await at.done('GET', '/api/v1');
    assert.equal(core.kind, 'APIResourceList');
    const find = (name: string, list = core) => list.resources.find((resource) => resource.name === name);
    assert.deepEqual([find('services')?.kind, find('services')?.namespaced], ['Service', true]);
    assert.deepEqual([find('namespaces')?.kind, find('namespaces')?.namespaced], ['Namespace', false]);
    for (const verb of ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch']) {
      assert.ok(find('services')?.verbs.includes(verb), verb);
    }
    const apps = await at.done('GET', '/apis/apps/v1');
    assert.ok(find('replicasets', apps) && find('replicasets/status', apps) && find('replicasets/scale', apps));
    const splits = await at.done('GET', '/apis/split.smi-spec.io/v1alpha2');
    assert.deepEqual(
      [find('trafficsplits', splits)?.kind, find('trafficsplits', splits)?.namespaced],
      ['TrafficSplit', true],
    );
  },

  'aggregated discovery shows every group, version and resource in one answer': async (at) => {
    const accept = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';
    const { code, body, type } = await at.call('GET', '/apis', undefined, { accept });
    assert.equal(code, 200);
    assert.equal(type, accept);
    assert.deepEqual([body.kind, body.apiVersion], ['APIGroupDiscoveryList', 'apidiscovery.k8s.io/v2']);
    const groups = body.items as unknown as DiscoveredGroup[];
    const apps = groups.find(({ metadata }) => metadata.name === 'apps');
    assert.equal(apps?.versions[0]?.version, 'v1');
    assert.equal(apps?.versions[0]?.freshness, 'Current');
    const sets = apps?.versions[0]?.resources.find(({ resource }) => resource === 'replicasets');
    assert.equal(sets?.responseKind.kind, 'ReplicaSet');
    assert.deepEqual([sets?.scope, sets?.singularResource, sets?.shortNames], ['Namespaced', 'replicaset', ['rs']]);
    assert.deepEqual(sets?.subresources?.map(({ subresource }) => subresource).sort(), ['scale', 'status']);
    const splits = groups.find(({ metadata }) => metadata.name === 'split.smi-spec.io');
    assert.deepEqual(splits?.versions.map(({ version }) => version).slice(-2), ['v1alpha2', 'v1alpha1']);
    const core = await at.call('GET', '/api', undefined, { accept });
    const [only] = core.body.items as unknown as DiscoveredGroup[];
    assert.ok(
      only?.versions[0]?.resources.some(({ resource, scope }) => resource === 'namespaces' && scope === 'Cluster'),
    );
  },

  'the schema of a custom resource can be read, by its group, version and kind': async (at) => {
    const { paths } = (await at.done('GET', '/openapi/v3')) as unknown as OpenApiIndex;
    assert.ok(paths['apis/split.smi-spec.io/v1alpha2']);
    const document = await at.done('GET', '/openapi/v3/apis/split.smi-spec.io/v1alpha2');
    const schemas = Object.values((document as unknown as OpenApi).components.schemas);
    const schema = schemas.find((one) =>
      one['x-kubernetes-group-version-kind']?.some(({ kind }) => kind === 'TrafficSplit'),
    );
    assert.equal(schema?.properties.spec?.properties.backends?.items.properties.weight?.type, 'number');
  },

  'a TrafficSplit written in one version reads the same in the other': async (at) => {
    const older = at.splits.replace('v1alpha2', 'v1alpha1');
    await split(at);
    const read = await at.done('GET', `${older}/web`);
    assert.equal(read.apiVersion, 'split.smi-spec.io/v1alpha1');
    assert.deepEqual(read.spec.backends, backends(100, 0));
    const written = await at.done('PATCH', `${older}/web`, { spec: { backends: backends(90, 10) } }, merge);
    const back = await at.done('GET', `${at.splits}/web`);
    assert.deepEqual([back.apiVersion, back.spec.backends], ['split.smi-spec.io/v1alpha2', backends(90, 10)]);
    assert.equal(back.metadata.resourceVersion, written.metadata.resourceVersion);
  },

  'weights are numbers in v1alpha2 and may be strings in v1alpha1, which v1alpha2 shows as they are': async (at) => {
    const older = at.splits.replace('v1alpha2', 'v1alpha1');
    await split(at);
    const refused = await at.mergePatch(`${at.splits}/web`, { spec: { backends: backends('90', '10') } });
    assert.deepEqual([refused.code, refused.body.reason], [422, 'Invalid']);
    assert.equal(refused.body.details.causes[0]?.field, 'spec.backends[0].weight');
    await at.done('PATCH', `${older}/web`, { spec: { backends: backends('90', '10') } }, merge);
    assert.deepEqual((await at.done('GET', `${at.splits}/web`)).spec.backends, backends('90', '10'));
  },

  'a new definition is served once it is Established, in the versions that are served': async (at) => {
    const group = `${at.namespace}.example.org`;
    const definition = definitionOf(group);
    await at.done('POST', definitions, definition);
    const path = `${definitions}/${definition.metadata.name}`;
    await eventually(at, 'it is established', path, ({ status }) =>
      status?.conditions?.some(({ type, status }) => type === 'Established' && status === 'True'),
    );
    const served = await eventually(at, 'its group is served', `/apis/${group}`, (body) => body.versions?.length === 2);
    assert.deepEqual(
      served.versions.map(({ version }) => version),
      ['v1alpha4', 'v1alpha3'],
      'v1alpha1 is not served',
    );
    const splits = `/apis/${group}/v1alpha4/namespaces/${at.namespace}/trafficsplits`;
    const body = { metadata: { name: 'web' }, spec: { service: 'web', backends: backends(100, 0) } };
    const created = await until(async () => {
      const answer = await at.call('POST', splits, { apiVersion: `${group}/v1alpha4`, kind: 'TrafficSplit', ...body });
      return answer.code === 201 ? answer : undefined;
    }, 'it takes objects');
    assert.equal(created.body.metadata.generation, 1);
    assert.equal((await at.call('GET', splits.replace('v1alpha4', 'v1alpha1'))).code, 404);
    await at.done('DELETE', path);
    await until(async () => (await at.call('GET', `/apis/${group}`)).code === 404, 'its group is gone');
    await until(async () => (await at.call('GET', path)).code === 404, 'its definition is gone');
  },

  'a version that a definition stops serving is gone from discovery': async (at) => {
    const group = `${at.namespace}.example.org`;
    const definition = definitionOf(group);
    await at.done('POST', definitions, definition);
    const path = `${definitions}/${definition.metadata.name}`;
    await eventually(at, 'its group is served', `/apis/${group}`, (body) => body.versions?.length === 2);
    const versions = definition.spec.versions.map((version) => ({ ...version, served: version.name === 'v1alpha3' }));
    await at.done('PATCH', path, { spec: { versions } }, merge);
    const { versions: left } = await eventually(
      at,
      'one version is left',
      `/apis/${group}`,
      (body) => body.versions?.length === 1,
    );
    assert.equal(left[0]?.version, 'v1alpha3');
    await at.done('DELETE', path);
    await until(async () => (await at.call('GET', path)).code === 404, 'its definition is gone');
  },

  'a definition whose name is not plural and group answers 422': async (at) => {
    const definition = { ...definitionOf('a.example.org'), metadata: { name: 'other.example.org' } };
    const { code, body } = await at.call('POST', definitions, definition);
    assert.deepEqual([code, body.reason], [422, 'Invalid']);
    assert.ok(body.details.causes.some(({ field }) => field === 'metadata.name'));
  },

  'a ServiceProfile keeps the fields of its routes': async (at) => {
    const path = `/apis/linkerd.io/v1alpha2/namespaces/${at.namespace}/serviceprofiles`;
    const spec = {
      routes: [{ name: 'GET /', condition: { method: 'GET', pathRegex: '/' } }],
      dstOverrides: [{ authority: 'web.a.svc.cluster.local', weight: '90' }],
    };
    const body = {
      apiVersion: 'linkerd.io/v1alpha2',
      kind: 'ServiceProfile',
      metadata: { name: `web.${at.namespace}.svc.cluster.local` },
      spec,
    };
    const stored = await at.done('POST', path, body);
    assert.deepEqual(stored.spec, spec);
  },
};

const definitions = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

type OpenApiIndex = { paths: Record<string, object> };
type OpenApi = {
  components: {
    schemas: Record<
      string,
      {
        'x-kubernetes-group-version-kind'?: { kind: string }[];
        properties: Record<
          string,
          { properties: Record<string, { items: { properties: Record<string, { type: string }> } }> }
        >;
      }
    >;
  };
};

type DiscoveredGroup = {
  metadata: { name: string };
  versions: {
    version: string;
    freshness: string;
    resources: {
      resource: string;
      responseKind: { kind: string };
      scope: string;
      singularResource: string;
      shortNames?: string[];
      subresources?: { subresource: string }[];
    }[];
  }[];
};

/** TrafficSplit under a group of the case's own, in three versions of which the newer two are served. */
function definitionOf(group: string) {
  const backend = { type: 'object', properties: { service: { type: 'string' }, weight: { type: 'integer' } } };
  const spec = {
    type: 'object',
    properties: { service: { type: 'string' }, backends: { type: 'array', items: backend } },
  };
  const schema = { openAPIV3Schema: { type: 'object', properties: { spec } } };
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `trafficsplits.${group}` },
    spec: {
      group,
      scope: 'Namespaced',
      names: { plural: 'trafficsplits', singular: 'trafficsplit', kind: 'TrafficSplit', listKind: 'TrafficSplitList' },
      versions: ['v1alpha1', 'v1alpha3', 'v1alpha4'].map((name) => {
        return { name, served: name !== 'v1alpha1', storage: name === 'v1alpha3', schema };
      }),
    },
  };
}
