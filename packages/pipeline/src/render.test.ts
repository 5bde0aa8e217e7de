import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formOfTemplate } from './deployment-object.ts';
import { type Change, initialState, type Slot, type Survey, type WriteEffect } from './deployment-state.ts';
import { entryAt } from './entry-at.ts';
import type { KubernetesObject } from './kubernetes.ts';
import { deploymentKey, hashKey } from './marks.ts';
import type { DeploymentPlan } from './plan.ts';
import { factsOf, fenceVersion, refOf, renderWrite } from './render.ts';
import { instance, namespace, newHash, newId, oldHash, rootService, samplePlan } from './testing/samples.ts';

const survey: Survey = {
  problems: [],
  warnings: [],
  workloads: [
    {
      mode: 'canary',
      old: { name: `web-${oldHash}`, hash: oldHash, uid: 'u-old', resourceVersion: '4', pods: 2, ready: 2 },
    },
  ],
  routes: [{ root: null, canary: null }],
  pairs: [0],
  existing: [],
  leftovers: [],
  splitApiVersion: 'split.smi-spec.io/v1alpha2',
  meshConfirmation: 'stored',
};

function render(
  slot: Slot,
  change: Change,
  options: { plan?: DeploymentPlan; root?: KubernetesObject; previous?: KubernetesObject } = {},
) {
  const { plan = samplePlan(), root, previous } = options;
  const state = { ...initialState(newId, [newHash], plan), survey };
  const known = change.op === 'create' ? {} : { uid: 'u-7', resourceVersion: '7' };
  const effect: WriteEffect = { kind: 'write', key: 'it#1', slot, change, ...known };
  const write = renderWrite({ plan, state, effect, mark: { instance, version: 12 }, root, previous });
  return JSON.parse(JSON.stringify(write)) as typeof write;
}

const fence = { 'cdaas/fence': `${newId}.12` };
const written = {
  'deploy.armory.io/application': 'shop',
  'deploy.armory.io/deployment-id': newId,
  'deploy.armory.io/environment': 'qa',
  'deploy.armory.io/replica-set-name': `web-${newHash}`,
};
const created = { ...written, ...fence, 'cdaas/instance': instance };

describe('every change is a precondition and exactly its fields', () => {
  const service = (name: string) => ({ apiVersion: 'v1', kind: 'Service', namespace, name });
  const replicaSet = (name: string) => ({ apiVersion: 'apps/v1', kind: 'ReplicaSet', namespace, name });
  const rows: [string, Slot, Change, unknown][] = [
    [
      'weights',
      'split.0',
      { op: 'weights', weights: { stable: 80, canary: 20 } },
      {
        verb: 'patch',
        ref: { apiVersion: 'split.smi-spec.io/v1alpha2', kind: 'TrafficSplit', namespace, name: 'web' },
        body: {
          metadata: { resourceVersion: '7', labels: { [deploymentKey]: newId }, annotations: fence },
          spec: {
            service: 'web',
            backends: [
              { service: 'web', weight: 80 },
              { service: 'web-canary', weight: 20 },
            ],
          },
        },
      },
    ],
    [
      'a pin',
      'root.0',
      { op: 'pin', hash: oldHash },
      {
        verb: 'patch',
        ref: service('web'),
        body: {
          metadata: {
            resourceVersion: '7',
            labels: { 'cdaas/deployment': newId },
            annotations: { ...fence, 'cdaas/instance': instance },
          },
          spec: { selector: { 'armory-pod-template-hash': oldHash } },
        },
      },
    ],
    [
      'an unpin',
      'root.0',
      { op: 'unpin' },
      {
        verb: 'patch',
        ref: service('web'),
        body: {
          metadata: {
            resourceVersion: '7',
            labels: { 'cdaas/deployment': null },
            annotations: { 'cdaas/fence': null, 'cdaas/instance': null },
          },
          spec: { selector: { 'armory-pod-template-hash': null } },
        },
      },
    ],
    [
      'a scale',
      'oldReplicaSet.0',
      { op: 'scale', replicas: 0 },
      {
        verb: 'patch',
        ref: replicaSet(`web-${oldHash}`),
        body: { metadata: { resourceVersion: '7', annotations: fence }, spec: { replicas: 0 } },
      },
    ],
    [
      'a delete',
      'newReplicaSet.0',
      { op: 'delete' },
      { verb: 'delete', ref: replicaSet(`web-${newHash}`), uid: 'u-7', resourceVersion: '7' },
    ],
  ];
  for (const [name, slot, change, expected] of rows) {
    test(name, () => {
      assert.deepEqual(render(slot, change), expected);
    });
  }
});

