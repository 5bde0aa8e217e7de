import assert from 'node:assert/strict';
import { test } from 'node:test';
import { storableJson } from './storable-json.ts';

test('NUL and halves of surrogate pairs are replaced, in keys too', () => {
  const json = storableJson({ a: ['x\0y', { b: '\ud83d' }], '\udc00k': '\ud83dz', c: `${'😀'.repeat(3)}\udfff` });
  assert.deepEqual(JSON.parse(json), { a: ['x\ufffdy', { b: '\ufffd' }], '\ufffdk': '\ufffdz', c: '😀😀😀\ufffd' });
});

test('everything else stays, also what looks like an escape', () => {
  const value = { text: '\\u0000 \\\\ud800 \u001b\n\t"\u2028 é 😀 \\', at: null, list: [1, true] };
  assert.deepEqual(JSON.parse(storableJson(value)), value);
  assert.equal(storableJson({ when: new Date(0), none: undefined }), '{"when":"1970-01-01T00:00:00.000Z"}');
});
