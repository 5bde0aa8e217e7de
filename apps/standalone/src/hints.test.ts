import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { InProgress } from './api-client.ts';
import { hintLines } from './hints.ts';

const place = {
  url: 'http://127.0.0.1:8080',
  adminFile: '.cdaas/admin.json',
  kubeconfig: '.cdaas/sandbox.kubeconfig',
  account: 'sandbox',
};
const waiting: InProgress = {
  application: 'shop',
  deploymentId: 'd-1',
  phase: 'AWAITING_APPROVAL',
  waitingFor: 'approval of canary-step-2',
  approvable: 'canary-step-2',
};

test('where nothing was deployed yet, the first version is offered before the canary', () => {
  const text = hintLines('fresh', place, []).join('\n');
  assert.ok(text.indexOf('shop-v1.yaml') > 0 && text.indexOf('shop-v1.yaml') < text.indexOf('manual-approval.yaml'));
  assert.match(text, /goes straight to 100 %/);
  assert.doesNotMatch(text, /crash/);
});

test('after the demo a canary is offered, and a crash once that has ended; ids are captured', () => {
  const text = hintLines('shown', place, []).join('\n');
  assert.match(text, /DEPLOYMENT=\$\(echo "\$STARTED"/);
  assert.match(text, /deployments\/\$DEPLOYMENT\/steps\/canary-step-2\/approve/);
  assert.ok(text.indexOf('/rollback') < text.indexOf('when that has ended, a version that crashes'));
  assert.doesNotMatch(text, /shop-v1\.yaml/);
});

test('kubectl is given one type a line, as it takes no more with --watch', () => {
  for (const line of hintLines('shown', place, []).filter((each) => each.includes('kubectl')))
    assert.match(line, /get [a-z]+ -n shop --watch$/);
});

test('on a later start only what is in progress is told, with the call that it waits for', () => {
  assert.equal(hintLines('later', place, []).length, 1);
  const paused = {
    ...waiting,
    application: 'cart',
    phase: 'PAUSED',
    waitingFor: 'the end of the pause',
    approvable: null,
  };
  const lines = hintLines('later', place, [waiting, paused]);
  assert.ok(lines.some((line) => line.includes('shop awaits approval of canary-step-2:')));
  assert.ok(lines.some((line) => line.includes('/deployments/d-1/steps/canary-step-2/approve')));
  assert.ok(lines.includes('  cart is PAUSED: waits for the end of the pause'));
  assert.doesNotMatch(lines.join('\n'), /pipelines\/kubernetes/);
});

test("on a cluster of one's own the examples are sent with its account, and not those of the sandbox", () => {
  const own = { ...place, account: 'east', kubeconfig: 'east.yaml' };
  const lines = [...hintLines('fresh', own, []), ...hintLines('shown', own, [])];
  const starts = lines.filter((line) => line.includes('examples/'));
  assert.equal(starts.length, 4);
  for (const line of starts) assert.match(line, /sed -e 's\/account: sandbox\/account: east\/'/);
  assert.ok(lines.some((line) => line.includes("-e 's/shop:2.0.0/shop:2.1.0-crash/'")));
  assert.ok(lines.includes('  kubectl --kubeconfig east.yaml get pods -n shop --watch'));
});
