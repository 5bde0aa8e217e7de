import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type StrategyStep, stepRefs } from './plan.ts';
import { samplePlan } from './testing/samples.ts';

const steps: StrategyStep[] = [
  { kind: 'setWeight', weight: 20 },
  { kind: 'pause', duration: 1, unit: 'MINUTES' },
  { kind: 'pause', untilApproved: true, approvalExpirationSeconds: null },
  { kind: 'setWeight', weight: 60 },
];

test('step refs name the Deployment where traffic shifts, and count from 1', () => {
  const plan = samplePlan({ steps });
  assert.deepEqual(
    steps.map((_, index) => stepRefs(plan, index)),
    [['canary-step-1-web'], ['canary-step-2'], ['canary-step-3'], ['canary-step-4-web']],
  );
});

test('a step that shifts traffic has a ref for each Deployment of the target, a pause has one', () => {
  const pairs = ['api', 'web'].map((name) => ({ root: name, deployment: name }));
  const plan = samplePlan({ steps, pairs });
  assert.deepEqual(stepRefs(plan, 0), ['canary-step-1-api', 'canary-step-1-web']);
  assert.deepEqual(stepRefs(plan, 1), ['canary-step-2']);
});
