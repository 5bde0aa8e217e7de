import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  apps,
  type Body,
  type Client,
  core,
  merge,
  podTemplate,
  readyEndpoints,
  service,
  slices,
  testCluster,
  until,
  workload,
} from './client.ts';

async function podsOf(client: Client, selector: string): Promise<Body[]> {
  const { body } = await client.call('GET', `${core}/pods?labelSelector=${encodeURIComponent(selector)}`);
  return body.items;
}

async function setOf(client: Client, name: string): Promise<Body> {
  return (await client.call('GET', `${apps}/replicasets/${name}`)).body;
}

/** Waits until a ReplicaSet's status says that it has this many ready pods and has seen its specification. */
function settled(client: Client, name: string, ready: number): Promise<Body> {
  return until(`${name} has ${ready} ready`, async () => {
    const set = await setOf(client, name);
    const { replicas = 0, readyReplicas = 0, observedGeneration } = set.status ?? {};
    return replicas === ready && readyReplicas === ready && observedGeneration === set.metadata.generation && set;
  });
}

test('a ReplicaSet makes its pods, replaces a deleted one and ends them when it is scaled down', async (t) => {
  const client = await testCluster(t);
  await client.call('POST', `${apps}/replicasets`, workload('web', 3, { app: 'web' }));
  await settled(client, 'web', 3);
  const first = (await podsOf(client, 'app=web'))[0]!;
  assert.deepEqual(first.metadata.ownerReferences?.[0]?.name, 'web');
  assert.match(first.status.podIP, /^10\.244\./);
  await client.call('DELETE', `${core}/pods/${first.metadata.name}`);
  await until('the deleted pod is gone and another is ready', async () => {
    const pods = await podsOf(client, 'app=web');
    return pods.length === 3 && !pods.some((pod) => pod.metadata.name === first.metadata.name);
  });
  await client.call('PATCH', `${apps}/replicasets/web`, { spec: { replicas: 0 } }, merge);
  await settled(client, 'web', 0);
  await until('no pod is left', async () => (await podsOf(client, 'app=web')).length === 0);
});

test('a ReplicaSet adopts a matching pod without an owner instead of making one', async (t) => {
  const client = await testCluster(t);
  const { metadata, spec } = podTemplate({ app: 'web' }) as Body;
  await client.call('POST', `${core}/pods`, { metadata: { ...metadata, name: 'stray' }, spec });
  await client.call('POST', `${apps}/replicasets`, workload('web', 2, { app: 'web' }));
  await settled(client, 'web', 2);
  const names = (await podsOf(client, 'app=web')).map((pod) => pod.metadata.name);
  assert.ok(names.includes('stray'));
  assert.equal(names.length, 2);
});

test('deleting a ReplicaSet takes its pods along, unless they are to be orphaned', async (t) => {
  const client = await testCluster(t);
  await client.call('POST', `${apps}/replicasets`, workload('web', 2, { app: 'web' }));
  await settled(client, 'web', 2);
  await client.call('DELETE', `${apps}/replicasets/web`, { propagationPolicy: 'Orphan' });
  const orphans = await podsOf(client, 'app=web');
  assert.deepEqual(
    orphans.map((pod) => pod.metadata.ownerReferences),
    [undefined, undefined],
  );
  await client.call('POST', `${apps}/replicasets`, workload('web', 2, { app: 'web' }));
  await settled(client, 'web', 2);
  assert.deepEqual(
    (await podsOf(client, 'app=web')).map((pod) => pod.metadata.uid).sort(),
    orphans.map((pod) => pod.metadata.uid).sort(),
  );
  await client.call('DELETE', `${apps}/replicasets/web`);
  await until('no pod is left', async () => (await podsOf(client, 'app=web')).length === 0);
});

