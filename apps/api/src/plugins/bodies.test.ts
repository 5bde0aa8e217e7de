import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '@cdaas/contract/errors.ts';
import { depthOf, readJson } from './bodies.ts';

test('depth counts brackets outside of strings', () => {
  for (const [text, depth] of [
    ['1', 0],
    ['[]', 1],
    ['{"a":[{}]}', 3],
    ['["[[[[", "\\"[[", "\\\\"]', 1],
    ['[[],[],[]]', 2],
  ] as const) {
    assert.equal(depthOf(text), depth, text);
  }
});

test('JSON that is too deep is refused before it is parsed', () => {
  const read = readJson(`${'['.repeat(100_000)}`, 64);
  assert.ok(read instanceof AppError);
  assert.equal(read.code, 'body.tooLarge');
});

test('JSON that cannot be read is refused by the place, without what stands there', () => {
  for (const text of ['{"a": planted}', '{"planted": ', '"planted', 'planted']) {
    const read = readJson(text, 64);
    assert.ok(read instanceof AppError);
    assert.equal(read.code, 'request.unreadable');
    assert.ok(!read.message.includes('planted'), read.message);
  }
});
