import assert from 'node:assert/strict';
import { test } from 'node:test';
import { apply, apps, core, merge, service, splits, testCluster, workload } from './client.ts';

const split = (name: string, weights: [number, number]) => ({
  metadata: { name },
  spec: {
    service: name,
    backends: [
      { service: name, weight: weights[0] },
      { service: `${name}-canary`, weight: weights[1] },
    ],
  },
});

test('an object is created, read, replaced, listed and deleted', async (t) => {
  const { call } = await testCluster(t);
  const created = await call('POST', `${core}/configmaps`, { metadata: { name: 'a' }, data: { k: '1' } });
  assert.equal(created.code, 201);
  const { uid, resourceVersion, creationTimestamp } = created.body.metadata;
  assert.match(uid, /^[0-9a-f-]{36}$/);
  assert.match(creationTimestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);

  const replaced = await call('PUT', `${core}/configmaps/a`, { ...created.body, data: { k: '2' } });
  assert.equal(replaced.code, 200);
  assert.equal(replaced.body.metadata.uid, uid);
  assert.ok(Number(replaced.body.metadata.resourceVersion) > Number(resourceVersion));

  const list = await call('GET', `${core}/configmaps`);
  assert.deepEqual(list.body.kind, 'ConfigMapList');
  assert.deepEqual(list.body.items[0]!.data, { k: '2' });

  const deleted = await call('DELETE', `${core}/configmaps/a`);
  assert.deepEqual([deleted.code, deleted.body.status, deleted.body.details.uid], [200, 'Success', uid]);
  const gone = await call('GET', `${core}/configmaps/a`);
  assert.deepEqual([gone.code, gone.body.reason, gone.body.message], [404, 'NotFound', 'configmaps "a" not found']);
});

test('a name can be taken once, generated, and only in a namespace that is there', async (t) => {
  const { call } = await testCluster(t);
  const path = `${core}/configmaps`;
  await call('POST', path, { metadata: { name: 'a' } });
  const twice = await call('POST', path, { metadata: { name: 'a' } });
  assert.deepEqual([twice.code, twice.body.reason], [409, 'AlreadyExists']);
  const generated = await call('POST', path, { metadata: { generateName: 'a-' } });
  assert.match(generated.body.metadata.name, /^a-[a-z0-9]{5}$/);
  const nowhere = await call('POST', '/api/v1/namespaces/nowhere/configmaps', { metadata: { name: 'a' } });
  assert.deepEqual([nowhere.code, nowhere.body.message], [404, 'namespaces "nowhere" not found']);
});

test('a stale resourceVersion is refused for every kind of write, and so is another uid', async (t) => {
  const { call } = await testCluster(t);
  const created = await call('POST', splits, split('web', [100, 0]));
  const { uid, resourceVersion } = created.body.metadata;
  const fresh = { metadata: { resourceVersion }, spec: split('web', [90, 10]).spec };
  const first = await call('PATCH', `${splits}/web`, fresh, merge);
  assert.deepEqual([first.code, first.body.spec.backends[1]!.weight, first.body.metadata.generation], [200, 10, 2]);

  const late = await call('PATCH', `${splits}/web`, fresh, merge);
  assert.deepEqual([late.code, late.body.reason], [409, 'Conflict']);
  assert.match(late.body.message, /^Operation cannot be fulfilled on trafficsplits.split.smi-spec.io "web"/);
  assert.equal((await call('PUT', `${splits}/web`, created.body)).code, 409);
  const unversioned = { ...created.body, metadata: { name: 'web' } };
  assert.equal((await call('PUT', `${splits}/web`, unversioned)).code, 422);
  const otherUid = { metadata: { uid: '00000000-0000-0000-0000-000000000000' } };
  assert.equal((await call('PATCH', `${splits}/web`, otherUid, merge)).code, 422);

  const stale = await call('DELETE', `${splits}/web`, { preconditions: { uid, resourceVersion } });
  assert.equal(stale.code, 409);
  assert.equal((await call('DELETE', `${splits}/web`, { preconditions: otherUid.metadata })).code, 409);
  const now = { uid, resourceVersion: first.body.metadata.resourceVersion };
  assert.equal((await call('DELETE', `${splits}/web`, { preconditions: now })).code, 200);
});

