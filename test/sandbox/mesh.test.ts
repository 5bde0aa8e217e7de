import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../support/until.ts';
import {
  apps,
  type Body,
  type Client,
  core,
  merge,
  profiles,
  readyEndpoints,
  service,
  splits,
  testCluster,
  workload,
} from './client.ts';

const root = 'web.default.svc.cluster.local';

/** Two versions behind a root Service that selects both, and a canary Service for the second. */
async function twoVersions(client: Client): Promise<void> {
  await client.call('POST', `${core}/services`, service('web', { app: 'web', version: 'v1' }));
  await client.call('POST', `${core}/services`, service('web-canary', { app: 'web', version: 'v2' }));
  for (const version of ['v1', 'v2']) {
    const labels = { app: 'web', version };
    await client.call('POST', `${apps}/replicasets`, workload(`web-${version}`, 2, labels, `example/web:${version}`));
  }
  for (const name of ['web', 'web-canary']) {
    await until(async () => (await readyEndpoints(client, name)).length === 2, `${name} has endpoints`);
  }
}

const backends = (old: number, fresh: number) => ({
  spec: {
    service: 'web',
    backends: [
      { service: 'web', weight: old },
      { service: 'web-canary', weight: fresh },
    ],
  },
});

function overridden(client: Client, weights: string[]): Promise<Body> {
  return until(async () => {
    const { body } = await client.call('GET', `${profiles}/${root}`);
    const overrides = body.spec?.dstOverrides ?? [];
    return overrides.map((one) => one.weight).join() === weights.join() && body;
  }, `the mesh has ${weights}`);
}

test('traffic follows the weights of a TrafficSplit once the adaptor has written them', async (t) => {
  const client = await testCluster(t);
  await twoVersions(client);
  const send = (meshed = true) => client.sandbox.send({ namespace: 'default', service: 'web', count: 2000, meshed });
  assert.deepEqual(send(), { answers: { v1: 2000 }, failed: 0 });

  await client.call('POST', splits, { metadata: { name: 'web' }, ...backends(100, 0) });
  const profile = await overridden(client, ['100', '0']);
  assert.deepEqual(profile.spec.dstOverrides, [
    { authority: root, weight: '100' },
    { authority: 'web-canary.default.svc.cluster.local', weight: '0' },
  ]);
  assert.equal(profile.metadata.ownerReferences, undefined);
  assert.deepEqual(send(), { answers: { v1: 2000 }, failed: 0 });

  await client.call('PATCH', `${splits}/web`, backends(75, 25), merge);
  await overridden(client, ['75', '25']);
  const { answers, failed } = send();
  assert.equal(failed, 0);
  assert.ok(Math.abs(answers.v2! - 500) < 120, `${answers.v2} of 2000 at weight 25`);
  assert.deepEqual(send(false), { answers: { v1: 2000 }, failed: 0 });

  await client.call('DELETE', `${splits}/web`);
  const emptied = await overridden(client, []);
  assert.equal(emptied.spec.dstOverrides, undefined);
});

test('a chosen backend without ready endpoints fails the request', async (t) => {
  const client = await testCluster(t);
  await twoVersions(client);
  await client.call('POST', splits, { metadata: { name: 'web' }, ...backends(0, 100) });
  await overridden(client, ['0', '100']);
  await client.call('PATCH', `${apps}/replicasets/web-v2`, { spec: { replicas: 0 } }, merge);
  await until(async () => (await readyEndpoints(client, 'web-canary')).length === 0, 'the canary has none');
  const answers = client.sandbox.send({ namespace: 'default', service: 'web', count: 10 });
  assert.deepEqual(answers, { answers: {}, failed: 10 });
});

test('an adaptor that is down misses deletions and takes the rest when it comes up', async (t) => {
  const client = await testCluster(t);
  await client.call('POST', splits, { metadata: { name: 'web' }, ...backends(100, 0) });
  await overridden(client, ['100', '0']);
  client.sandbox.adaptor.down = true;
  await client.call('DELETE', `${splits}/web`);
  const other = { service: 'api', backends: [{ service: 'api', weight: 1 }] };
  await client.call('POST', splits, { metadata: { name: 'api' }, spec: other });
  client.sandbox.adaptor.down = false;
  await until(async () => {
    return (await client.call('GET', `${profiles}/api.default.svc.cluster.local`)).code === 200;
  }, 'the other split is taken');
  await overridden(client, ['100', '0']);
});

test('the adaptor is down while its workload has no pod', async (t) => {
  const client = await testCluster(t);
  const deployment = '/apis/apps/v1/namespaces/linkerd-smi/deployments/smi-adaptor';
  const available = (count: number) =>
    until(async () => {
      return ((await client.call('GET', deployment)).body.status?.availableReplicas ?? 0) === count;
    }, `${count} adaptor pods`);
  await available(1);
  await client.call('PATCH', deployment, { spec: { replicas: 0 } }, merge);
  await available(0);
  await client.call('POST', splits, { metadata: { name: 'web' }, ...backends(100, 0) });
  assert.equal((await client.call('GET', `${profiles}/${root}`)).code, 404);
  await client.call('PATCH', deployment, { spec: { replicas: 1 } }, merge);
  await overridden(client, ['100', '0']);
});

test('a ServiceProfile that says so is left alone', async (t) => {
  const client = await testCluster(t);
  const metadata = { name: root, annotations: { 'smi.linkerd.io/skip': 'true' } };
  await client.call('POST', profiles, { metadata, spec: {} });
  await client.call('POST', splits, { metadata: { name: 'web' }, ...backends(100, 0) });
  const other = { service: 'api', backends: [{ service: 'api', weight: 1 }] };
  await client.call('POST', splits, { metadata: { name: 'later' }, spec: other });
  await until(async () => {
    return (await client.call('GET', `${profiles}/api.default.svc.cluster.local`)).code === 200;
  }, 'a later split is taken');
  await overridden(client, []);
});
