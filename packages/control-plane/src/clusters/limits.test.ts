import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DeploymentPlan } from '@cdaas/pipeline/plan.ts';
import { checkLimits } from './limits.ts';

const object = (kind: string, name: string, namespace?: string) => ({
  apiVersion: 'v1',
  kind,
  metadata: namespace === undefined ? { name } : { name, namespace },
});

function plan(objects: DeploymentPlan['objects']): DeploymentPlan {
  return {
    application: 'shop',
    target: 'a/b',
    account: 'east',
    namespace: 'shop',
    workloads: [{ name: 'web', replicas: 1, manifest: object('Deployment', 'web', 'shop') }],
    routes: [
      {
        rootServiceName: 'web',
        canaryServiceName: 'web-canary',
        canaryServiceGiven: false,
        trafficSplitName: 'web',
      },
    ],
    objects,
    steps: [],
    readyTimeoutSeconds: 60,
    drainSeconds: 5,
  };
}

test('by default every namespace is open, and Namespace is the only kind outside of namespaces', () => {
  const cluster = { name: 'east', namespaces: [], clusterScopedKinds: ['Namespace'] };
  assert.deepEqual(checkLimits(plan([object('Namespace', 'shop'), object('Service', 'web', 'other')]), cluster), []);
  const [violation] = checkLimits(plan([object('ClusterRoleBinding', 'mine')]), cluster);
  assert.equal(violation?.code, 'manifest.kind');
  assert.equal(violation?.path, '/targets/a~1b');
  assert.match(violation?.message ?? '', /ClusterRoleBinding mine/);
});

test('a list of namespaces closes all others, for the Deployment and every object, each told once', () => {
  const cluster = { name: 'east', namespaces: ['prod'], clusterScopedKinds: [] };
  const found = checkLimits(plan([object('Service', 'web', 'shop'), object('Service', 'x', 'kube-system')]), cluster);
  assert.deepEqual(
    found.map(({ message }) => /Namespace (\S+)/.exec(message)?.[1]),
    ['shop', 'kube-system'],
  );
});

test('where namespaces are listed, only those may be deployed as objects', () => {
  const cluster = { name: 'east', namespaces: ['shop'], clusterScopedKinds: ['Namespace', 'PriorityClass'] };
  const found = checkLimits(
    plan([object('Namespace', 'shop'), object('Namespace', 'kube-system'), object('PriorityClass', 'high')]),
    cluster,
  );
  assert.deepEqual(
    found.map(({ message }) => message),
    ['Namespace kube-system is not open for deployments in cluster "east".'],
  );
});