test('a write that changes nothing leaves the resourceVersion alone', async (t) => {
  const { call } = await testCluster(t);
  const created = await call('POST', splits, split('web', [100, 0]));
  const again = await call('PATCH', `${splits}/web`, { spec: split('web', [100, 0]).spec }, merge);
  assert.equal(again.body.metadata.resourceVersion, created.body.metadata.resourceVersion);
});

test('a stale apply is a conflict even by force', async (t) => {
  const { call } = await testCluster(t);
  const created = await call('POST', `${core}/services`, service('web', { app: 'web' }));
  await call('PATCH', `${core}/services/web`, { metadata: { labels: { a: '1' } } }, merge);
  const { resourceVersion } = created.body.metadata;
  const body = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', resourceVersion },
    spec: { selector: { app: 'api' } },
  };
  const late = await call('PATCH', `${core}/services/web?fieldManager=git&force=true`, body, apply);
  assert.equal(late.code, 409);
});

test('a forced apply takes a pinned selector away, an unforced one is a conflict that names the pin', async (t) => {
  const { call } = await testCluster(t);
  const body = { apiVersion: 'v1', kind: 'Service', ...service('web', { app: 'web' }) };
  const path = `${core}/services/web?fieldManager=git`;
  assert.equal((await call('PATCH', path, body, apply)).code, 201);
  const pin = { metadata: { labels: { ours: 'x' } }, spec: { selector: { hash: 'x' } } };
  await call('PATCH', `${core}/services/web?fieldManager=cdaas`, pin, merge);

  const refused = await call('PATCH', path, body, apply);
  assert.equal(refused.code, 409);
  assert.deepEqual(refused.body.details.causes, [
    { reason: 'FieldManagerConflict', message: 'conflict with "cdaas" using v1', field: '.spec.selector' },
  ]);
  const forced = await call('PATCH', `${path}&force=true`, body, apply);
  assert.deepEqual(forced.body.spec.selector, { app: 'web' });
  assert.deepEqual(forced.body.metadata.labels, { ours: 'x' });
});

test('both versions of a TrafficSplit serve the same object', async (t) => {
  const { call } = await testCluster(t);
  await call('POST', splits, split('web', [70, 30]));
  const old = await call('GET', `${splits.replace('v1alpha2', 'v1alpha1')}/web`);
  assert.equal(old.body.apiVersion, 'split.smi-spec.io/v1alpha1');
  assert.equal(old.body.spec.backends[0]!.weight, 70);
});

