import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { canRollBack } from './deployment-machine.ts';
import type { StrategyStep } from './plan.ts';
import { programmeOf } from './programme.ts';
import { driveUntil, must } from './testing/drive.ts';
import { samplePairs } from './testing/samples.ts';
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
  'S4.noted.0',
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
const last = [
  'F6.new.0',
  'F6.ready.0',
  'F6.scale.0',
  'F6.gone.0',
  'F6.delete.0',
  'F7.unpin.0',
  'F7.new.0',
  'F7.ready.0',
  'end',
];

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
      ['P.survey', 'S4.create.0', 'S4.noted.0', 'S4.scale.0', 'S5.pods.0', 'end'],
    ],
    [
      'a version of no pods replaces the old one without splitting traffic',
      { replicas: 0 },
      [
        'P.survey',
        'S4.create.0',
        'S4.noted.0',
        'S4.scale.0',
        'S5.pods.0',
        'F6.scale.0',
        'F6.gone.0',
        'F6.delete.0',
        'end',
      ],
    ],
  ];
  for (const [name, options, ids] of rows) {
    test(name, () => {
      assert.deepEqual(order(options), ids);
    });
  }
});

describe('the order of work of several pairs', () => {
  const of = (what: string, ...indexes: number[]) => indexes.map((index) => `${what}.${index}`);
  const removal = (...indexes: number[]) => [
    ...of('F6.scale', ...indexes),
    ...of('F6.gone', ...indexes),
    ...of('F6.delete', ...indexes),
  ];
  const created = (...indexes: number[]) =>
    indexes.flatMap((index) => [`S4.create.${index}`, `S4.noted.${index}`, `S4.scale.${index}`]);

  test('does each step for all of them before the next begins, in the order of their names', () => {
    const both = (what: string) => of(what, 0, 1);
    assert.deepEqual(order({ pairs: samplePairs.two, steps: [weight(20)] }), [
      ...['P.survey', 'S1.survey', ...both('S2.pin'), ...both('S2.wait'), ...both('S3.canary'), ...created(0, 1)],
      ...[...both('S5.wait'), ...both('S6.create'), ...both('S6.mesh'), ...both('S7.1.weight'), ...both('S7.1.mesh')],
      ...[
        ...both('F1.weight'),
        ...both('F1.mesh'),
        'F1.drain',
        ...both('F2.pin'),
        ...both('F2.new'),
        ...both('F2.wait'),
      ],
      ...['F2.drain', ...both('F3.weight'), ...both('F3.mesh'), 'F3.drain', ...both('F4.delete'), ...both('F4.mesh')],
      ...[...both('F5.canary'), ...both('F6.new'), ...both('F6.ready'), ...removal(0, 1)],
      ...[...both('F7.unpin'), ...both('F7.new'), ...both('F7.ready'), 'end'],
    ]);
  });

  test('does what is of the Deployment once, however many root Services lead to it', () => {
    const ids = order({ pairs: samplePairs.shared, mesh: 'stored' });
    assert.deepEqual(
      ids.filter((id) => /^(S4|F6|F2\.new)/.test(id)),
      [...created(0), 'F2.new.0', 'F6.new.0', ...of('F6.ready', 0, 1), ...removal(0)],
    );
    assert.deepEqual(
      ids.filter((id) => /^(S6|F7)/.test(id)),
      [...of('S6.create', 0, 1), ...of('F7.unpin', 0, 1), 'F7.new.0', 'F7.ready.0'],
    );
  });

  test('shifts nothing of a Deployment that comes for the first time, and has its pods ready before traffic moves', () => {
    const ids = order({ pairs: samplePairs.mixed, mesh: 'stored', steps: [weight(20)] });
    assert.deepEqual(
      ids.filter((id) => /^(S[2-6]|F6\.scale|F7)/.test(id)),
      [
        ...['S2.pin.1', 'S2.wait.1', 'S3.canary.1', ...created(0, 1), 'S5.pods.0', 'S5.wait.1', 'S6.create.1'],
        ...['F6.scale.1', 'F7.unpin.1', ...of('F7.new', 0, 1), ...of('F7.ready', 0, 1)],
      ],
    );
  });

  test('turns all of them back together, R1 of all before R2 of any', () => {
    const ids = wayBack({ pairs: samplePairs.two, steps: [weight(20), pause], mesh: 'stored' }, 'step.2');
    assert.deepEqual(ids, [
      ...[...of('R1.root', 0, 1), ...of('R1.old', 0, 1), 'R1.enough.0', 'R1.weight.0', 'R1.enough.1', 'R1.weight.1'],
      ...['R1.drain', ...of('R2.delete', 0, 1), ...of('R3.canary', 0, 1)],
      ...[...of('R4.scale', 0, 1), ...of('R4.gone', 0, 1), ...of('R4.delete', 0, 1), ...of('R5.unpin', 0, 1), 'end'],
    ]);
  });

  test('gives that pair back first whose new version has traffic and no pod', () => {
    const setup = createSetup({ pairs: samplePairs.two, steps: [weight(20), pause], mesh: 'stored' });
    let world = driveUntil(setup, createWorld(setup), ({ state }) => state.at === 'step.2');
    world = must(setup, world, { do: 'kill', hash: 'new', count: 2, pair: 1 });
    world = must(setup, world, { do: 'look' });
    while (world.news.length > 0) world = must(setup, world, { do: 'tell' });
    assert.equal(world.state.status, 'ROLLING_BACK');
    const given = programmeOf(world.state).flatMap(({ id }) => (id.startsWith('R1.weight') ? [id] : []));
    assert.deepEqual(given, ['R1.weight.1', 'R1.weight.0']);
  });

  test('law 4: the first F2 takes the way back from all of them', () => {
    const setup = createSetup({ pairs: samplePairs.two, steps: [weight(50)] });
    const first = driveUntil(setup, createWorld(setup), ({ state }) => state.at === 'F2.pin.0');
    assert.equal(canRollBack(first.state), false);
    const second = driveUntil(setup, first, ({ state }) => state.at === 'F2.pin.1');
    assert.equal(canRollBack(second.state), false);
    assert.equal(driveUntil(setup, must(setup, second, { do: 'rollBack' })).state.status, 'SUCCEEDED');
  });
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
