import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isId, newId, templateHash } from './ids.ts';

test('ids are version 7 UUIDs that sort by time', () => {
  const early = newId(new Date('2031-01-02T03:04:05.000Z'));
  const late = newId(new Date('2031-01-02T03:04:05.001Z'));
  assert.match(early, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.ok(early < late);
  assert.notEqual(newId(new Date(0)), newId(new Date(0)));
});

test('a text that cannot be an id is told from one that can', () => {
  assert.equal(isId(newId(new Date(0))), true);
  for (const text of ['', 'x', '../..', `${newId(new Date(0))} `, '0'.repeat(36)]) assert.equal(isId(text), false);
});

test('a template hash is 10 lower-case letters and digits, stable, and differs by run and by Deployment', () => {
  const hash = templateHash('018f0000-0000-7000-8000-000000000000', 'web');
  assert.match(hash, /^[a-z0-9]{10}$/);
  assert.equal(hash, templateHash('018f0000-0000-7000-8000-000000000000', 'web'));
  assert.notEqual(hash, templateHash('018f0000-0000-7000-8000-000000000001', 'web'));
  assert.notEqual(hash, templateHash('018f0000-0000-7000-8000-000000000000', 'api'));
});
