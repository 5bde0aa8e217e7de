import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Refusal } from './api-client.ts';
import { demoTrouble } from './demo.ts';

const url = 'http://127.0.0.1:8080';

test('a demo in the way of a deployment in progress says which, and how to cancel it', () => {
  const link = `${url}/pipelines/019-p`;
  const words = demoTrouble(new Refusal('shop is in progress', 'deployment.conflict', link), url);
  assert.match(words, /the demo is left out: http:\/\/127\.0\.0\.1:8080\/pipelines\/019-p\n/);
  assert.match(words, /shown at the next start/);
  assert.match(words, /curl -sS -X POST http:\/\/127\.0\.0\.1:8080\/pipelines\/019-p\/cancel -H "Authorization/);
});

test('a demo that fails otherwise says why, without a stack', () => {
  assert.equal(demoTrouble(new Error('no answer'), url), '  The demo could not go on: no answer');
  assert.equal(
    demoTrouble(new Refusal('POST /pipelines answered 409: busy', 'object.claimed'), url),
    '  The demo could not go on: POST /pipelines answered 409: busy',
  );
  assert.equal(demoTrouble('cut', url), '  The demo could not go on: cut');
});
