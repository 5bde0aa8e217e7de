import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fateOf, noFaults, parseDuration, tagOf } from './faults.ts';
import type { Pod } from './objects.ts';

function pod(image: string, annotations: Record<string, string> = {}): Pod {
  return { metadata: { annotations }, spec: { containers: [{ name: 'web', image }] } } as unknown as Pod;
}

describe('The fate of a pod', () => {
  const cases: [image: string, annotations: Record<string, string>, fate: object][] = [
    ['web:v1', { 'sandbox.cdaas/ready-after': '250ms' }, { kind: 'ready', readyAfterMs: 250 }],
    ['web:slow-v1', {}, { kind: 'ready', readyAfterMs: 3000 }],
    ['web:never-ready', {}, { kind: 'never-ready' }],
    ['web:v1-bad-image', {}, { kind: 'bad-image' }],
    ['web:slow-crash', {}, { kind: 'ready', readyAfterMs: 3000, crashAfterMs: 1000 }],
    ['web:slow', { 'sandbox.cdaas/crash-after': '5s' }, { kind: 'ready', readyAfterMs: 3000, crashAfterMs: 5000 }],
    ['never-ready/web:slow', {}, { kind: 'ready', readyAfterMs: 3000 }],
  ];
  for (const [image, annotations, fate] of cases) {
    test(`${image} ${JSON.stringify(annotations)}: ${JSON.stringify(fate)}`, () => {
      assert.deepEqual(fateOf(pod(image, annotations), noFaults()), fate);
    });
  }

  test('is otherwise ready within the usual span', () => {
    const faults = { ...noFaults(), readyAfterMs: { min: 10, max: 20 } };
    const fate = fateOf(pod('web:v1'), faults);
    assert.ok(fate.kind === 'ready' && fate.readyAfterMs >= 10 && fate.readyAfterMs <= 20);
  });

  test('is what a test says before all else', () => {
    const faults = { ...noFaults(), podFate: () => ({ kind: 'never-ready' as const }) };
    assert.deepEqual(fateOf(pod('web:v1'), faults), { kind: 'never-ready' });
  });
});

test('A tag is read after the registry, its port and before a digest', () => {
  assert.equal(tagOf('registry:5000/team/web:v2@sha256:abc'), 'v2');
  assert.equal(tagOf('registry:5000/team/web'), 'latest');
});

test('A duration is milliseconds, seconds or minutes and nothing else', () => {
  assert.deepEqual(['250ms', '1.5s', '2m', '3', 'soon', undefined].map(parseDuration), [
    250,
    1500,
    120_000,
    undefined,
    undefined,
    undefined,
  ]);
});
