import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { canRollBack } from './deployment-machine.ts';
import type { StrategyStep } from './plan.ts';
import { programmeOf } from './programme.ts';
import { driveUntil, must } from './testing/drive.ts';
import { createSetup, createWorld } from './testing/world.ts';

const weight = (value: number): StrategyStep => ({ kind: 'setWeight', weight: value });
const pause: StrategyStep = { kind: 'pause', duration: 1, unit: 'MINUTES' };

type Options = Parameters<typeof createSetup>[0];

/** The ids of a run's instructions once its preflight is done. */
function order(options: Options): string[] {
  const setup = createSetup(options);
  const surveyed = driveUntil(setup, createWorld(setup), ({ state }) => state.survey !== null);
  return programmeOf(surveyed.state).map(({ id }) => id);
}

/** The ids of its way back, asked for as it stands at an instruction. */
function wayBack(options: Options, at: string): string[] {
  const setup = createSetup(options);
  const there = driveUntil(setup, createWorld(setup), ({ state }) => state.at === at && state.effect === null);
  assert.equal(there.state.at, at);
  return programmeOf(must(setup, there, { do: 'rollBack' }).state).map(({ id }) => id);
}

const start = [
  'S1.survey',
  'S2.pin.0',
  'S2.wait.0',
  'S3.canary.0',
  'S4.create.0',
  'S4.scale.0',
  'S5.wait.0',
  'S6.create.0',
];
const finishStored =
  'F1.weight.0 F1.drain F2.pin.0 F2.new.0 F2.wait.0 F2.drain F3.weight.0 F3.drain F4.delete.0 F5.canary.0'.split(' ');
const finish =
  'F1.weight.0 F1.mesh.0 F1.drain F2.pin.0 F2.new.0 F2.wait.0 F2.drain F3.weight.0 F3.mesh.0 F3.drain F4.delete.0 F4.mesh.0 F5.canary.0'.split(
    ' ',
  );
const last = ['F6.new.0', 'F6.ready.0', 'F6.scale.0', 'F6.gone.0', 'F6.delete.0', 'F7.unpin.0', 'end'];

describe('the order of work', () => {
  const rows: [string, Options, string[]][] = [
    ['no steps', {}, ['P.survey', ...start, 'S6.mesh.0', ...finish, ...last]],
    ['no steps, confirmed as stored', { mesh: 'stored' }, ['P.survey', ...start, ...finishStored, ...last]],
    [
      'two weights and a pause between them',
      { steps: [weight(20), pause, weight(60)] },
      [
        'P.survey',
        ...start,
        'S6.mesh.0',
        'S7.1.weight.0',
        'S7.1.mesh.0',
        'step.2',
        'S7.3.weight.0',
        'S7.3.mesh.0',
        ...finish,
        ...last,
      ],
    ],
    [
      'a pause first: nothing of the new version exists until it is over (C07)',
      { steps: [pause, weight(20)], mesh: 'stored' },
      ['P.survey', 'step.1', ...start, 'S7.2.weight.0', ...finishStored, ...last],
    ],
    [
      'pauses only',
      { steps: [pause, pause], mesh: 'stored' },
      ['P.survey', 'step.1', 'step.2', ...start, ...finishStored, ...last],
    ],
    [
      'a lower weight waits until the old version can take that much',
      { steps: [weight(60), weight(20)], mesh: 'stored' },
      ['P.survey', ...start, 'S7.1.weight.0', 'S7.2.enough.0', 'S7.2.weight.0', ...finishStored, ...last],
    ],
    [
      'other objects before everything else, once',
      { objects: true, mesh: 'stored' },
      ['P.survey', 'P0.object.0', 'P0.object.1', 'P0.object.2', ...start, ...finishStored, ...last],
    ],
    [
      'a first deployment',
      { first: true, steps: [weight(20)] },
      ['P.survey', 'S4.create.0', 'S4.scale.0', 'S5.pods.0', 'end'],
    ],
    [
      'a version of no pods replaces the old one without splitting traffic',
      { replicas: 0 },
      ['P.survey', 'S4.create.0', 'S4.scale.0', 'S5.pods.0', 'F6.scale.0', 'F6.gone.0', 'F6.delete.0', 'end'],
    ],
  ];
  for (const [name, options, ids] of rows) {
    test(name, () => {
      assert.deepEqual(order(options), ids);
    });
  }
});

