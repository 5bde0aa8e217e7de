import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSharedAnswers } from './shared-answers.ts';

/** A cluster that answers when told to, each time with how often it was asked before. */
function createCluster() {
  const open: { answer(): void; fail(): void }[] = [];
  let asked = 0;
  return {
    ask: () => {
      const number = asked++;
      return new Promise<number>((resolve, reject) =>
        open.push({ answer: () => resolve(number), fail: () => reject(new Error(`${number}`)) }),
      );
    },
    asked: () => asked,
    /** Settles the oldest question under way, and lets all that follows from it happen. */
    async settle(how: 'answer' | 'fail' = 'answer'): Promise<void> {
      open.shift()?.[how]();
      await new Promise(setImmediate);
    },
  };
}

test('nobody gets an answer that was begun before he asked, and all who wait share one', async () => {
  const shared = createSharedAnswers();
  const cluster = createCluster();
  const first = shared.ask('pods', cluster.ask);
  const waiting = Array.from({ length: 99 }, () => shared.ask('pods', cluster.ask));
  assert.equal(cluster.asked(), 1);
  await cluster.settle();
  assert.equal(await first, 0);
  assert.equal(cluster.asked(), 2);
  // Under way since before this one asked.
  const later = shared.ask('pods', cluster.ask);
  await cluster.settle();
  assert.deepEqual(new Set(await Promise.all(waiting)), new Set([1]));
  await cluster.settle();
  assert.equal(await later, 2);
});

test('an answer is not kept, and other questions wait for nothing', async () => {
  const shared = createSharedAnswers();
  const cluster = createCluster();
  const pods = shared.ask('pods', cluster.ask);
  const services = shared.ask('services', cluster.ask);
  assert.equal(cluster.asked(), 2);
  await cluster.settle();
  await cluster.settle();
  assert.deepEqual(await Promise.all([pods, services]), [0, 1]);
  const again = shared.ask('pods', cluster.ask);
  await cluster.settle();
  assert.equal(await again, 2);
});

test('who waits for a question that failed is asked for anew', async () => {
  const shared = createSharedAnswers();
  const cluster = createCluster();
  const failing = assert.rejects(shared.ask('pods', cluster.ask), /0/);
  const waiting = shared.ask('pods', cluster.ask);
  await cluster.settle('fail');
  await failing;
  await cluster.settle();
  assert.equal(await waiting, 1);
});
