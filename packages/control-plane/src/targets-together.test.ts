import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DeploymentPlan } from '@cdaas/pipeline/plan.ts';
import { checkSize, checkTogether } from './targets-together.ts';

const plan: DeploymentPlan = {
  application: 'shop',
  target: 'qa',
  account: 'east',
  namespace: 'shop',
  workloads: [],
  routes: [],
  objects: [{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'x'.repeat(1000) } }],
  steps: [],
  readyTimeoutSeconds: 60,
  drainSeconds: 5,
};
const target = (name: string, clusterUid: string, namespace: string, ...services: string[]) => ({
  name,
  plan,
  claims: services.map((service) => ({ clusterUid, namespace, kind: 'Service', name: service })),
});

test('targets of other clusters, namespaces or objects do not meet', () => {
  const targets = [
    target('a', 'c1', 'shop', 'web', 'api'),
    target('b', 'c2', 'shop', 'web'),
    target('c', 'c1', 'shop-eu', 'web'),
    target('d', 'c1', 'shop', 'other'),
  ];
  assert.deepEqual(checkTogether(targets), []);
});

test('each target that would drive what one before it drives is told once, with the first such object', () => {
  const found = checkTogether([
    target('a', 'c1', 'shop', 'web', 'api'),
    target('b/1', 'c1', 'shop', 'api', 'web'),
    target('c', 'c1', 'shop', 'web'),
  ]);
  assert.deepEqual(
    found.map(({ code, path, message }) => [code, path, message]),
    [
      ['traffic.conflict', '/targets/b~11', "targets 'a' and 'b/1' would both drive Service shop/api of one cluster"],
      ['traffic.conflict', '/targets/c', "targets 'a' and 'c' would both drive Service shop/web of one cluster"],
    ],
  );
});

test('the manifests of all targets together have a limit, because each target stores its own', () => {
  const targets = [target('a', 'c1', 'a', 'web'), target('b', 'c1', 'b', 'web')];
  assert.deepEqual(checkSize(targets), []);
  const characters = JSON.stringify(plan).length;
  assert.deepEqual(checkSize(targets, 2 * characters), []);
  const [violation, ...others] = checkSize(targets, 2 * characters - 1);
  assert.deepEqual([violation?.code, violation?.path, others], ['field.range', '/targets', []]);
});