describe('other objects', () => {
  const plan = samplePlan({ objects: true });

  test('are applied as written, with our annotations, and the uid and resourceVersion that were seen', () => {
    assert.deepEqual(render('object.0', { op: 'apply' }, { plan }), {
      verb: 'apply',
      ref: { apiVersion: 'v1', kind: 'ConfigMap', namespace, name: 'settings' },
      body: {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'settings', namespace, annotations: written, uid: 'u-7', resourceVersion: '7' },
        data: { value: 'new' },
      },
    });
  });

  test('of an exported manifest lose what only a cluster sets, so that ours is the precondition', () => {
    const exported = { resourceVersion: '1', uid: 'u-1', generation: 3, creationTimestamp: 'x', managedFields: [] };
    const objects = plan.objects.map((object) => ({ ...object, metadata: { ...object.metadata, ...exported } }));
    const apply = render('object.0', { op: 'apply' }, { plan: { ...plan, objects } });
    const create = render('object.1', { op: 'create' }, { plan: { ...plan, objects } });
    assert.ok(apply.verb === 'apply' && create.verb === 'create');
    const ours = { annotations: written, uid: 'u-7', resourceVersion: '7' };
    assert.deepEqual(apply.body.metadata, { name: 'settings', namespace, ...ours });
    assert.deepEqual(create.body.metadata, { name: 'extra', namespace, annotations: written });
  });

  test('are created without labels of ours: they stay when the run is over', () => {
    const write = render('object.1', { op: 'create' }, { plan });
    assert.ok(write.verb === 'create');
    assert.deepEqual(write.body, {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'extra', namespace, annotations: written },
      data: { value: 'new' },
    });
  });

  test('are put back in their saved form with the last resourceVersion', () => {
    const previous: KubernetesObject = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: {
        name: 'settings',
        namespace,
        uid: 'u-7',
        resourceVersion: '3',
        labels: { team: 'a' },
        finalizers: ['example.org/keep'],
        managedFields: [],
      },
      data: { value: 'old' },
    };
    assert.deepEqual(render('object.0', { op: 'restore' }, { plan, previous }), {
      verb: 'put',
      ref: { apiVersion: 'v1', kind: 'ConfigMap', namespace, name: 'settings' },
      body: {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: {
          name: 'settings',
          namespace,
          labels: { team: 'a' },
          finalizers: ['example.org/keep'],
          uid: 'u-7',
          resourceVersion: '7',
        },
        data: { value: 'old' },
      },
    });
  });

  test('cannot be put back without a saved form', () => {
    assert.throws(() => render('object.0', { op: 'restore' }, { plan }), /no saved form of object\.0/);
  });
});

