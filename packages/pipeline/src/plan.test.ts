import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type StrategyStep, stepRef } from './plan.ts';
import { samplePlan } from './testing/samples.ts';

test('step refs name the Deployment where traffic shifts, and count from 1', () => {
  const steps: StrategyStep[] = [
    { kind: 'setWeight', weight: 20 },
    { kind: 'pause', duration: 1, unit: 'MINUTES' },
    { kind: 'pause', untilApproved: true, approvalExpirationSeconds: null },
    { kind: 'setWeight', weight: 60 },
  ];
  const plan = samplePlan({ steps });
  assert.deepEqual(
    steps.map((_, index) => stepRef(plan, index)),
    ['canary-step-1-web', 'canary-step-2', 'canary-step-3', 'canary-step-4-web'],
  );
});