test('a Deployment rolls from one template to the next and reports it', async (t) => {
  const client = await testCluster(t);
  await client.call('POST', `${apps}/deployments`, workload('web', 4, { app: 'web' }));
  const done = (updated: number) =>
    until('the roll-out is done', async () => {
      const { metadata, status } = (await client.call('GET', `${apps}/deployments/web`)).body;
      const current = status?.observedGeneration === metadata.generation && status.updatedReplicas === updated;
      return current && status.availableReplicas === updated && status.replicas === updated && status;
    });
  await done(4);
  const image = { spec: { template: { spec: { containers: [{ name: 'web', image: 'example/web:v2' }] } } } };
  await client.call('PATCH', `${apps}/deployments/web`, image, merge);
  const status = await done(4);
  const available = status.conditions.find((condition) => condition.type === 'Available');
  assert.equal(available?.status, 'True');
  const sets = (await client.call('GET', `${apps}/replicasets`)).body.items;
  assert.deepEqual(sets.map((set) => set.spec.replicas).sort(), [0, 4]);
});

test('a Deployment adopts a matching ownerless ReplicaSet and scales it to 0, but leaves one without its labels', async (t) => {
  const client = await testCluster(t);
  const labelled = workload('old', 2, { app: 'web', hash: 'old' });
  labelled.metadata.labels = { app: 'web' };
  await client.call('POST', `${apps}/replicasets`, labelled);
  await client.call('POST', `${apps}/replicasets`, workload('ours', 2, { app: 'web', hash: 'ours' }));
  await settled(client, 'old', 2);
  await settled(client, 'ours', 2);
  await client.call('POST', `${apps}/deployments`, workload('web', 1, { app: 'web' }, 'example/web:v2'));
  const adopted = await settled(client, 'old', 0);
  assert.equal(adopted.metadata.ownerReferences?.[0]?.kind, 'Deployment');
  const ours = await setOf(client, 'ours');
  assert.deepEqual([ours.spec.replicas, ours.metadata.ownerReferences], [2, undefined]);
});

test('a Deployment with the template of a ReplicaSet adopts it without making or ending a pod', async (t) => {
  const client = await testCluster(t);
  const set = workload('web-x', 2, { app: 'web', hash: 'x' });
  set.metadata.labels = { app: 'web' };
  await client.call('POST', `${apps}/replicasets`, set);
  const { spec } = await settled(client, 'web-x', 2);
  const before = await podsOf(client, 'app=web');
  const deployment = {
    metadata: { name: 'web' },
    spec: { replicas: 2, selector: { matchLabels: { app: 'web' } }, template: spec.template },
  };
  await client.call('POST', `${apps}/deployments`, deployment);
  await until('the Deployment counts the pods as its own', async () => {
    const { status } = (await client.call('GET', `${apps}/deployments/web`)).body;
    return status?.updatedReplicas === 2 && status.availableReplicas === 2;
  });
  assert.deepEqual(
    (await podsOf(client, 'app=web')).map((pod) => pod.metadata.uid),
    before.map((pod) => pod.metadata.uid),
  );
});

test('EndpointSlices follow the pods, carry the labels of the Service and show which pods are ending', async (t) => {
  const client = await testCluster(t);
  await client.call('POST', `${core}/services`, service('web', { app: 'web' }, { labels: { team: 'a' } }));
  const slice = () =>
    until('the slice is there', async () => (await client.call('GET', slices)).body.items[0] as Body | undefined);
  const empty = await slice();
  assert.deepEqual([empty.endpoints, empty.ports], [null, null]);
  assert.deepEqual([empty.metadata.labels?.team, empty.metadata.labels?.['kubernetes.io/service-name']], ['a', 'web']);

  await client.call('POST', `${apps}/replicasets`, workload('web', 2, { app: 'web' }));
  await until('two endpoints are ready', async () => (await readyEndpoints(client, 'web')).length === 2);
  assert.deepEqual((await slice()).ports, [{ name: 'http', port: 8080, protocol: 'TCP' }]);

  client.sandbox.faults.graceMs = 60_000;
  await client.call('PATCH', `${core}/services/web`, { metadata: { labels: { later: 'b' } } }, merge);
  await client.call('PATCH', `${apps}/replicasets/web`, { spec: { replicas: 1 } }, merge);
  const ending = await until('one endpoint is terminating', async () =>
    (await slice()).endpoints.find((endpoint) => endpoint.conditions?.terminating),
  );
  assert.deepEqual(ending.conditions, { ready: false, serving: true, terminating: true });
  assert.equal((await slice()).metadata.labels?.later, 'b');
  assert.equal((await readyEndpoints(client, 'web')).length, 1);
});

