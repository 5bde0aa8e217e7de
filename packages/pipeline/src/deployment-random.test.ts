import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { canRollBack } from './deployment-machine.ts';
import { type DeploymentEvent, isFinal } from './deployment-state.ts';
import { canResume } from './mend.ts';
import type { StrategyStep } from './plan.ts';
import { breachesOf, repeatBreaches } from './testing/laws.ts';
import { list, remove } from './testing/model-cluster.ts';
import { samplePairs } from './testing/samples.ts';
import {
  type Action,
  act,
  createSetup,
  createWorld,
  edits,
  type How,
  type Setup,
  type World,
} from './testing/world.ts';

/** Long random runs: everything that the exploration tries once may here happen many times and in any mixture. */

const step: fc.Arbitrary<StrategyStep> = fc.oneof(
  fc.nat(100).map((weight): StrategyStep => ({ kind: 'setWeight', weight })),
  fc.constant<StrategyStep>({ kind: 'pause', duration: 5, unit: 'MINUTES' }),
  fc.constantFrom<StrategyStep>(
    { kind: 'pause', untilApproved: true, approvalExpirationSeconds: null },
    { kind: 'pause', untilApproved: true, approvalExpirationSeconds: 3600 },
  ),
);

const setup = fc
  .record({
    steps: fc.array(step, { maxLength: 4 }),
    replicas: fc.integer({ min: 1, max: 3 }),
    given: fc.boolean(),
    objects: fc.boolean(),
    mesh: fc.constantFrom<Setup['mesh']>('linkerd-smi', 'stored'),
    first: fc.integer({ min: 0, max: 5 }).map((one) => one === 0),
    pairs: fc.constantFrom(undefined, undefined, ...Object.values(samplePairs)),
  })
  .map(({ pairs, ...options }) => createSetup(pairs === undefined ? options : { ...options, pairs }));

type Move = Action | { do: 'replay'; which: number };

const hows: How[] = ['lostApplied', 'lostNotApplied', 'serverError', 'unreachable', 'forbidden', 'throttled'];

const progress: fc.Arbitrary<Move> = fc.constantFrom<Move>(
  { do: 'perform', how: 'ok' },
  { do: 'perform', how: 'ok' },
  { do: 'pods' },
  { do: 'endpoints' },
  { do: 'mesh' },
  { do: 'look' },
  { do: 'tell' },
  { do: 'due' },
);

const trouble: fc.Arbitrary<Move> = fc.oneof(
  fc.constantFrom(...hows).map((how): Move => ({ do: 'perform', how })),
  fc.constant<Move>({ do: 'arrive' }),
  fc.nat().map((which): Move => ({ do: 'replay', which })),
);

const interference: fc.Arbitrary<Move> = fc.oneof(
  fc
    .record({
      hash: fc.constantFrom('new' as const, 'old' as const),
      count: fc.integer({ min: 1, max: 3 }),
      pair: fc.nat(2),
    })
    .map((kill): Move => ({ do: 'kill', ...kill })),
  fc
    .record({
      what: fc.constantFrom(...edits),
      pair: fc.nat(2),
    })
    .map((edit): Move => ({ do: 'edit', ...edit })),
);

const people: fc.Arbitrary<Move> = fc.constantFrom<Move>(
  { do: 'rollBack' },
  { do: 'cancel' },
  { do: 'approve' },
  { do: 'resume' },
);

const calm = fc.array(
  fc.oneof({ weight: 60, arbitrary: progress }, { weight: 12, arbitrary: trouble }, { weight: 1, arbitrary: people }),
  { minLength: 20, maxLength: 160, size: 'max' },
);
const wild = fc.array(
  fc.oneof(
    { weight: 60, arbitrary: progress },
    { weight: 8, arbitrary: trouble },
    { weight: 2, arbitrary: interference },
    { weight: 1, arbitrary: people },
  ),
  { minLength: 20, maxLength: 160, size: 'max' },
);

/** A run: what happened last, and whether it had to turn back at some point. */
type Run = { setup: Setup; world: World; told: DeploymentEvent[]; mustTurnBack: boolean };

