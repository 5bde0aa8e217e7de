import assert from 'node:assert/strict';
import { service, workload } from '../../sandbox/client.ts';
import { until } from '../../support/until.ts';
import { type Body, type Cases, eventually, merge, type Place } from '../place.ts';

/** Deleting, with the preconditions of uid and resourceVersion that every deletion of the engine carries. */
export const deletionCases: Cases = {
  'a deletion under the right uid and resourceVersion removes the object': async (at) => {
    const { metadata } = await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    const { uid, resourceVersion } = metadata;
    const { code } = await remove(at, `${at.core}/services/web`, { uid, resourceVersion });
    assert.equal(code, 200);
    assert.equal((await at.call('GET', `${at.core}/services/web`)).code, 404);
  },

  'a deletion under the uid of an earlier object answers 409 and leaves what stands': async (at) => {
    const earlier = await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    await at.done('DELETE', `${at.core}/services/web`);
    await at.done('POST', `${at.core}/services`, service('web', { app: 'b' }));
    const { code, body } = await remove(at, `${at.core}/services/web`, { uid: earlier.metadata.uid });
    assert.deepEqual([code, body.reason], [409, 'Conflict']);
    assert.match(
      body.message,
      /^Operation cannot be fulfilled on Service "web": the UID in the precondition \([0-9a-f-]+\) does not match the UID in record \([0-9a-f-]+\)/,
    );
    assert.deepEqual((await at.done('GET', `${at.core}/services/web`)).spec.selector, { app: 'b' });
  },

  'a deletion under a stale resourceVersion answers 409 and leaves the object': async (at) => {
    const { metadata } = await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    await at.done('PATCH', `${at.core}/services/web`, { metadata: { labels: { by: 'others' } } }, merge);
    const { uid, resourceVersion } = metadata;
    const { code, body } = await remove(at, `${at.core}/services/web`, { uid, resourceVersion });
    assert.deepEqual([code, body.reason], [409, 'Conflict']);
    assert.match(
      body.message,
      /: the ResourceVersion in the precondition \(\d+\) does not match the ResourceVersion in record \(\d+\)/,
    );
    assert.equal((await at.call('GET', `${at.core}/services/web`)).code, 200);
  },

  'a deletion of what is not there answers 404 NotFound': async (at) => {
    const preconditions = { uid: '00000000-0000-4000-8000-000000000000', resourceVersion: '1' };
    for (const path of [`${at.core}/services/web`, `${at.splits}/web`, `${at.apps}/replicasets/web`]) {
      const { code, body } = await remove(at, path, preconditions);
      assert.deepEqual([code, body.reason], [404, 'NotFound'], path);
    }
  },

  'an object with a finalizer stays, marked, until the finalizer is taken away': async (at) => {
    const path = `${at.core}/configmaps/web`;
    const finalizers = ['example.org/wait'];
    await at.done('POST', `${at.core}/configmaps`, { metadata: { name: 'web', finalizers } });
    const { code, body } = await remove(at, path, {});
    assert.equal(code, 200);
    assert.match(body.metadata.deletionTimestamp ?? '', /^\d{4}-/);
    const marked = await at.done('GET', path);
    assert.deepEqual(marked.metadata.finalizers, finalizers);
    assert.equal((await at.call('POST', `${at.core}/configmaps`, { metadata: { name: 'web' } })).code, 409);
    await at.done('PATCH', path, { metadata: { finalizers: null } }, merge);
    assert.equal((await at.call('GET', path)).code, 404);
  },

  'deleting a ReplicaSet in the background removes it at once and its pods after': async (at) => {
    const set = await readySet(at, 'replicasets', 2);
    const { uid } = set.metadata;
    const { code } = await remove(at, `${at.apps}/replicasets/web`, { uid }, 'Background');
    assert.equal(code, 200);
    assert.equal((await at.call('GET', `${at.apps}/replicasets/web`)).code, 404);
    await eventually(at, 'the pods are gone', `${at.core}/pods`, ({ items }) => items.length === 0);
  },

  'deleting without a propagation policy is done in the background': async (at) => {
    await readySet(at, 'replicasets', 1);
    const { code } = await at.call('DELETE', `${at.apps}/replicasets/web`);
    assert.equal(code, 200);
    assert.equal((await at.call('GET', `${at.apps}/replicasets/web`)).code, 404);
    await eventually(at, 'the pod is gone', `${at.core}/pods`, ({ items }) => items.length === 0);
  },

  'deleting a Deployment with Orphan frees its ReplicaSet, and no pod is touched': async (at) => {
    await readySet(at, 'deployments', 2);
    const pods = await names(at, 'pods');
    const { uid } = (await at.done('GET', `${at.apps}/deployments/web`)).metadata;
    const { code, body } = await remove(at, `${at.apps}/deployments/web`, { uid }, 'Orphan');
    assert.equal(code, 200);
    assert.deepEqual(body.metadata.finalizers, ['orphan'], 'it lingers until they are free');
    assert.ok(body.metadata.deletionTimestamp);
    await until(
      async () => (await at.call('GET', `${at.apps}/deployments/web`)).code === 404,
      'the Deployment is gone',
    );
    const { items } = await eventually(at, 'the ReplicaSet is free', `${at.apps}/replicasets`, (list) =>
      list.items.every(({ metadata }) => !metadata.ownerReferences?.length),
    );
    assert.deepEqual([items.length, items[0]?.spec.replicas], [1, 2]);
    assert.deepEqual(await names(at, 'pods'), pods);
  },

  'deleting in the foreground keeps the owner, marked, until its dependants are gone': async (at) => {
    await readySet(at, 'replicasets', 1);
    const { items } = await at.done('GET', `${at.core}/pods`);
    const pod = `${at.core}/pods/${items[0]?.metadata.name}`;
    await at.done('PATCH', pod, { metadata: { finalizers: ['example.org/wait'] } }, merge);
    const { code } = await remove(at, `${at.apps}/replicasets/web`, {}, 'Foreground');
    assert.equal(code, 200);
    const marked = await eventually(
      at,
      'the pod is marked',
      pod,
      ({ metadata }) => metadata.deletionTimestamp !== undefined,
    );
    const owner = await at.done('GET', `${at.apps}/replicasets/web`);
    assert.deepEqual(owner.metadata.finalizers, ['foregroundDeletion']);
    assert.ok(owner.metadata.deletionTimestamp && marked);
    await at.done('PATCH', pod, { metadata: { finalizers: null } }, merge);
    await until(async () => (await at.call('GET', `${at.apps}/replicasets/web`)).code === 404, 'the owner is gone');
  },

  'what names an owner that does not exist is collected': async (at) => {
    const owner = { apiVersion: 'v1', kind: 'ConfigMap', name: 'nobody', uid: '00000000-0000-4000-8000-00000000000a' };
    await at.done('POST', `${at.core}/configmaps`, { metadata: { name: 'web', ownerReferences: [owner] } });
    await until(async () => (await at.call('GET', `${at.core}/configmaps/web`)).code === 404, 'it is collected');
  },

  'deleting a Service removes its EndpointSlices': async (at) => {
    await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    await eventually(at, 'its slice is there', at.slices, ({ items }) => items.length === 1);
    await at.done('DELETE', `${at.core}/services/web`);
    await eventually(at, 'its slice is gone', at.slices, ({ items }) => items.length === 0);
  },

  'a deleted pod is terminating for a while, and no replica of its ReplicaSet': async (at) => {
    await readySet(at, 'replicasets', 1);
    const [old] = await names(at, 'pods');
    const answered = await at.done('DELETE', `${at.core}/pods/${old}`, { gracePeriodSeconds: 30 });
    assert.ok(answered.metadata.deletionTimestamp);
    assert.equal(answered.metadata.deletionGracePeriodSeconds, 30);
    await eventually(at, 'another pod came', `${at.core}/pods`, ({ items }) =>
      items.some(({ metadata }) => metadata.name !== old),
    );
  },

  'deleting a collection by label deletes what matches': async (at) => {
    for (const [name, team] of [
      ['a', 'x'],
      ['b', 'y'],
    ] as const) {
      await at.done('POST', `${at.core}/configmaps`, { metadata: { name, labels: { team } } });
    }
    await at.done('DELETE', `${at.core}/configmaps?labelSelector=team%3Dx`);
    const left = await names(at, 'configmaps');
    assert.deepEqual(
      left.filter((name) => name !== 'kube-root-ca.crt'),
      ['b'],
    );
  },
};

export function remove(at: Place, path: string, preconditions: object, propagationPolicy = 'Background') {
  const body = { kind: 'DeleteOptions', apiVersion: 'v1', preconditions, propagationPolicy };
  return at.call('DELETE', path, body);
}

/** A ReplicaSet or Deployment `web` whose pods are all ready. */
export async function readySet(at: Place, plural: 'replicasets' | 'deployments', replicas: number): Promise<Body> {
  await at.done('POST', `${at.apps}/${plural}`, workload('web', replicas, { app: 'web' }));
  return eventually(
    at,
    'its pods are ready',
    `${at.apps}/${plural}/web`,
    ({ status }) => status?.readyReplicas === replicas,
  );
}

export async function names(at: Place, plural: string): Promise<string[]> {
  const { items } = await at.done('GET', `${at.core}/${plural}`);
  return items.map(({ metadata }) => metadata.name).sort();
}
