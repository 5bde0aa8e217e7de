import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createAllowance } from './allowance.ts';

test('an allowance is so many at once, then one in a while, for each by itself', () => {
  const time = { now: 5 };
  const { take } = createAllowance({ atOnce: 3, everyMs: 1000 }, () => time.now);
  const taken = (id: string, tries: number) => Array.from({ length: tries }, () => take(id)).filter(Boolean).length;
  assert.equal(taken('a', 10), 3);
  assert.equal(taken('b', 1), 1);
  time.now += 999;
  assert.equal(taken('a', 10), 0);
  time.now += 1;
  assert.equal(taken('a', 10), 1);
  time.now += 2500;
  assert.equal(taken('a', 10), 2);
  time.now += 1_000_000;
  assert.equal(taken('a', 10), 3);
  assert.equal(taken('b', 10), 3);
});
