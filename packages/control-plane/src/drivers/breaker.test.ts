import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createBreaker } from './breaker.ts';

function setUp() {
  const time = { now: 1_000_000 };
  const breaker = createBreaker({
    threshold: 3,
    firstDelayMs: 1000,
    maxDelayMs: 4000,
    now: () => time.now,
    random: () => 0.5,
  });
  const fail = (times: number) => {
    for (let n = 0; n < times; n += 1) breaker.failed();
  };
  return { time, breaker, fail };
}

test('it opens after so many failures in a row, not before', () => {
  const { breaker, fail } = setUp();
  fail(2);
  assert.deepEqual(breaker.admit(), { kind: 'pass' });
  fail(1);
  assert.deepEqual(breaker.admit(), { kind: 'refuse', retryInMs: 1000 });
});

test('a success in between starts the count again', () => {
  const { breaker, fail } = setUp();
  fail(2);
  breaker.succeeded();
  fail(2);
  assert.deepEqual(breaker.admit(), { kind: 'pass' });
});

test('after its delay one caller probes and the others are refused', () => {
  const { breaker, fail, time } = setUp();
  fail(3);
  time.now += 1000;
  assert.equal(breaker.admit().kind, 'probe');
  assert.equal(breaker.admit().kind, 'refuse');
  breaker.probeAnswered();
  assert.equal(breaker.admit().kind, 'pass');
});

test('each failed probe doubles the delay up to a limit, and a success resets it', () => {
  const { breaker, fail, time } = setUp();
  fail(3);
  for (const expected of [1000, 2000, 4000, 4000]) {
    assert.deepEqual(breaker.admit(), { kind: 'refuse', retryInMs: expected });
    time.now += expected;
    assert.equal(breaker.admit().kind, 'probe');
    breaker.probeFailed();
  }
  breaker.succeeded();
  fail(3);
  assert.deepEqual(breaker.admit(), { kind: 'refuse', retryInMs: 1000 });
});

test('calls that were under way when it opened do not lengthen the delay or end a probe', () => {
  const { breaker, fail, time } = setUp();
  fail(19);
  assert.deepEqual(breaker.admit(), { kind: 'refuse', retryInMs: 1000 });
  time.now += 1000;
  assert.equal(breaker.admit().kind, 'probe');
  fail(1);
  assert.equal(breaker.admit().kind, 'refuse');
});

test('somebody who saw the other side answer has the next caller probe at once', () => {
  const { breaker, fail } = setUp();
  fail(3);
  breaker.hurry();
  assert.equal(breaker.admit().kind, 'probe');
  breaker.hurry();
  assert.equal(breaker.admit().kind, 'refuse', 'one caller probes, however often it is said');
});

test('a probe that is answered lets calls pass on trial: one failure opens it again, for longer', () => {
  const { breaker, fail, time } = setUp();
  fail(3);
  for (const expected of [1000, 2000, 4000]) {
    assert.deepEqual(breaker.admit(), { kind: 'refuse', retryInMs: expected });
    time.now += expected;
    assert.equal(breaker.admit().kind, 'probe');
    breaker.probeAnswered();
    assert.equal(breaker.admit().kind, 'pass');
    assert.equal(breaker.admit().kind, 'pass', 'others are not kept waiting');
    breaker.answered();
    fail(1);
  }
});

test('that it is back is told once for each time it was open, when a call succeeds', () => {
  let told = 0;
  const time = { now: 0 };
  const breaker = createBreaker({ threshold: 1, onClosed: () => (told += 1), now: () => time.now });
  breaker.succeeded();
  assert.equal(told, 0);
  breaker.failed();
  time.now += 60_000;
  assert.equal(breaker.admit().kind, 'probe');
  breaker.probeAnswered();
  breaker.answered();
  assert.equal(told, 0);
  breaker.succeeded();
  breaker.succeeded();
  assert.equal(told, 1);
});

test('one that begins in doubt tells of the first success', () => {
  let told = 0;
  const breaker = createBreaker({ isDoubted: true, onClosed: () => (told += 1) });
  assert.equal(breaker.admit().kind, 'pass');
  breaker.answered();
  assert.equal(told, 0);
  breaker.succeeded();
  breaker.succeeded();
  assert.equal(told, 1);
});
