import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type HandedNews, newestOf, takeHanded } from './handed-news.ts';
import type { UnfoldedEvent } from './ownership.ts';

const event = (number: number): UnfoldedEvent => ({ number, type: 'observed', data: {}, at: new Date(0) });

/** A driver that knows its row at version 7, where event 20 is the newest. */
function drive(handed: number[][], more: Partial<HandedNews> = {}): HandedNews {
  return {
    row: { version: 7 },
    news: [],
    newest: 20,
    poked: false,
    handed: handed.map((numbers) => numbers.map(event)),
    ...more,
  };
}

function taken(driver: HandedNews) {
  takeHanded(driver);
  const { row, news, newest, poked, handed } = driver;
  assert.deepEqual(handed, []);
  return { version: row.version, news: news.map(({ number }) => number), newest, poked };
}

test('each append counts as one bump of the version, however many events it brought', () => {
  assert.deepEqual(taken(drive([[21, 22], [25]])), { version: 9, news: [21, 22, 25], newest: 25, poked: false });
});

test('what the row held already when it was read is not counted again', () => {
  // Counted, an append of somebody else would go unseen: the version would be the right one.
  assert.deepEqual(taken(drive([[19], [20]])), { version: 7, news: [], newest: 20, poked: false });
});

test('where it is not known what the row held, it is read again', () => {
  assert.deepEqual(taken(drive([[21]], { newest: null })), { version: 7, news: [], newest: null, poked: true });
});

test('a row that was just read is known up to its newest news, and not beyond without any', () => {
  assert.equal(newestOf([event(3), event(5)]), 5);
  assert.equal(newestOf([]), null);
});
