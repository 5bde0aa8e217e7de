import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../support/until.ts';
import {
  apps,
  type Body,
  type Client,
  core,
  podTemplate,
  readyEndpoints,
  service,
  testCluster,
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
  return until(async () => {
    const set = await setOf(client, name);
    const { replicas = 0, readyReplicas = 0, observedGeneration } = set.status ?? {};
    return replicas === ready && readyReplicas === ready && observedGeneration === set.metadata.generation && set;
  }, `${name} has ${ready} ready`);
}

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
  await until(async () => (await podsOf(client, 'app=web')).length === 0, 'no pod is left');
});

test('the endpoints of a Service lag where it asks for that', async (t) => {
  const client = await testCluster(t);
  client.sandbox.faults.endpointLagMs = 60_000;
  const annotations = { 'sandbox.cdaas/endpoint-lag': '1ms' };
  await client.call('POST', `${core}/services`, service('late', { app: 'web' }));
  await client.call('POST', `${core}/services`, service('soon', { app: 'web' }, { annotations }));
  await client.call('POST', `${apps}/replicasets`, workload('web', 1, { app: 'web' }));
  await until(async () => (await readyEndpoints(client, 'soon')).length === 1, 'the soon one has its endpoint');
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
    until(async () => {
      const status = await state(app);
      return status?.containerStatuses?.[0]?.state.waiting?.reason === reason && status;
    }, `${app} waits for ${reason}`);
  await waitsFor('missing', 'ImagePullBackOff');
  await until(async () => (await state('stuck'))?.phase === 'Running', 'stuck runs');
  const crashed = await waitsFor('crashing', 'CrashLoopBackOff');
  assert.equal(crashed.containerStatuses[0]!.restartCount, 1);
  assert.ok(crashed.podIP, 'it was up before');
  for (const app of ['stuck', 'missing', 'crashing']) {
    const ready = (await state(app))?.conditions.find((condition) => condition.type === 'Ready');
    assert.equal(ready?.status, 'False', app);
  }
});