function move(run: Run, wanted: Move): boolean {
  const { setup, world, told } = run;
  let action: Action;
  if (wanted.do === 'replay') {
    const event = told[wanted.which % Math.max(told.length, 1)];
    // A person's request told again is a request of its own.
    if (!event || event.type === 'rollBackRequested' || event.type === 'cancelRequested') return false;
    action = { do: 'again', event };
  } else action = wanted;
  const done = act(setup, world, action);
  if (done === null) return false;
  const { happened } = done;
  const breaches = [
    ...breachesOf(setup, world, action, done.world, happened),
    ...repeatBreaches(world, done.world, happened),
  ];
  assert.deepEqual(breaches, [], `${action.do} at ${world.state.effect?.key ?? world.state.at}`);
  const asked = happened.events.some(({ type }) => type === 'rollBackRequested' || type === 'cancelRequested');
  if (asked && canRollBack(world.state)) run.mustTurnBack = true;
  told.push(...happened.events);
  run.world = done.world;
  return true;
}

/** From here on everything works and people do their part: the run must end soon. */
function finish(run: Run): void {
  const order: Move[] = [
    { do: 'start' },
    { do: 'tell' },
    { do: 'settle' },
    { do: 'look' },
    { do: 'perform', how: 'ok' },
    { do: 'approve' },
    { do: 'due' },
  ];
  for (let moves = 0; !isFinal(run.world.state.status); moves += 1) {
    assert.ok(moves < 1000, `still at ${run.world.state.at} after ${moves} moves in which all went well`);
    putRight(run);
    const moved = order.some((action) => move(run, action));
    assert.ok(moved, `nothing can happen any more at ${run.world.state.at}`);
  }
  while (move(run, { do: 'arrive' }));
  move(run, { do: 'settle' });
}

/** What only people can do: somebody's own split goes, and a run whose objects others fought over is let go on. */
function putRight(run: Run): void {
  const { cluster, state } = run.world;
  for (const { metadata } of list(cluster, 'TrafficSplit')) {
    if (metadata.annotations?.owner === 'somebody') remove(cluster, 'TrafficSplit', metadata.name);
  }
  if (canResume(state)) move(run, { do: 'resume' });
  // Nobody can give traffic back to a version that was deleted.
  const isGone = run.world.disturbed && /^S7\.\d+\.enough\./.test(state.at);
  if (isGone && canRollBack(state) && state.rollBack === null) move(run, { do: 'rollBack' });
}

function start(setupOfRun: Setup): Run {
  return { setup: setupOfRun, world: createWorld(setupOfRun), told: [], mustTurnBack: false };
}

const runs = { numRuns: 300, seed: 20_260_101 };

describe('random orders of events', () => {
  test('keep every law while calls are lost, repeated and late and people act at any time', () => {
    fc.assert(
      fc.property(setup, calm, (chosen, moves) => {
        const run = start(chosen);
        move(run, { do: 'start' });
        for (const wanted of moves) move(run, wanted);
        finish(run);
        const { status } = run.world.state;
        assert.equal(run.mustTurnBack && status === 'SUCCEEDED', false, 'a roll back was asked for in time');
      }),
      runs,
    );
  });

  test('keep every law while pods fail and others edit the same objects', () => {
    fc.assert(
      fc.property(setup, wild, (chosen, moves) => {
        const run = start(chosen);
        move(run, { do: 'start' });
        for (const wanted of moves) move(run, wanted);
        finish(run);
      }),
      runs,
    );
  });

  test('end as SUCCEEDED with the new version alone where nothing goes wrong for good', () => {
    const bumps = fc.array(fc.oneof({ weight: 8, arbitrary: progress }, fc.constant<Move>({ do: 'arrive' })), {
      maxLength: 80,
      size: 'max',
    });
    fc.assert(
      fc.property(setup, bumps, (chosen, moves) => {
        const run = start(chosen);
        move(run, { do: 'start' });
        for (const wanted of moves) {
          if (wanted.do !== 'due' || run.world.state.status === 'PAUSED') move(run, wanted);
        }
        finish(run);
        const { status, error, leftInCluster } = run.world.state;
        assert.deepEqual({ status, error, leftInCluster }, { status: 'SUCCEEDED', error: null, leftInCluster: [] });
      }),
      runs,
    );
  });
});
