import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { DeploymentStatus } from './deployment-state.ts';
import {
  decidePipeline,
  initialPipelineState,
  type PipelineEvent,
  type PipelineState,
  type PipelineStatus,
  readPipelineState,
  shownPipelineStatus,
  waitsFor,
} from './pipeline-machine.ts';

type Told = PipelineEvent extends infer Each ? (Each extends PipelineEvent ? Omit<Each, 'at'> : never) : never;

const at = '2026-01-01T00:00:00.000Z';
const two = () =>
  initialPipelineState([
    { id: 'a', target: 'qa' },
    { id: 'b', target: 'prod' },
  ]);

/** staging, then us and eu beside each other, then prod. */
const diamond = () =>
  initialPipelineState([
    { id: 'a', target: 'staging' },
    { id: 'b', target: 'us', dependsOn: ['staging'] },
    { id: 'c', target: 'eu', dependsOn: ['staging'] },
    { id: 'd', target: 'prod', dependsOn: ['us', 'eu'] },
  ]);

function fold(state: PipelineState, ...events: Told[]) {
  const effects = [];
  let folded = state;
  for (const event of events) {
    const decided = decidePipeline(folded, { at, ...event } as PipelineEvent);
    folded = decided.state;
    effects.push(...decided.effects);
  }
  return { state: folded, effects };
}

const ended = (deployment: string, status: 'SUCCEEDED' | 'FAILED' | 'CANCELLED') => ({
  type: 'targetEnded' as const,
  deployment,
  status,
});

describe('the machine of a pipeline', () => {
  test('its start starts every deployment, once', () => {
    const { state, effects } = fold(two(), { type: 'pipelineStarted' }, { type: 'pipelineStarted' });
    assert.equal(state.status, 'RUNNING');
    assert.deepEqual(effects, [
      { kind: 'startDeployment', deployment: 'a' },
      { kind: 'startDeployment', deployment: 'b' },
    ]);
  });

  test('a target begins when all that it depends on have SUCCEEDED, and not before', () => {
    const begun = fold(diamond(), { type: 'pipelineStarted' });
    assert.deepEqual(begun.effects, [{ kind: 'startDeployment', deployment: 'a' }]);
    const both = fold(begun.state, ended('a', 'SUCCEEDED'));
    assert.deepEqual(both.effects, [
      { kind: 'startDeployment', deployment: 'b' },
      { kind: 'startDeployment', deployment: 'c' },
    ]);
    const one = fold(both.state, ended('b', 'SUCCEEDED'));
    assert.deepEqual(one.effects, []);
    assert.deepEqual(waitsFor(one.state, 'd'), ['eu']);
    const last = fold(one.state, ended('c', 'SUCCEEDED'));
    assert.deepEqual(last.effects, [{ kind: 'startDeployment', deployment: 'd' }]);
    assert.deepEqual(waitsFor(last.state, 'd'), []);
    assert.equal(fold(last.state, ended('d', 'SUCCEEDED')).state.status, 'SUCCEEDED');
  });

  test('what depends on a target that failed never begins and is told of it at once; the rest goes on', () => {
    const chain = initialPipelineState([
      { id: 'c', target: 'prod', dependsOn: ['eu'] },
      { id: 'b', target: 'eu', dependsOn: ['staging'] },
      { id: 'a', target: 'staging' },
      { id: 'x', target: 'beside' },
    ]);
    const { state, effects } = fold(chain, { type: 'pipelineStarted' }, ended('a', 'FAILED'));
    assert.deepEqual(effects.slice(2), [
      { kind: 'withdrawDeployment', deployment: 'c', target: 'staging', status: 'FAILED' },
      { kind: 'withdrawDeployment', deployment: 'b', target: 'staging', status: 'FAILED' },
    ]);
    assert.deepEqual(waitsFor(state, 'c'), []);
    const open = fold(state, ended('b', 'CANCELLED'), ended('c', 'CANCELLED'));
    assert.deepEqual([open.state.status, open.effects], ['RUNNING', []]);
    assert.equal(fold(open.state, ended('x', 'SUCCEEDED')).state.status, 'FAILED');
  });

  test('a target that a person turned back takes with it what depends on it', () => {
    const { state, effects } = fold(
      diamond(),
      { type: 'pipelineStarted' },
      ended('a', 'SUCCEEDED'),
      ended('b', 'CANCELLED'),
    );
    assert.deepEqual(effects.at(-1), {
      kind: 'withdrawDeployment',
      deployment: 'd',
      target: 'us',
      status: 'CANCELLED',
    });
    assert.equal(fold(state, ended('d', 'CANCELLED'), ended('c', 'SUCCEEDED')).state.status, 'CANCELLED');
  });

  test('a cancel reaches the deployments that have not ended, once', () => {
    const cancel = { type: 'cancelRequested' as const, by: 'ada' };
    const { state, effects } = fold(two(), { type: 'pipelineStarted' }, ended('a', 'SUCCEEDED'), cancel, cancel);
    assert.deepEqual(effects.slice(2), [{ kind: 'cancelDeployment', deployment: 'b', by: 'ada' }]);
    assert.equal(state.status, 'RUNNING');
  });

  test('a cancel reaches those that wait as well, and nothing begins after it', () => {
    const { state, effects } = fold(
      diamond(),
      { type: 'pipelineStarted' },
      { type: 'cancelRequested', by: 'ada' },
      ended('a', 'SUCCEEDED'),
    );
    assert.deepEqual(
      effects.slice(1).map(({ kind, deployment }) => `${kind} ${deployment}`),
      ['a', 'b', 'c', 'd'].map((deployment) => `cancelDeployment ${deployment}`),
    );
    const rest = fold(state, ended('b', 'CANCELLED'), ended('c', 'CANCELLED'), ended('d', 'CANCELLED'));
    assert.deepEqual([rest.state.status, rest.effects], ['CANCELLED', []]);
  });

  test('nothing is started after a cancel', () => {
    const { effects } = fold(two(), { type: 'cancelRequested', by: 'ada' }, { type: 'pipelineStarted' });
    assert.ok(effects.every(({ kind }) => kind === 'cancelDeployment'));
  });

  const ends: [string, Told[], PipelineStatus][] = [
    ['all targets succeeded', [ended('a', 'SUCCEEDED'), ended('b', 'SUCCEEDED')], 'SUCCEEDED'],
    ['one failed', [ended('a', 'SUCCEEDED'), ended('b', 'FAILED')], 'FAILED'],
    ['one failed and one was cancelled', [ended('a', 'CANCELLED'), ended('b', 'FAILED')], 'FAILED'],
    ['one was cancelled', [ended('a', 'CANCELLED'), ended('b', 'SUCCEEDED')], 'CANCELLED'],
    [
      'it was cancelled, but the last target was past its point of no return',
      [{ type: 'cancelRequested', by: 'ada' }, ended('a', 'SUCCEEDED'), ended('b', 'SUCCEEDED')],
      'CANCELLED',
    ],
    ['one is still open', [ended('a', 'FAILED')], 'RUNNING'],
    [
      'one ended twice, differently',
      [ended('a', 'FAILED'), ended('a', 'SUCCEEDED'), ended('b', 'SUCCEEDED')],
      'FAILED',
    ],
    ['a target that is not its own ended', [ended('a', 'SUCCEEDED'), ended('x', 'FAILED')], 'RUNNING'],
  ];
  for (const [name, events, status] of ends) {
    test(`where ${name}, it is ${status}`, () => {
      assert.equal(fold(two(), { type: 'pipelineStarted' }, ...events).state.status, status);
    });
  }

  test('law 6: its end is final', () => {
    const { state } = fold(two(), ended('a', 'SUCCEEDED'), ended('b', 'SUCCEEDED'));
    const late: Told[] = [{ type: 'pipelineStarted' }, { type: 'cancelRequested', by: 'ada' }, ended('a', 'FAILED')];
    for (const event of late) {
      const decided = fold(state, event);
      assert.equal(decided.state, state);
      assert.deepEqual(decided.effects, []);
    }
  });

  test('law 10: an unknown event is an error by name', () => {
    const event = { at, type: 'targetVanished' } as unknown as PipelineEvent;
    assert.throws(() => decidePipeline(two(), event), /targetVanished/);
  });
});

