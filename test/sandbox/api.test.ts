import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../support/until.ts';
import { apps, core, merge, splits, testCluster, workload } from './client.ts';

test('a name can be generated', async (t) => {
  const { call } = await testCluster(t);
  const generated = await call('POST', `${core}/configmaps`, { metadata: { generateName: 'a-' } });
  assert.match(generated.body.metadata.name, /^a-[a-z0-9]{5}$/);
});

test('a TrafficSplit is put only with a resourceVersion', async (t) => {
  const { call } = await testCluster(t);
  const split = { metadata: { name: 'web' }, spec: { service: 'web', backends: [{ service: 'web', weight: 1 }] } };
  await call('POST', splits, split);
  assert.equal((await call('PUT', `${splits}/web`, split)).code, 422);
});

test('a list on request begins a watch, and its end is marked', async (t) => {
  const { call, watch } = await testCluster(t);
  await call('POST', `${core}/configmaps`, { metadata: { name: 'a' } });
  const query = 'watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true';
  const { events } = await watch(`${core}/configmaps?${query}`);
  await until(() => events.length === 2, 'both events');
  assert.equal(events[1]?.object.metadata.annotations?.['k8s.io/initial-events-end'], 'true');
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

test('the scale of a ReplicaSet is read and patched apart', async (t) => {
  const { call } = await testCluster(t);
  await call('POST', `${apps}/replicasets`, workload('web', 0, { app: 'web' }));
  const path = `${apps}/replicasets/web/scale`;
  const scaled = await call('PATCH', path, { spec: { replicas: 2 } }, merge);
  assert.deepEqual([scaled.body.kind, scaled.body.spec.replicas], ['Scale', 2]);
  assert.equal((await call('GET', path)).body.status.selector, 'app=web');
});

test('an access review allows everything', async (t) => {
  const { call } = await testCluster(t);
  const spec = { resourceAttributes: { verb: 'create', resource: 'pods' } };
  const answer = await call('POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', { spec });
  assert.deepEqual([answer.code, answer.body.status.allowed], [201, true]);
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
