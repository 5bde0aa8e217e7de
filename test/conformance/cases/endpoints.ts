import assert from 'node:assert/strict';
import { service, workload } from '../../sandbox/client.ts';
import { until } from '../../support/until.ts';
import { type Body, type Cases, eventually, merge, type Place } from '../place.ts';
import { names, readySet } from './deletion.ts';

/** EndpointSlices, by which the engine judges who gets traffic. */
export const endpointCases: Cases = {
  'a slice names its Service by label and owner, and carries the labels of the Service': async (at) => {
    const web = await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }, { labels: { team: 'a' } }));
    const { items } = await eventually(at, 'its slice is there', at.slices, (list) => list.items.length === 1);
    assert.deepEqual(items[0]?.metadata.labels, {
      team: 'a',
      'kubernetes.io/service-name': 'web',
      'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
    });
    assert.deepEqual(items[0]?.metadata.ownerReferences, [
      {
        apiVersion: 'v1',
        kind: 'Service',
        name: 'web',
        uid: web.metadata.uid,
        controller: true,
        blockOwnerDeletion: true,
      },
    ]);
    assert.match(items[0]?.metadata.name ?? '', /^web-[a-z0-9]{5}$/);
    assert.equal(items[0]?.addressType, 'IPv4');
    assert.equal(items[0]?.endpoints ?? null, null, 'without pods there are no endpoints');
  },

  'labels that a Service gets or loses later are followed by its slices': async (at) => {
    await readySet(at, 'replicasets', 1);
    await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    await eventually(at, 'its slice is there', at.slices, ({ items }) => items.length === 1);
    const label = (value: string | null) => ({ metadata: { labels: { 'cdaas/deployment': value } } });
    await at.done('PATCH', `${at.core}/services/web`, label('d1'), merge);
    await eventually(
      at,
      'the label came',
      `${at.slices}?labelSelector=cdaas%2Fdeployment%3Dd1`,
      ({ items }) => items.length === 1,
    );
    await at.done('PATCH', `${at.core}/services/web`, label(null), merge);
    await eventually(
      at,
      'the label went',
      `${at.slices}?labelSelector=cdaas%2Fdeployment`,
      ({ items }) => items.length === 0,
    );
  },

  'a ready pod is an endpoint that names it and its address': async (at) => {
    await readySet(at, 'replicasets', 1);
    await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    const [endpoint] = await endpoints(at, 'web', (all) => all.length === 1 && all[0]?.conditions?.ready === true);
    const { items } = await at.done('GET', `${at.core}/pods`);
    const pod = items[0]!;
    assert.deepEqual(endpoint, {
      addresses: [pod.status.podIP],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: pod.spec.nodeName,
      targetRef: { kind: 'Pod', namespace: at.namespace, name: pod.metadata.name, uid: pod.metadata.uid },
    });
    const slices = await at.done('GET', at.slices);
    assert.deepEqual(slices.items[0]?.ports, [{ name: 'http', port: 8080, protocol: 'TCP' }]);
  },

  'a pod that is not ready is listed as that, whether it runs or cannot get its image': async (at) => {
    await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    for (const tag of ['bad-image', 'never-ready']) {
      await at.done('POST', `${at.apps}/replicasets`, workload(tag, 1, { app: 'web', tag }, `example/web:${tag}`));
    }
    const both = await endpoints(at, 'web', (all) => all.length === 2);
    for (const { conditions } of both)
      assert.deepEqual(conditions, { ready: false, serving: false, terminating: false });
  },

  'publishNotReadyAddresses calls every endpoint ready': async (at) => {
    const body = service('web', { app: 'web' }) as { spec: object };
    await at.done('POST', `${at.core}/services`, { ...body, spec: { ...body.spec, publishNotReadyAddresses: true } });
    await at.done('POST', `${at.apps}/replicasets`, workload('web', 1, { app: 'web' }, 'example/web:never-ready'));
    const [endpoint] = await endpoints(at, 'web', (all) => all.length === 1);
    assert.deepEqual(endpoint?.conditions, { ready: true, serving: false, terminating: false });
  },

  'a pod that loses its readiness stays listed and is not ready': async (at) => {
    await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    await at.done('POST', `${at.apps}/replicasets`, workload('web', 1, { app: 'web' }, 'example/web:crash'));
    const [well] = await endpoints(at, 'web', (all) => all[0]?.conditions?.ready === true);
    const [crashed] = await endpoints(at, 'web', (all) => all[0]?.conditions?.ready === false);
    assert.deepEqual(crashed?.conditions, { ready: false, serving: false, terminating: false });
    assert.deepEqual(crashed?.targetRef, well?.targetRef);
  },

  'a pod on its way out is terminating, still serves, and is not ready': async (at) => {
    await readySet(at, 'replicasets', 1);
    await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    await endpoints(at, 'web', (all) => all[0]?.conditions?.ready === true);
    const [name] = await names(at, 'pods');
    await at.done('PATCH', `${at.core}/pods/${name}`, { metadata: { finalizers: ['example.org/wait'] } }, merge);
    await at.done('DELETE', `${at.core}/pods/${name}`);
    const all = await endpoints(at, 'web', (list) => list.some(({ conditions }) => conditions?.terminating));
    const leaving = all.find(({ targetRef }) => targetRef?.name === name);
    assert.deepEqual(leaving?.conditions, { ready: false, serving: true, terminating: true });
    await at.done('PATCH', `${at.core}/pods/${name}`, { metadata: { finalizers: null } }, merge);
    await endpoints(at, 'web', (list) => list.every(({ targetRef }) => targetRef?.name !== name));
  },

  'after a change of the selector only the pods that match are left': async (at) => {
    const both = (hash: string) => workload(`web-${hash}`, 2, { app: 'web', hash });
    for (const hash of ['old', 'new']) await at.done('POST', `${at.apps}/replicasets`, both(hash));
    await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    await endpoints(at, 'web', (all) => all.filter(({ conditions }) => conditions?.ready).length === 4);
    await at.done('PATCH', `${at.core}/services/web`, { spec: { selector: { hash: 'old' } } }, merge);
    const pinned = await endpoints(at, 'web', (all) => all.length === 2);
    assert.ok(pinned.every(({ targetRef }) => targetRef?.name.startsWith('web-old-')));
    await at.done('PATCH', `${at.core}/services/web`, { spec: { selector: { hash: 'new' } } }, merge);
    const moved = await endpoints(
      at,
      'web',
      (all) => all.length === 2 && !all[0]?.targetRef?.name.startsWith('web-old-'),
    );
    assert.ok(moved.every(({ targetRef }) => targetRef?.name.startsWith('web-new-')));
  },

  'a pod whose labels change leaves the Service and its ReplicaSet': async (at) => {
    await readySet(at, 'replicasets', 1);
    await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    await endpoints(at, 'web', (all) => all.length === 1);
    const [name] = await names(at, 'pods');
    await at.done('PATCH', `${at.core}/pods/${name}`, { metadata: { labels: { app: 'debug' } } }, merge);
    await endpoints(at, 'web', (all) => all.length === 1 && all[0]?.targetRef?.name !== name);
    const pod = await eventually(
      at,
      'it is let go',
      `${at.core}/pods/${name}`,
      ({ metadata }) => !metadata.ownerReferences?.length,
    );
    assert.equal(pod.metadata.deletionTimestamp, undefined);
  },

  'a headless Service has slices too; one without a selector and an ExternalName have none': async (at) => {
    await at.done('POST', `${at.core}/services`, { metadata: { name: 'none' }, spec: { ports: [{ port: 80 }] } });
    await at.done('POST', `${at.core}/services`, {
      metadata: { name: 'outside' },
      spec: { type: 'ExternalName', externalName: 'example.org' },
    });
    await at.done('POST', `${at.core}/services`, {
      metadata: { name: 'bare' },
      spec: { clusterIP: 'None', selector: { app: 'web' } },
    });
    const { items } = await eventually(at, 'a slice is there', at.slices, (list) => list.items.length > 0);
    assert.deepEqual(
      items.map(({ metadata }) => metadata.labels?.['kubernetes.io/service-name']),
      ['bare'],
    );
    assert.equal(items[0]?.metadata.labels?.['service.kubernetes.io/headless'], '');
  },

  'a slice that somebody deletes is made again': async (at) => {
    await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    const { items } = await eventually(at, 'its slice is there', at.slices, (list) => list.items.length === 1);
    await at.done('DELETE', `${at.slices}/${items[0]?.metadata.name}`);
    await eventually(
      at,
      'another came',
      at.slices,
      (list) => list.items.length === 1 && list.items[0]?.metadata.uid !== items[0]?.metadata.uid,
    );
  },

  'a target port by name is that of the containers': async (at) => {
    await readySet(at, 'replicasets', 1);
    const ports = [{ port: 80, targetPort: 'http', appProtocol: 'kubernetes.io/h2c' }];
    await at.done('POST', `${at.core}/services`, {
      metadata: { name: 'web' },
      spec: { selector: { app: 'web' }, ports },
    });
    const { items } = await eventually(
      at,
      'its slice has the pod',
      at.slices,
      (list) => list.items[0]?.endpoints?.length === 1,
    );
    assert.deepEqual(items[0]?.ports, [{ name: '', port: 8080, protocol: 'TCP', appProtocol: 'kubernetes.io/h2c' }]);
  },
};

type Endpoint = Body['endpoints'][number];

/** The endpoints of a Service once they are such. */
function endpoints(at: Place, name: string, holds: (all: Endpoint[]) => boolean): Promise<Endpoint[]> {
  return until(async () => {
    const { items } = await at.done('GET', `${at.slices}?labelSelector=kubernetes.io%2Fservice-name%3D${name}`);
    const all = items.flatMap((slice) => slice.endpoints ?? []);
    return items.length > 0 && holds(all) ? all : undefined;
  }, `endpoints of ${name}`);
}