test('the endpoints of a Service lag where it asks for that', async (t) => {
  const client = await testCluster(t);
  client.sandbox.faults.endpointLagMs = 60_000;
  const annotations = { 'sandbox.cdaas/endpoint-lag': '1ms' };
  await client.call('POST', `${core}/services`, service('late', { app: 'web' }));
  await client.call('POST', `${core}/services`, service('soon', { app: 'web' }, { annotations }));
  await client.call('POST', `${apps}/replicasets`, workload('web', 1, { app: 'web' }));
  await until('the soon one has its endpoint', async () => (await readyEndpoints(client, 'soon')).length === 1);
  assert.deepEqual(await readyEndpoints(client, 'late'), []);
});

test('pods never get ready, cannot be pulled or crash by their image tag', async (t) => {
  const client = await testCluster(t);
  const state = async (app: string) => (await podsOf(client, `app=${app}`))[0]?.status;
  for (const [app, tag] of [
    ['stuck', 'v1-never-ready'],
    ['missing', 'bad-image'],
  ] as const) {
    await client.call('POST', `${apps}/replicasets`, workload(app, 1, { app }, `example/web:${tag}`));
  }
  const annotations = { 'sandbox.cdaas/crash-after': '20ms' };
  await client.call('POST', `${apps}/replicasets`, workload('crashing', 1, { app: 'crashing' }, 'web:v1', annotations));
  const waitsFor = (app: string, reason: string) =>
    until(`${app} waits for ${reason}`, async () => {
      const status = await state(app);
      return status?.containerStatuses?.[0]?.state.waiting?.reason === reason && status;
    });
  await waitsFor('missing', 'ImagePullBackOff');
  await until('stuck runs', async () => (await state('stuck'))?.phase === 'Running');
  const crashed = await waitsFor('crashing', 'CrashLoopBackOff');
  assert.equal(crashed.containerStatuses[0]!.restartCount, 1);
  assert.ok(crashed.podIP, 'it was up before');
  for (const app of ['stuck', 'missing', 'crashing']) {
    const ready = (await state(app))?.conditions.find((condition) => condition.type === 'Ready');
    assert.equal(ready?.status, 'False', app);
  }
});

test('deleting a namespace empties it, and nothing new comes in meanwhile', async (t) => {
  const client = await testCluster(t);
  client.sandbox.faults.graceMs = 200;
  await client.call('POST', '/api/v1/namespaces', { metadata: { name: 'shop' } });
  const shop = '/api/v1/namespaces/shop';
  const sets = '/apis/apps/v1/namespaces/shop/replicasets';
  await client.call('POST', sets, workload('web', 2, { app: 'web' }));
  await until('pods are there', async () => {
    const { body } = await client.call('GET', `${shop}/pods`);
    return body.items.length === 2 && body.items.every((pod) => pod.spec.nodeName);
  });
  const deleted = await client.call('DELETE', shop);
  assert.equal(deleted.body.status.phase, 'Terminating');
  const late = await client.call('POST', `${shop}/configmaps`, { metadata: { name: 'late' } });
  assert.equal(late.code, 403);
  await until('the namespace is gone', async () => (await client.call('GET', shop)).code === 404);
  assert.deepEqual((await client.call('GET', `${shop}/pods`)).body.items, []);
});
