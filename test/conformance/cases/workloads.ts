import assert from 'node:assert/strict';
import { podTemplate, workload } from '../../sandbox/client.ts';
import { until } from '../../support/until.ts';
import { type Body, type Cases, eventually, merge, type Place } from '../place.ts';
import { names, readySet } from './deletion.ts';
import { replicaSet } from './writes.ts';

/** The ReplicaSet and Deployment controllers, as the engine uses and dodges them. */
export const workloadCases: Cases = {
  'a ReplicaSet that is scaled up makes pods of its template, which it owns': async (at) => {
    await at.done('POST', `${at.apps}/replicasets`, replicaSet(0, { 'cdaas/deployment': 'd1' }));
    const { metadata } = await at.done('PATCH', `${at.apps}/replicasets/web`, { spec: { replicas: 2 } }, merge);
    const set = await ready(at, 'replicasets', 2);
    assert.equal(set.status.observedGeneration, metadata.generation);
    assert.equal(set.status.replicas, 2);
    const { items } = await at.done('GET', `${at.core}/pods`);
    for (const pod of items) {
      assert.match(pod.metadata.name, /^web-[a-z0-9]{5}$/);
      assert.deepEqual(pod.metadata.labels, { app: 'web', 'armory-pod-template-hash': 'new' });
      assert.deepEqual(pod.metadata.ownerReferences, [
        {
          apiVersion: 'apps/v1',
          kind: 'ReplicaSet',
          name: 'web',
          uid: metadata.uid,
          controller: true,
          blockOwnerDeletion: true,
        },
      ]);
      assert.equal(pod.status.phase, 'Running');
      assert.equal(condition(pod, 'Ready'), 'True');
    }
  },

  'a ReplicaSet at 0 has a current observedGeneration and no pod that is not terminating': async (at) => {
    await readySet(at, 'replicasets', 2);
    const scaled = await at.done('PATCH', `${at.apps}/replicasets/web`, { spec: { replicas: 0 } }, merge);
    assert.equal(scaled.status.replicas, 2, 'the answer to the patch has the status of before');
    const { status, metadata } = await eventually(
      at,
      'it is at 0',
      `${at.apps}/replicasets/web`,
      (set) => set.status.observedGeneration === set.metadata.generation && set.status.replicas === 0,
    );
    assert.deepEqual([status.readyReplicas, metadata.generation], [undefined, 2]);
    const { items } = await at.done('GET', `${at.core}/pods`);
    assert.deepEqual(
      items.filter((pod) => !pod.metadata.deletionTimestamp),
      [],
    );
    await eventually(at, 'they are gone', `${at.core}/pods`, (pods) => pods.items.length === 0);
  },

  'a pod whose image cannot be pulled is not ready, and says why it waits': async (at) => {
    await at.done('POST', `${at.apps}/replicasets`, workload('web', 1, { app: 'web' }, 'example/web:bad-image'));
    const { items } = await eventually(at, 'the pod waits', `${at.core}/pods`, (pods) =>
      pods.items.some((pod) => pod.status.containerStatuses?.[0]?.state.waiting?.reason === 'ImagePullBackOff'),
    );
    assert.deepEqual([items[0]?.status.phase, condition(items[0], 'Ready')], ['Pending', 'False']);
    const set = await eventually(at, 'it counts', `${at.apps}/replicasets/web`, ({ status }) => status.replicas === 1);
    assert.equal(set.status.readyReplicas, undefined);
  },

  'a pod that fails its readiness probe runs, has an address and is not ready': async (at) => {
    await at.done('POST', `${at.apps}/replicasets`, workload('web', 1, { app: 'web' }, 'example/web:never-ready'));
    const { items } = await eventually(
      at,
      'the pod runs',
      `${at.core}/pods`,
      (pods) => pods.items[0]?.status.phase === 'Running',
    );
    assert.equal(condition(items[0], 'Ready'), 'False');
    assert.ok(items[0]?.status.podIP);
  },

  'two ReplicaSets of one application leave each other in peace by the hash in their selectors': async (at) => {
    const other = (hash: string) => workload(`web-${hash}`, 1, { app: 'web', 'armory-pod-template-hash': hash });
    for (const hash of ['old', 'new']) await at.done('POST', `${at.apps}/replicasets`, other(hash));
    for (const hash of ['old', 'new']) {
      await eventually(at, hash, `${at.apps}/replicasets/web-${hash}`, ({ status }) => status.readyReplicas === 1);
    }
    assert.equal((await names(at, 'pods')).length, 2);
  },

  'a pod that is deleted is replaced': async (at) => {
    await readySet(at, 'replicasets', 2);
    const [first] = await names(at, 'pods');
    await at.done('DELETE', `${at.core}/pods/${first}`);
    await eventually(
      at,
      'another is ready',
      `${at.core}/pods`,
      ({ items }) =>
        items.filter((pod) => pod.metadata.name !== first && condition(pod, 'Ready') === 'True').length === 2,
    );
  },

  'a Deployment names its ReplicaSet and labels its pods by the hash of its template': async (at) => {
    await readySet(at, 'deployments', 1);
    const { items } = await at.done('GET', `${at.apps}/replicasets`);
    const [set] = items;
    const hash = set?.metadata.labels?.['pod-template-hash'];
    assert.ok(hash);
    assert.equal(set?.metadata.name, `web-${hash}`);
    assert.deepEqual(set?.metadata.labels, { app: 'web', 'pod-template-hash': hash });
    assert.equal(set?.metadata.annotations?.['deployment.kubernetes.io/revision'], '1');
    const pods = await at.done('GET', `${at.core}/pods?labelSelector=pod-template-hash%3D${hash}`);
    assert.equal(pods.items.length, 1);
  },

  'an ownerless ReplicaSet whose labels match a Deployment is adopted and scaled to 0': async (at) => {
    await readySet(at, 'deployments', 1);
    const labels = { app: 'web', hash: 'x' };
    const stranger = workload('stranger', 1, labels, 'example/web:v2');
    await at.done('POST', `${at.apps}/replicasets`, { ...stranger, metadata: { name: 'stranger', labels } });
    const adopted = await eventually(
      at,
      'it is adopted',
      `${at.apps}/replicasets/stranger`,
      ({ metadata, spec }) => metadata.ownerReferences?.[0]?.kind === 'Deployment' && spec.replicas === 0,
    );
    assert.equal(adopted.metadata.ownerReferences?.[0]?.controller, true);
  },

  'an ownerless ReplicaSet without those labels is left alone, though its template has them': async (at) => {
    await readySet(at, 'deployments', 1);
    const stranger = workload('stranger', 1, { app: 'web', hash: 'x' }, 'example/web:v2');
    const metadata = { name: 'stranger', labels: { 'cdaas/deployment': 'd1' } };
    await at.done('POST', `${at.apps}/replicasets`, { ...stranger, metadata });
    await eventually(
      at,
      'its pod is ready',
      `${at.apps}/replicasets/stranger`,
      ({ status }) => status.readyReplicas === 1,
    );
    // A change of the Deployment, after which its controller has looked at every ReplicaSet again.
    const scaled = await at.done('PATCH', `${at.apps}/deployments/web`, { spec: { replicas: 2 } }, merge);
    const looked = await ready(at, 'deployments', 2);
    assert.equal(looked.status.observedGeneration, scaled.metadata.generation);
    const set = await at.done('GET', `${at.apps}/replicasets/stranger`);
    assert.deepEqual([set.spec.replicas, set.metadata.ownerReferences], [1, undefined]);
  },

  'a Deployment that is made paused adopts a ReplicaSet of its template; let go after that, no pod comes or goes':
    async (at) => {
      const labels = { app: 'web', 'armory-pod-template-hash': 'h1' };
      const set = workload('web-h1', 2, labels);
      await at.done('POST', `${at.apps}/replicasets`, set);
      await eventually(at, 'ready', `${at.apps}/replicasets/web-h1`, ({ status }) => status.readyReplicas === 2);
      const before = await names(at, 'pods');
      await at.done('PATCH', `${at.apps}/replicasets/web-h1`, { metadata: { labels: { app: 'web' } } }, merge);
      // Not paused it could make a ReplicaSet of its own before it has heard of the label.
      await makePaused(at, set.spec.template);
      await eventually(
        at,
        'it is adopted',
        `${at.apps}/replicasets/web-h1`,
        ({ metadata }) => metadata.ownerReferences?.[0]?.name === 'web',
      );
      await resume(at);
      const { items } = await at.done('GET', `${at.apps}/replicasets`);
      assert.deepEqual(
        items.map(({ metadata }) => metadata.name),
        ['web-h1'],
      );
      assert.deepEqual(await names(at, 'pods'), before);
    },

  'a Deployment that is made again adopts the ReplicaSet that was freed, with its pods': async (at) => {
    await readySet(at, 'deployments', 2);
    const before = await names(at, 'pods');
    const { items } = await free(at);
    const freed = `${at.apps}/replicasets/${items[0]?.metadata.name}`;
    await makePaused(at, workload('web', 2, { app: 'web' }).spec.template);
    await eventually(
      at,
      'it is adopted',
      freed,
      ({ metadata }) => metadata.ownerReferences?.[0]?.kind === 'Deployment',
    );
    await resume(at);
    const again = await at.done('GET', `${at.apps}/replicasets`);
    assert.deepEqual(
      again.items.map(({ metadata }) => metadata.uid),
      items.map(({ metadata }) => metadata.uid),
    );
    assert.deepEqual(await names(at, 'pods'), before);
  },

  'a freed ReplicaSet can lose the labels by which it would be adopted, and keeps its pods': async (at) => {
    await readySet(at, 'deployments', 1);
    const before = await names(at, 'pods');
    const { items } = await free(at);
    const path = `${at.apps}/replicasets/${items[0]?.metadata.name}`;
    await at.done('PATCH', path, { metadata: { labels: { app: null, 'pod-template-hash': null } } }, merge);
    await readySet(at, 'deployments', 1);
    const left = await at.done('GET', path);
    assert.deepEqual([left.spec.replicas, left.metadata.ownerReferences], [1, undefined]);
    const all = await names(at, 'pods');
    assert.ok(
      before.every((name) => all.includes(name)),
      'its pods are as they were',
    );
    assert.equal(all.length, 2, 'the new Deployment has a ReplicaSet of its own');
  },

  'a Deployment rolls to a changed template and keeps the old ReplicaSet at 0': async (at) => {
    await readySet(at, 'deployments', 2);
    const template = podTemplate({ app: 'web' }, 'example/web:v2');
    const patched = await at.done('PATCH', `${at.apps}/deployments/web`, { spec: { template } }, merge);
    await eventually(
      at,
      'it is rolled out',
      `${at.apps}/deployments/web`,
      ({ status }) =>
        status.observedGeneration === patched.metadata.generation &&
        status.updatedReplicas === 2 &&
        status.availableReplicas === 2 &&
        status.replicas === 2,
    );
    const { items } = await at.done('GET', `${at.apps}/replicasets`);
    assert.deepEqual(items.map(({ spec }) => spec.replicas).sort(), [0, 2]);
    const deployment = await at.done('GET', `${at.apps}/deployments/web`);
    assert.equal(deployment.metadata.annotations?.['deployment.kubernetes.io/revision'], '2');
  },
};