test('what is not valid is refused with its causes', async (t) => {
  const { call } = await testCluster(t);
  const mismatched = workload('web', 1, { app: 'web' });
  mismatched.spec.template.metadata.labels = { app: 'other' };
  const cases: [path: string, body: unknown, code: number, field?: string][] = [
    [`${core}/configmaps`, { metadata: {} }, 422, 'metadata.name'],
    [`${core}/configmaps`, { metadata: { name: 'Not_Valid' } }, 422, 'metadata.name'],
    [`${core}/services`, { metadata: { name: '1web' }, spec: { ports: [{ port: 80 }] } }, 422, 'metadata.name'],
    [`${core}/services`, { metadata: { name: 'web' }, spec: {} }, 422, 'spec.ports'],
    [`${core}/services`, { metadata: { name: 'web' }, spec: { ports: [{ port: 0 }] } }, 422, 'spec.ports[0].port'],
    [`${apps}/replicasets`, mismatched, 422, 'spec.template.metadata.labels'],
    [`${apps}/replicasets`, { metadata: { name: 'web' }, spec: { replicas: 'three' } }, 400],
    [`${apps}/deployments`, { metadata: { name: 'web' }, spec: { selector: [] } }, 400],
    [splits, { metadata: { name: 'web' }, spec: { service: 'web' } }, 422, 'spec.backends'],
    [splits, { kind: 'Service', metadata: { name: 'web' } }, 400],
    [splits, [], 400],
  ];
  for (const [path, body, code, field] of cases) {
    const answer = await call('POST', path, body);
    assert.equal(answer.code, code, JSON.stringify(answer.body));
    assert.equal(answer.body.kind, 'Status');
    if (field)
      assert.ok(
        answer.body.details.causes.some((cause: { field: string }) => cause.field === field),
        field,
      );
  }
  await call('POST', `${apps}/replicasets`, workload('web', 0, { app: 'web' }));
  const moved = { spec: { selector: { matchLabels: { app: 'other' } } } };
  const immutable = await call('PATCH', `${apps}/replicasets/web`, moved, merge);
  assert.equal(immutable.code, 422);
});

test('a Service gets an address and the defaults of its ports, and keeps the address', async (t) => {
  const { call } = await testCluster(t);
  const path = `${core}/services`;
  const created = await call('POST', path, { metadata: { name: 'web' }, spec: { ports: [{ port: 80 }] } });
  const { spec } = created.body;
  assert.match(spec.clusterIP, /^10\.96\.\d+\.\d+$/);
  assert.deepEqual([spec.type, spec.ports], ['ClusterIP', [{ protocol: 'TCP', port: 80, targetPort: 80 }]]);
  const put = await call('PUT', `${path}/web`, { metadata: { name: 'web' }, spec: { ports: [{ port: 81 }] } });
  assert.equal(put.body.spec.clusterIP, spec.clusterIP);
  const headless = { metadata: { name: 'h' }, spec: { clusterIP: 'None', selector: { app: 'web' } } };
  assert.equal((await call('POST', path, headless)).body.spec.clusterIP, 'None');
});

test('a status is changed on its own endpoint only, without a new generation', async (t) => {
  const { call } = await testCluster(t);
  const created = await call('POST', `${apps}/statefulsets`, workload('web', 1, { app: 'web' }));
  const path = `${apps}/statefulsets/web`;
  const ignored = await call('PATCH', path, { status: { replicas: 7 } }, merge);
  assert.equal(ignored.body.status, undefined);
  const set = await call('PATCH', `${path}/status`, { status: { replicas: 7 }, spec: { replicas: 9 } }, merge);
  assert.deepEqual([set.body.status.replicas, set.body.spec.replicas], [7, 1]);
  assert.equal(set.body.metadata.generation, created.body.metadata.generation);
});

test('the scale of a ReplicaSet is read and patched apart', async (t) => {
  const { call } = await testCluster(t);
  await call('POST', `${apps}/replicasets`, workload('web', 0, { app: 'web' }));
  const path = `${apps}/replicasets/web/scale`;
  const scaled = await call('PATCH', path, { spec: { replicas: 2 } }, merge);
  assert.deepEqual([scaled.body.kind, scaled.body.spec.replicas], ['Scale', 2]);
  assert.equal((await call('GET', path)).body.status.selector, 'app=web');
});

test('a list is selected by labels and fields and comes in pages', async (t) => {
  const { call } = await testCluster(t);
  for (const name of ['a', 'b', 'c', 'd', 'e']) {
    await call('POST', `${core}/configmaps`, { metadata: { name, labels: { odd: String('ace'.includes(name)) } } });
  }
  const names = async (query: string) => {
    const { body } = await call('GET', `${core}/configmaps?${query}`);
    return { names: body.items.map((item) => item.metadata.name), ...body.metadata };
  };
  assert.deepEqual((await names('labelSelector=odd%3Dtrue')).names, ['a', 'c', 'e']);
  assert.deepEqual((await names('fieldSelector=metadata.name%3Db')).names, ['b']);
  const first = await names('limit=2');
  assert.deepEqual([first.names, first.remainingItemCount], [['a', 'b'], 3]);
  const second = await names(`limit=2&continue=${first.continue}`);
  const third = await names(`limit=2&continue=${second.continue}`);
  assert.deepEqual([second.names, third.names, third.continue], [['c', 'd'], ['e'], undefined]);
});

