import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isModestJson } from './modest-json.ts';

const modest = (text: string) => isModestJson(Buffer.from(text));

test('what API servers answer is modest', () => {
  const pod = { metadata: { name: 'a', labels: { 'a"b': 'c\\' } }, spec: { containers: Array(20).fill({ env: [] }) } };
  assert.ok(modest(JSON.stringify({ items: Array(250).fill(pod) })));
  assert.ok(modest(''));
  assert.ok(modest('{"a":'));
});

test('depth counts, whether of lists or objects, and not within strings', () => {
  const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`;
  assert.ok(modest(nested(100)));
  assert.ok(!modest(nested(101)));
  assert.ok(!modest('{"a":'.repeat(101)));
  assert.ok(modest(JSON.stringify({ a: '[{'.repeat(1000), b: `\\"${'['.repeat(1000)}` })));
  assert.ok(modest(JSON.stringify(Array(1000).fill([[{ a: 1 }]]))));
});

test('so does the number of values, however small', () => {
  for (const value of ['{}', '[]', '1', '"a"']) {
    assert.ok(modest(`[${Array(200_000).fill(value).join(',')}]`));
    assert.ok(!modest(`[${Array(600_000).fill(value).join(',')}]`));
  }
  assert.ok(modest(JSON.stringify({ a: ','.repeat(1_000_000) })));
});
