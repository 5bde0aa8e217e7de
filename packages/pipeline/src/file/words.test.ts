import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shorten } from './words.ts';

test('a word in a message is short, on one line, and whole characters', () => {
  assert.equal(shorten('a\nb\u202ec'), 'a?b?c');
  assert.equal(shorten('x'.repeat(60)), 'x'.repeat(60));
  assert.equal(shorten('x'.repeat(61)), `${'x'.repeat(57)}...`);
  assert.equal(shorten(`${'x'.repeat(56)}${'\u{1f600}'.repeat(9)}`), `${'x'.repeat(56)}...`);
  for (let length = 50; length < 60; length += 1)
    assert.ok(shorten(`${'x'.repeat(length)}${'\u{1f600}'.repeat(9)}`).isWellFormed());
});
