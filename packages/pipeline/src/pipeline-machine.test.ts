import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { DeploymentStatus } from './deployment-state.ts';
import {
  decidePipeline,
  initialPipelineState,
  type PipelineEvent,
  type PipelineState,
  type PipelineStatus,
  readPipelineState,
  shownPipelineStatus,
} from './pipeline-machine.ts';

type Told = PipelineEvent extends infer Each ? (Each extends PipelineEvent ? Omit<Each, 'at'> : never) : never;

const at = '2026-01-01T00:00:00.000Z';
const two = () =>
  initialPipelineState([
    { id: 'a', target: 'qa' },
    { id: 'b', target: 'prod' },
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

  test('a cancel reaches the deployments that have not ended, once', () => {
    const cancel = { type: 'cancelRequested' as const, by: 'ada' };
    const { state, effects } = fold(two(), ended('a', 'SUCCEEDED'), cancel, cancel);
    assert.deepEqual(effects, [{ kind: 'cancelDeployment', deployment: 'b', by: 'ada' }]);
    assert.equal(state.status, 'RUNNING');
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

  test('whatever the order and the repetitions, each deployment is started once at most and the status follows', () => {
    const event = fc.oneof(
      fc.constant({ type: 'pipelineStarted' as const }),
      fc.constant({ type: 'cancelRequested' as const, by: 'ada' }),
      fc
        .tuple(
          fc.constantFrom('a', 'b'),
          fc.constantFrom('SUCCEEDED' as const, 'FAILED' as const, 'CANCELLED' as const),
        )
        .map(([deployment, status]) => ended(deployment, status)),
    );
    fc.assert(
      fc.property(fc.array(event, { maxLength: 12 }), (events) => {
        const { state, effects } = fold(two(), ...events);
        for (const kind of ['startDeployment', 'cancelDeployment']) {
          const asked = effects.filter((effect) => effect.kind === kind).map(({ deployment }) => deployment);
          assert.equal(new Set(asked).size, asked.length, `${kind} twice`);
        }
        const open = Object.values(state.targets).some((target) => target.ended === null);
        assert.equal(state.status === 'RUNNING', open);
        assert.deepEqual(JSON.parse(JSON.stringify(state)), state);
      }),
      { seed: 20_260_101 },
    );
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

test('law 10: a stored state of an unknown version is an error by name', () => {
  const state = two();
  assert.deepEqual(readPipelineState(JSON.parse(JSON.stringify(state))), state);
  assert.throws(() => readPipelineState({ ...state, stateVersion: '1' }), /pipeline state of unknown version 1/);
  assert.throws(() => readPipelineState(undefined), /unknown version undefined/);
});