test('a custom resource is served once its definition is stored, and no longer when that is deleted', async (t) => {
  const { call } = await testCluster(t);
  const definitions = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
  const schema = {
    type: 'object',
    properties: { spec: { type: 'object', properties: { size: { type: 'integer' } } } },
  };
  const definition = {
    metadata: { name: 'widgets.example.com' },
    spec: {
      group: 'example.com',
      scope: 'Namespaced',
      names: { plural: 'widgets', kind: 'Widget' },
      versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: schema } }],
    },
  };
  const path = '/apis/example.com/v1/namespaces/default/widgets';
  const widget = { metadata: { name: 'w' }, spec: { size: 3, colour: 'red' } };
  assert.equal((await call('POST', path, widget)).code, 404);
  const created = await call('POST', definitions, definition);
  const conditions: { type: string; status: string }[] = created.body.status.conditions;
  assert.ok(conditions.some(({ type, status }) => type === 'Established' && status === 'True'));
  assert.deepEqual((await call('POST', path, widget)).body.spec, { size: 3 });
  assert.equal((await call('POST', path, { metadata: { name: 'x' }, spec: { size: 'big' } })).code, 422);
  await call('DELETE', `${definitions}/widgets.example.com`);
  assert.equal((await call('GET', path)).code, 404);
});

test('nothing but health and version is answered without the token, and nothing at all to a wrong one', async (t) => {
  const { call } = await testCluster(t);
  const wrong = { authorization: 'Bearer wrong' };
  assert.equal((await call('GET', `${core}/services`, undefined, wrong)).code, 401);
  assert.equal((await call('GET', '/version', undefined, wrong)).code, 401);
  assert.equal((await call('GET', '/version')).body.major, '1');
});

test('an access review allows everything', async (t) => {
  const { call } = await testCluster(t);
  const spec = { resourceAttributes: { verb: 'create', resource: 'pods' } };
  const answer = await call('POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', { spec });
  assert.deepEqual([answer.code, answer.body.status.allowed], [201, true]);
});

test('a dry run answers as the write would and stores nothing', async (t) => {
  const { call } = await testCluster(t);
  assert.equal((await call('POST', `${core}/configmaps?dryRun=All`, { metadata: { name: 'a' } })).code, 201);
  assert.equal((await call('GET', `${core}/configmaps/a`)).code, 404);
});

test('an interceptor can cut the connection before a write or after it, or refuse it', async (t) => {
  const { call, sandbox } = await testCluster(t);
  const seen: string[] = [];
  const path = `${core}/configmaps`;
  sandbox.intercept = async ({ verb }, phase) => {
    seen.push(`${verb} ${phase}`);
    return phase === 'before' ? 'drop' : 'continue';
  };
  await assert.rejects(call('POST', path, { metadata: { name: 'before' } }));
  sandbox.intercept = async (_, phase) => (phase === 'after' ? 'drop' : 'continue');
  await assert.rejects(call('POST', path, { metadata: { name: 'after' } }));
  sandbox.intercept = async () => ({ code: 403, reason: 'Forbidden', message: 'no' });
  assert.equal((await call('POST', path, { metadata: { name: 'refused' } })).code, 403);
  sandbox.intercept = null;
  assert.deepEqual(seen, ['create before']);
  const { body } = await call('GET', path);
  assert.deepEqual(
    body.items.map((item) => item.metadata.name),
    ['after'],
  );
});
