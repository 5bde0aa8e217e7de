import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { shownText, text } from './text.ts';

describe('text of others', () => {
  test('is cut between characters, not inside of one', () => {
    assert.equal(shownText('😀'.repeat(400), 500), '😀'.repeat(400));
    assert.equal(shownText(`x${'😀'.repeat(600)}`, 500), `x${'😀'.repeat(498)}…`);
    for (const length of [1, 2, 3, 4, 5]) assert.ok(shownText('😀'.repeat(99), length).isWellFormed());
  });
  test('holds nothing that is invisible or cannot be stored', () => {
    assert.equal(shownText(' a\r\n\u001b[31mb\u202ec\u0000d\u200be\u2028\ud83d ', 99), 'a [31mb c d e');
    assert.equal(shownText('\udc00\ud800', 99), '');
    assert.ok(text(99).safeParse(shownText('a\0b\ud800c', 99)).success);
  });
});