describe('the way back acts only on what exists', () => {
  const steps = [weight(20), pause, weight(60)];
  const r1 = ['R1.root.0', 'R1.old.0', 'R1.enough.0', 'R1.weight.0', 'R1.mesh.0', 'R1.drain'];
  const r4 = ['R4.scale.0', 'R4.gone.0', 'R4.delete.0'];
  const rows: [string, string, Options, string[]][] = [
    [
      'before S2 with other objects',
      'step.1',
      { objects: true, steps: [pause] },
      ['R6.object.2', 'R6.object.0', 'end'],
    ],
    ['before S2', 'step.1', { steps: [pause] }, ['end']],
    ['after S2', 'S2.wait.0', { steps }, ['R5.unpin.0', 'end']],
    ['after S4', 'S5.wait.0', { steps }, ['R3.canary.0', ...r4, 'R5.unpin.0', 'end']],
    [
      'after S6, nothing shifted',
      'S6.mesh.0',
      { steps },
      ['R2.delete.0', 'R2.mesh.0', 'R3.canary.0', ...r4, 'R5.unpin.0', 'end'],
    ],
    [
      'at a weight',
      'step.2',
      { steps },
      [...r1, 'R2.delete.0', 'R2.mesh.0', 'R3.canary.0', ...r4, 'R5.unpin.0', 'end'],
    ],
    [
      'at the end of F1',
      'F1.drain',
      { steps },
      [...r1, 'R2.delete.0', 'R2.mesh.0', 'R3.canary.0', ...r4, 'R5.unpin.0', 'end'],
    ],
    ['of a first deployment', 'S5.pods.0', { first: true }, [...r4, 'end']],
  ];
  for (const [name, at, options, ids] of rows) {
    test(name, () => {
      assert.deepEqual(wayBack(options, at), ids);
    });
  }
});

test('law 4: from the commit of F2’s intent on there is no roll back', () => {
  const setup = createSetup({ steps: [weight(50)] });
  const drained = driveUntil(setup, createWorld(setup), ({ state }) => state.at === 'F1.drain');
  assert.equal(canRollBack(drained.state), true);
  const turning = driveUntil(setup, drained, ({ state }) => state.at === 'F2.pin.0');
  assert.notEqual(turning.state.effect, null);
  assert.equal(canRollBack(turning.state), false);
  assert.equal(turning.state.status, 'FINISHING');
  const asked = must(setup, turning, { do: 'rollBack' });
  assert.equal(driveUntil(setup, asked).state.status, 'SUCCEEDED');
});

test('law 4: where F2 was refused for certain, the run is at F1 again and turns back', () => {
  const setup = createSetup({ steps: [weight(50)] });
  const turning = driveUntil(setup, createWorld(setup), ({ state }) => state.at === 'F2.pin.0');
  const refused = must(setup, turning, { do: 'perform', how: 'forbidden' });
  assert.equal(refused.state.status, 'ROLLING_BACK');
  const { status, error } = driveUntil(setup, refused).state;
  assert.deepEqual([status, error], ['FAILED', 'not allowed (HTTP 422)']);
});

test('law 4: where F2 was lost and not found, it is sent again: a late copy must not meet a run that turned back', () => {
  const setup = createSetup({ steps: [weight(50)] });
  const turning = driveUntil(setup, createWorld(setup), ({ state }) => state.at === 'F2.pin.0');
  const lost = must(setup, turning, { do: 'perform', how: 'lostNotApplied' });
  const read = must(setup, lost, { do: 'perform', how: 'ok' });
  assert.equal(canRollBack(read.state), false);
  assert.equal(read.state.effect?.kind, 'write');
});