describe('the status that readers are shown', () => {
  const rows: [PipelineStatus, DeploymentStatus[], PipelineStatus][] = [
    ['RUNNING', ['RUNNING', 'AWAITING_APPROVAL'], 'RUNNING'],
    ['RUNNING', ['PAUSED', 'AWAITING_APPROVAL'], 'AWAITING_APPROVAL'],
    ['RUNNING', ['PAUSED', 'SUCCEEDED'], 'PAUSED'],
    ['RUNNING', ['PAUSED', 'WAITING'], 'PAUSED'],
    ['RUNNING', ['AWAITING_APPROVAL', 'NOT_STARTED'], 'AWAITING_APPROVAL'],
    ['RUNNING', ['ROLLING_BACK', 'PAUSED'], 'RUNNING'],
    ['RUNNING', ['FINISHING'], 'RUNNING'],
    ['RUNNING', ['NOT_STARTED'], 'RUNNING'],
    ['RUNNING', ['SUCCEEDED'], 'RUNNING'],
    ['RUNNING', [], 'RUNNING'],
    ['QUEUED', ['NOT_STARTED'], 'QUEUED'],
    ['CANCELLED', ['CANCELLED'], 'CANCELLED'],
    ['FAILED', ['FAILED', 'SUCCEEDED'], 'FAILED'],
  ];
  for (const [stored, deployments, shown] of rows) {
    test(`stored ${stored} with [${deployments.join(', ')}] is ${shown}`, () => {
      assert.equal(shownPipelineStatus(stored, deployments), shown);
    });
  }
});

test('a state of version 1, whose targets all began at once, is read and goes on', () => {
  const stored = {
    stateVersion: 1,
    status: 'RUNNING',
    cancelledBy: null,
    targets: {
      a: { target: 'qa', started: true, ended: 'SUCCEEDED' },
      b: { target: 'prod', started: true, ended: null },
    },
  };
  const state = readPipelineState(stored);
  assert.deepEqual(state.targets, [
    { deployment: 'a', target: 'qa', dependsOn: [], told: 'start', ended: 'SUCCEEDED' },
    { deployment: 'b', target: 'prod', dependsOn: [], told: 'start', ended: null },
  ]);
  const { state: after, effects } = fold(state, ended('b', 'SUCCEEDED'));
  assert.deepEqual([after.status, effects], ['SUCCEEDED', []]);
});

test('law 10: a stored state of an unknown version is an error by name', () => {
  const state = two();
  assert.deepEqual(readPipelineState(JSON.parse(JSON.stringify(state))), state);
  assert.throws(() => readPipelineState({ ...state, stateVersion: '2' }), /pipeline state of unknown version 2/);
  assert.throws(() => readPipelineState(undefined), /unknown version undefined/);
});
