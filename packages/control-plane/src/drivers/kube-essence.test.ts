import assert from 'node:assert/strict';
import { test } from 'node:test';
import { evaluate } from '@cdaas/pipeline/conditions.ts';
import { hashKey } from '@cdaas/pipeline/marks.ts';
import { essenceOf, weightOf } from './kube-essence.ts';

const namespace = 'shop';
const pod = (name: string, status: Record<string, unknown>) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace, labels: { [hashKey]: 'abc' }, annotations: { note: 'x'.repeat(5000) } },
  spec: { containers: Array(20).fill({ name: 'web', env: Array(20).fill({ name: 'A', value: 'b' }) }) },
  status,
});
const pods = [
  pod('ready', { phase: 'Running', conditions: [{ type: 'Ready', status: 'True', lastProbeTime: null }] }),
  pod('pulling', {
    phase: 'Pending',
    containerStatuses: [{ name: 'a', state: { running: {} } }, { state: { waiting: { reason: 'ImagePullBackOff' } } }],
  }),
  pod('crashing', {
    containerStatuses: [
      {
        state: { waiting: { reason: 'CrashLoopBackOff', message: 'x' } },
        lastState: { terminated: { exitCode: 3, message: 'y' } },
      },
    ],
  }),
  pod('nowhere', { conditions: [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: 'z' }] }),
  { ...pod('going', {}), metadata: { ...pod('going', {}).metadata, deletionTimestamp: '2026-01-01T00:00:00Z' } },
];
const slices = [
  {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'web-1', namespace, labels: { 'kubernetes.io/service-name': 'web' } },
    endpoints: [
      {
        addresses: ['10.0.0.1'],
        conditions: { ready: true, serving: true },
        targetRef: { kind: 'Pod', name: 'ready' },
      },
      { addresses: ['10.0.0.2'], conditions: { terminating: true }, targetRef: { kind: 'Pod', name: 'going' } },
      { addresses: ['10.0.0.3'] },
    ],
  },
];

const deployment = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web', namespace, uid: 'd', generation: 2, managedFields: [{ manager: 'argocd-controller' }] },
  spec: {
    replicas: 2,
    selector: { matchLabels: { app: 'web' } },
    template: { metadata: { labels: { app: 'web' } }, spec: pods[0]?.spec },
  },
  status: { observedGeneration: 2, replicas: 2, updatedReplicas: 2 },
};

const service = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'web' }, spec: { clusterIP: '10.1.2.3' } };

test('conditions see in the essence of objects what they see in the objects', () => {
  const viewOf = (of: typeof essenceOf) => ({
    service: () => ({ ...service, spec: { selector: { app: 'web' } } }),
    endpointSlices: () => slices.map(of),
    pods: () => pods.map(of),
    replicaSet: () => undefined,
    trafficSplit: () => undefined,
    shownUpTo: () => null,
    deployment: () => of(deployment),
    deployments: () => [of(deployment)],
    serviceProfile: () => undefined,
  });
  const whole = viewOf((object) => object);
  const brief = viewOf(essenceOf);
  for (const condition of [
    { kind: 'endpoints', service: 'web', hash: 'abc', ready: 1, amongOthers: true },
    { kind: 'podsReady', hash: 'abc', ready: 5 },
    { kind: 'short', service: 'web', hash: 'abc', ready: 5 },
    { kind: 'starved', service: 'web', hash: 'abc' },
    { kind: 'gone', replicaSet: 'web-abc', hash: 'abc' },
    { kind: 'intruder', deployment: 'web', uid: null, run: 'x' },
    { kind: 'noDeployment', deployment: 'web' },
    { kind: 'claimant', replicaSet: 'api-1', labels: { app: 'web' }, but: [], run: 'x' },
    { kind: 'sharer', service: 'web', but: [], run: 'x' },
  ] as const) {
    const asked = { key: 'k', namespace, ...condition };
    assert.deepEqual(evaluate(asked, brief), evaluate(asked, whole));
  }
});

test('the essence of a pod and of a ReplicaSet is small', () => {
  const [ready] = pods;
  assert.ok(ready);
  assert.ok(weightOf(essenceOf(ready)) < 800);
  assert.ok(weightOf(ready) > 20_000);
  const replicaSet = { ...ready, kind: 'ReplicaSet', spec: { replicas: 2, template: ready.spec } };
  assert.deepEqual(essenceOf(replicaSet).spec, { replicas: 2 });
});

test('kinds without a known essence stay whole', () => {
  assert.equal(essenceOf(service), service);
});
