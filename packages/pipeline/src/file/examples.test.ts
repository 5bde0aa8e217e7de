import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { type StrategyStep, secondsPerUnit } from '../plan.ts';
import { check } from './file-fixtures.ts';
import type { ResolvedFile } from './resolve.ts';

const folder = new URL('../../../../examples/', import.meta.url);
const names = readdirSync(folder).filter((name) => name.endsWith('.yaml'));

function resolve(name: string): ResolvedFile {
  const result = check(readFileSync(new URL(name, folder), 'utf8'));
  assert.ok('plans' in result, JSON.stringify(result));
  return result;
}

for (const name of names) {
  test(`examples/${name} is valid, without warnings`, () => {
    assert.deepEqual(resolve(name).warnings, []);
  });
}

test('those of the shop are versions of one application in one place, so that one can follow the other', () => {
  const versions = names.filter((name) => resolve(name).pipeline.application === 'shop');
  assert.deepEqual(versions, ['manual-approval.yaml', 'shop-v1.yaml', 'shop-v2.yaml']);
  for (const name of versions) {
    const { pipeline, plans } = resolve(name);
    const plan = plans[0]!;
    assert.deepEqual(
      [pipeline.application, plan.target, plan.account, plan.namespace],
      ['shop', 'demo', 'sandbox', 'shop'],
    );
    assert.deepEqual(
      [plan.workloads[0]?.name, plan.workloads[0]?.replicas, plan.routes[0]?.rootServiceName],
      ['web', 3, 'web'],
    );
    assert.deepEqual(
      plan.objects.map(({ kind }) => kind),
      ['Namespace', 'Service'],
    );
  }
});

test('one brings its application to staging, and then to prod', () => {
  const { plans, dependencies } = resolve('staging-to-prod.yaml');
  assert.deepEqual(
    plans.map(({ target, namespace, objects }) => [target, namespace, objects.map(({ kind }) => kind)]),
    [
      ['staging', 'catalog-staging', ['Namespace', 'Service']],
      ['prod', 'catalog-prod', ['Namespace', 'Service']],
    ],
  );
  assert.deepEqual(dependencies.get('prod'), ['staging']);
});

test('the canary of the demo waits only seconds', () => {
  const wait = (step: StrategyStep): number =>
    step.kind === 'pause' && 'duration' in step ? step.duration * secondsPerUnit[step.unit] : 0;
  const seconds = resolve('shop-v2.yaml').plans[0]!.steps.reduce((sum, step) => sum + wait(step), 0);
  assert.ok(seconds > 0 && seconds <= 15, `${seconds}`);
});