describe('the new ReplicaSet', () => {
  const withContainers = (containers: object[], extra = {}): DeploymentPlan => {
    const plan = samplePlan({ replicas: 3 });
    const spec = {
      replicas: 3,
      minReadySeconds: 4,
      selector: { matchLabels: { app: 'web' } },
      template: {
        metadata: { labels: { app: 'web', tier: 'front' }, annotations: { note: 'mine' } },
        spec: { containers, ...extra },
      },
    };
    const workload = entryAt(plan.workloads, 0);
    return { ...plan, workloads: [{ ...workload, manifest: { ...workload.manifest, spec } }] };
  };

  test('is inert, carries only our labels, and its pods carry the hash', () => {
    const plan = withContainers([{ name: 'web', image: 'web:2' }], { terminationGracePeriodSeconds: 5 });
    const write = render('newReplicaSet.0', { op: 'create' }, { plan });
    assert.ok(write.verb === 'create');
    assert.deepEqual(write.body, {
      apiVersion: 'apps/v1',
      kind: 'ReplicaSet',
      metadata: {
        name: `web-${newHash}`,
        namespace,
        labels: { 'cdaas/deployment': newId, [hashKey]: newHash },
        annotations: created,
      },
      spec: {
        replicas: 0,
        minReadySeconds: 4,
        selector: { matchLabels: { app: 'web', [hashKey]: newHash } },
        template: {
          metadata: {
            labels: { app: 'web', tier: 'front', [hashKey]: newHash },
            annotations: { note: 'mine', ...written },
          },
          spec: {
            terminationGracePeriodSeconds: 5,
            containers: [
              {
                name: 'web',
                image: 'web:2',
                env: [
                  { name: 'ARMORY_APPLICATION_NAME', value: 'shop' },
                  { name: 'ARMORY_DEPLOYMENT_ID', value: newId },
                  { name: 'ARMORY_ENVIRONMENT_NAME', value: 'qa' },
                  { name: 'ARMORY_REPLICA_SET_NAME', value: `web-${newHash}` },
                ],
              },
            ],
          },
        },
      },
    });
  });

  test('leaves a variable that the user defines as it is, in every container', () => {
    const mine = { name: 'ARMORY_ENVIRONMENT_NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } };
    const write = render(
      'newReplicaSet.0',
      { op: 'create' },
      {
        plan: withContainers([{ name: 'web', env: [mine, { name: 'A', value: 'b' }] }, { name: 'side' }]),
      },
    );
    assert.ok(write.verb === 'create');
    const { containers } = (write.body.spec as { template: { spec: { containers: { env: { name: string }[] }[] } } })
      .template.spec;
    assert.deepEqual(
      containers[0]?.env.filter(({ name }) => name === mine.name),
      [mine],
    );
    assert.deepEqual(
      containers.map(({ env }) => env.length),
      [5, 4],
    );
  });
});

describe('the created canary Service', () => {
  const ports = [
    { name: 'http', port: 80, targetPort: 8080, protocol: 'TCP', appProtocol: 'http', nodePort: 30_080 },
    { port: 81 },
  ];
  const root: KubernetesObject = {
    ...rootService(),
    metadata: { name: 'web', namespace, annotations: { 'config.linkerd.io/opaque-ports': '81', other: 'x' } },
    spec: { type: 'NodePort', clusterIP: '10.0.0.1', selector: { app: 'web', [hashKey]: oldHash }, ports },
  };

  test('has root’s ports and opaque ports, and selects the new pods only', () => {
    const write = render('canary.0', { op: 'create' }, { root });
    assert.ok(write.verb === 'create');
    assert.deepEqual(write.body, {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: {
        name: 'web-canary',
        namespace,
        labels: { 'cdaas/deployment': newId },
        annotations: { ...created, 'config.linkerd.io/opaque-ports': '81' },
      },
      spec: {
        type: 'ClusterIP',
        ports: [{ name: 'http', port: 80, targetPort: 8080, protocol: 'TCP', appProtocol: 'http' }, { port: 81 }],
        selector: { app: 'web', [hashKey]: newHash },
      },
    });
  });

  test('cannot be made without root', () => {
    assert.throws(() => render('canary.0', { op: 'create' }), /the root Service is needed/);
  });
});

test('a split is created with all traffic on root', () => {
  const write = render('split.0', { op: 'create' });
  assert.ok(write.verb === 'create');
  assert.deepEqual(write.body, {
    apiVersion: 'split.smi-spec.io/v1alpha2',
    kind: 'TrafficSplit',
    metadata: { name: 'web', namespace, labels: { 'cdaas/deployment': newId }, annotations: created },
    spec: {
      service: 'web',
      backends: [
        { service: 'web', weight: 100 },
        { service: 'web-canary', weight: 0 },
      ],
    },
  });
});

describe('what the machine is told of an object', () => {
  const { routes } = samplePlan();
  const metadata = { name: 'web', uid: 'u', resourceVersion: '9' };

  test('of a Service: who drives it and its pin', () => {
    const labels = { 'cdaas/deployment': newId };
    const service = { ...rootService(), metadata: { ...metadata, labels } };
    assert.deepEqual(factsOf(service, routes), {
      uid: 'u',
      resourceVersion: '9',
      deployment: newId,
      appliedBy: null,
      pin: null,
    });
    const spec = { selector: { app: 'web', [hashKey]: oldHash } };
    assert.equal(factsOf({ ...service, spec }, routes).pin, oldHash);
  });

  test('of a TrafficSplit: its weights, null where they are not ours', () => {
    const split = {
      apiVersion: 'split.smi-spec.io/v1alpha2',
      kind: 'TrafficSplit',
      metadata,
      spec: { service: 'web', backends: [] },
    };
    assert.equal(factsOf(split, routes).weights, null);
  });

  test('of a ReplicaSet: its replicas, 1 where they are absent', () => {
    const set = {
      apiVersion: 'apps/v1',
      kind: 'ReplicaSet',
      metadata: { ...metadata, annotations: written },
      spec: {},
    };
    assert.deepEqual(factsOf(set, routes), {
      uid: 'u',
      resourceVersion: '9',
      deployment: null,
      appliedBy: newId,
      replicas: 1,
      template: formOfTemplate(set),
    });
  });

  test('of its fence: the version where this deployment wrote it', () => {
    const fenced = (value?: string): KubernetesObject => ({
      ...rootService(),
      metadata: { name: 'web', ...(value === undefined ? {} : { annotations: { 'cdaas/fence': value } }) },
    });
    const rows: [string | undefined, number | null][] = [
      [`${newId}.12`, 12],
      [`${newId}.x`, null],
      ['deployment-9.12', null],
      [`${newId}1.12`, null],
      [undefined, null],
    ];
    for (const [value, version] of rows) assert.equal(fenceVersion(fenced(value), newId), version);
  });
});

test('every slot stands for one object', () => {
  const state = { ...initialState(newId, [newHash], samplePlan({ objects: true })), survey };
  const slots: Slot[] = ['root.0', 'canary.0', 'split.0', 'newReplicaSet.0', 'oldReplicaSet.0', 'object.1'];
  assert.deepEqual(
    slots.map((slot) => `${refOf(state, slot).kind} ${refOf(state, slot).name}`),
    [
      'Service web',
      'Service web-canary',
      'TrafficSplit web',
      `ReplicaSet web-${newHash}`,
      `ReplicaSet web-${oldHash}`,
      'ConfigMap extra',
    ],
  );
  assert.throws(() => refOf(state, 'object.9'), /no entry 9 among 3/);
});