function ready(at: Place, plural: string, replicas: number): Promise<Body> {
  return eventually(
    at,
    'its pods are ready',
    `${at.apps}/${plural}/web`,
    ({ status }) => status?.readyReplicas === replicas,
  );
}

function makePaused(at: Place, template: object): Promise<Body> {
  const spec = { paused: true, replicas: 2, selector: { matchLabels: { app: 'web' } }, template };
  return at.done('POST', `${at.apps}/deployments`, { metadata: { name: 'web' }, spec });
}

/** Lets a paused Deployment go and waits until its controller has acted on that. */
async function resume(at: Place): Promise<void> {
  const { metadata } = await at.done('PATCH', `${at.apps}/deployments/web`, { spec: { paused: false } }, merge);
  await eventually(
    at,
    'it is rolled out',
    `${at.apps}/deployments/web`,
    ({ status }) =>
      status.observedGeneration === metadata.generation &&
      status.updatedReplicas === 2 &&
      status.availableReplicas === 2 &&
      status.replicas === 2,
  );
}

/** Deletes the Deployment and leaves its ReplicaSet; answers the ReplicaSets. */
async function free(at: Place): Promise<Body> {
  await at.done('DELETE', `${at.apps}/deployments/web`, { propagationPolicy: 'Orphan' });
  await until(async () => (await at.call('GET', `${at.apps}/deployments/web`)).code === 404, 'it is gone');
  const sets = await at.done('GET', `${at.apps}/replicasets`);
  assert.ok(sets.items.every(({ metadata }) => !metadata.ownerReferences?.length));
  return sets;
}

function condition(pod: Body | undefined, type: string): string | undefined {
  return pod?.status.conditions?.find((one) => one.type === type)?.status;
}
