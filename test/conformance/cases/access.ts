import assert from 'node:assert/strict';
import { until } from '../../support/until.ts';
import { apply, type Cases, type Place } from '../place.ts';

/** Who may do what: credentials, RBAC and the question that registration asks. */
export const accessCases: Cases = {
  'a token that is not known answers 401 everywhere': async (at) => {
    for (const path of [`${at.core}/services`, '/apis/nope.example.org/v1', '/version']) {
      const { code, body } = await at.call('GET', path, undefined, { authorization: 'Bearer wrong' });
      assert.deepEqual(
        [code, body.kind, body.reason, body.message],
        [401, 'Status', 'Unauthorized', 'Unauthorized'],
        path,
      );
    }
  },

  'a credential without a right answers 403 in the words that name user, verb, resource and namespace': async (at) => {
    const { headers, user } = await account(at, []);
    const list = await at.call('GET', `${at.core}/services`, undefined, headers);
    assert.deepEqual([list.code, list.body.kind, list.body.reason], [403, 'Status', 'Forbidden']);
    assert.equal(
      list.body.message,
      `services is forbidden: User "${user}" cannot list resource "services" in API group "" in the namespace "${at.namespace}"`,
    );
    assert.deepEqual(list.body.details, { kind: 'services' });
    const patch = { 'content-type': 'application/merge-patch+json', ...headers };
    const one = await at.call('PATCH', `${at.splits}/web`, { spec: {} }, patch);
    assert.equal(
      one.body.message,
      `trafficsplits.split.smi-spec.io "web" is forbidden: User "${user}" cannot patch resource "trafficsplits" in API group "split.smi-spec.io" in the namespace "${at.namespace}"`,
    );
    const all = await at.call('GET', '/api/v1/services?watch=true', undefined, headers);
    assert.equal(
      all.body.message,
      `services is forbidden: User "${user}" cannot watch resource "services" in API group "" at the cluster scope`,
    );
  },

  'a right in one namespace is none in another, and none for other verbs or subresources': async (at) => {
    const { headers } = await account(at, [
      { apiGroups: ['apps'], resources: ['replicasets'], verbs: ['get', 'list'] },
    ]);
    const list = () => at.call('GET', `${at.apps}/replicasets`, undefined, headers);
    await until(async () => (await list()).code === 200, 'the right is in force');
    assert.equal((await at.call('GET', '/apis/apps/v1/namespaces/default/replicasets', undefined, headers)).code, 403);
    assert.equal((await at.call('GET', '/apis/apps/v1/replicasets', undefined, headers)).code, 403);
    assert.equal((await at.call('DELETE', `${at.apps}/replicasets/web`, undefined, headers)).code, 403);
    assert.equal((await at.call('GET', `${at.apps}/replicasets/web/scale`, undefined, headers)).code, 403);
    assert.equal((await at.call('GET', `${at.apps}/replicasets/web`, undefined, headers)).code, 404);
  },

  'an apply that creates needs the right to create beside that to patch': async (at) => {
    const { headers } = await account(at, [{ apiGroups: [''], resources: ['configmaps'], verbs: ['get', 'patch'] }]);
    const path = `${at.core}/configmaps/web?fieldManager=cdaas`;
    const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'web' } };
    await until(async () => (await at.call('GET', path, undefined, headers)).code === 404, 'the right is in force');
    const refused = await at.call('PATCH', path, object, { ...apply, ...headers });
    assert.deepEqual([refused.code, refused.body.reason], [403, 'Forbidden']);
    assert.match(refused.body.message, /cannot create resource "configmaps"/);
    await at.done('POST', `${at.core}/configmaps`, object);
    assert.equal((await at.call('PATCH', path, object, { ...apply, ...headers })).code, 200);
  },

  'a namespace can be read by a right in it': async (at) => {
    const { headers } = await account(at, [{ apiGroups: [''], resources: ['namespaces'], verbs: ['get'] }]);
    const path = `/api/v1/namespaces/${at.namespace}`;
    await until(async () => (await at.call('GET', path, undefined, headers)).code === 200, 'the right is in force');
    const { code, body } = await at.call('GET', '/api/v1/namespaces/default', undefined, headers);
    assert.equal(code, 403);
    assert.match(body.message, /^namespaces "default" is forbidden: .* in the namespace "default"$/);
  },

  'a SelfSubjectAccessReview says of each right whether the credential has it': async (at) => {
    const { headers } = await account(at, [{ apiGroups: [''], resources: ['services'], verbs: ['get', 'patch'] }]);
    const ask = async (verb: string, resource: string, more: object = {}) => {
      const resourceAttributes = { verb, resource, namespace: at.namespace, ...more };
      const path = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';
      const { code, body } = await at.call('POST', path, { spec: { resourceAttributes } }, headers);
      assert.deepEqual([code, body.kind], [201, 'SelfSubjectAccessReview']);
      return body.status.allowed;
    };
    await until(() => ask('patch', 'services'), 'the right is in force');
    assert.equal(await ask('delete', 'services'), false);
    assert.equal(await ask('patch', 'services', { namespace: 'default' }), false);
    assert.equal(await ask('patch', 'services', { namespace: '' }), false);
    assert.equal(await ask('patch', 'services', { subresource: 'status' }), false);
    assert.equal(await ask('patch', 'trafficsplits', { group: 'split.smi-spec.io' }), false);
  },

  'a SelfSubjectRulesReview says all that the credential may do in a namespace': async (at) => {
    const { headers } = await account(at, [
      { apiGroups: [''], resources: ['services'], verbs: ['get', 'patch'] },
      { apiGroups: ['apps'], resources: ['deployments'], resourceNames: ['web'], verbs: ['get'] },
    ]);
    const path = '/apis/authorization.k8s.io/v1/selfsubjectrulesreviews';
    const rules = async (namespace: string, of: string) => {
      const { code, body } = await at.call('POST', path, { spec: { namespace } }, headers);
      const { incomplete, resourceRules } = body.status as Partial<Record<string, unknown>>;
      assert.deepEqual([code, body.kind, incomplete], [201, 'SelfSubjectRulesReview', false]);
      const listed = resourceRules as Record<string, string[]>[];
      return listed.filter(({ resources }) => resources?.includes(of));
    };
    await until(async () => (await rules(at.namespace, 'services')).length > 0, 'the right is in force');
    const services = { verbs: ['get', 'patch'], apiGroups: [''], resources: ['services'] };
    assert.deepEqual(await rules(at.namespace, 'services'), [services]);
    const named = { verbs: ['get'], apiGroups: ['apps'], resources: ['deployments'], resourceNames: ['web'] };
    assert.deepEqual(await rules(at.namespace, 'deployments'), [named]);
    assert.deepEqual(await rules('default', 'services'), []);
    assert.equal((await rules('default', 'selfsubjectrulesreviews')).length, 1, 'of every signed-in user');
    const nowhere = await at.call('POST', path, { spec: {} }, headers);
    assert.deepEqual([nowhere.code, nowhere.body.message], [400, 'no namespace on request']);
  },

  'a ClusterRole that is bound gives its rights in every namespace, and * is every verb, group or resource': async (
    at,
  ) => {
    const { headers, name } = await account(at, []);
    const role = `${at.namespace}-reader`;
    await at.done('POST', `${rbac}/clusterroles`, {
      metadata: { name: role },
      rules: [
        { apiGroups: ['*'], resources: ['services', 'replicasets'], verbs: ['*'] },
        { apiGroups: [''], resources: ['configmaps'], resourceNames: ['web'], verbs: ['get'] },
      ],
    });
    await at.done('POST', `${rbac}/clusterrolebindings`, {
      metadata: { name: role },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
      subjects: [{ kind: 'ServiceAccount', name, namespace: at.namespace }],
    });
    await until(
      async () => (await at.call('GET', '/api/v1/services', undefined, headers)).code === 200,
      'the right is in force',
    );
    assert.equal((await at.call('GET', '/apis/apps/v1/namespaces/default/replicasets', undefined, headers)).code, 200);
    assert.equal((await at.call('GET', `${at.core}/pods`, undefined, headers)).code, 403);
    assert.equal((await at.call('GET', `${at.core}/configmaps/web`, undefined, headers)).code, 404);
    assert.equal((await at.call('GET', `${at.core}/configmaps/other`, undefined, headers)).code, 403);
    await at.done('DELETE', `${rbac}/clusterrolebindings/${role}`);
    await until(
      async () => (await at.call('GET', '/api/v1/services', undefined, headers)).code === 403,
      'the right is lost',
    );
    await at.done('DELETE', `${rbac}/clusterroles/${role}`);
  },

  'every credential may ask for version, discovery and its own rights': async (at) => {
    const { headers } = await account(at, []);
    for (const path of ['/version', '/api', '/apis', '/api/v1', '/apis/split.smi-spec.io', '/apis/apps/v1']) {
      assert.equal((await at.call('GET', path, undefined, headers)).code, 200, path);
    }
  },
};

const rbac = '/apis/rbac.authorization.k8s.io/v1';

/** A ServiceAccount with a token of its own and a Role of these rules. */
async function account(
  at: Place,
  rules: object[],
): Promise<{ headers: Record<string, string>; user: string; name: string }> {
  const name = 'engine';
  await at.done('POST', `${at.core}/serviceaccounts`, { metadata: { name } });
  const { status } = await at.done('POST', `${at.core}/serviceaccounts/${name}/token`, {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    spec: { expirationSeconds: 3600 },
  });
  const space = `${rbac}/namespaces/${at.namespace}`;
  await at.done('POST', `${space}/roles`, { metadata: { name }, rules });
  await at.done('POST', `${space}/rolebindings`, {
    metadata: { name },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name },
    subjects: [{ kind: 'ServiceAccount', name, namespace: at.namespace }],
  });
  const token = Reflect.get(status, 'token') as string;
  return { headers: { authorization: `Bearer ${token}` }, user: `system:serviceaccount:${at.namespace}:${name}`, name };
}
