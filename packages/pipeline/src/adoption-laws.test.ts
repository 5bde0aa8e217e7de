import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import type { StrategyStep } from './plan.ts';
import { type Disturbances, type Exploration, explore } from './testing/explore.ts';
import { type Law, laws } from './testing/laws.ts';
import { type Action, createSetup, type How } from './testing/world.ts';

/**
 * The laws of design.md where Deployment objects are about: one that is taken over, one that an earlier run kept, one that
 * this run is to keep, and those that others make, change and remove at any moment. Every order of events, as in
 * deployment-laws.test.ts.
 */

const weight = (value: number): StrategyStep => ({ kind: 'setWeight', weight: value });
const rollBack: Action = { do: 'rollBack' };
const outcomes: How[] = ['lostApplied', 'lostNotApplied', 'unreachable', 'forbidden'];
const deploymentActs = (...whats: Extract<Action, { do: 'deployment' }>['what'][]): Action[] =>
  whats.map((what) => ({ do: 'deployment', what }));
const killing: Action[] = [{ do: 'kill', hash: 'new', count: 1 }];

/** A call that goes wrong in any way, and a person who wants the old version back, each at any point. */
const calls: Disturbances = { calls: outcomes, others: [rollBack], most: { calls: 1, others: 1 } };
/** Somebody else at the Deployment, a pod that fails, and a roll back: any two at any points. */
const others = (...whats: Parameters<typeof deploymentActs>): Disturbances => ({
  calls: [],
  others: [rollBack, ...killing, ...deploymentActs(...whats)],
  most: { calls: 0, others: 2 },
});

const plain = [{ root: 'web', deployment: 'web', object: 'plain' as const }];
const kept = [{ root: 'web', deployment: 'web', object: 'kept' as const }];
const mixed = [
  { root: 'api', deployment: 'api', object: 'plain' as const },
  { root: 'web', deployment: 'web' },
];

type Case = { name: string; set: Parameters<typeof createSetup>[0]; disturbances: Disturbances; atLeast: number };

const cases: Case[] = [
  { name: 'taking over', set: { pairs: plain, steps: [weight(50)] }, disturbances: calls, atLeast: 500 },
  {
    name: 'taking over, among others',
    set: { pairs: plain, steps: [weight(50)] },
    disturbances: others('make', 'remove', 'image', 'scale'),
    atLeast: 5000,
  },
  { name: 'taking over and keeping', set: { pairs: plain, keep: true }, disturbances: calls, atLeast: 500 },
  { name: 'a first version that is kept', set: { first: true, keep: true }, disturbances: calls, atLeast: 500 },
  {
    name: 'a first version, among others',
    set: { first: true, keep: true },
    disturbances: others('make', 'remove'),
    atLeast: 200,
  },
  {
    name: 'kept before and after, stored',
    set: { pairs: kept, keep: true, mesh: 'stored' },
    disturbances: calls,
    atLeast: 5000,
  },
  {
    name: 'kept before, with other objects, stored',
    set: { pairs: kept, objects: true, mesh: 'stored', replicas: 1 },
    disturbances: { ...calls, calls: ['lostNotApplied'] },
    atLeast: 3000,
  },
  {
    name: '[50] with a Deployment that comes and goes, stored',
    set: { steps: [weight(50)], mesh: 'stored', replicas: 1 },
    disturbances: { calls: [], others: [rollBack, ...deploymentActs('make', 'remove')], most: { calls: 0, others: 2 } },
    atLeast: 2000,
  },
  {
    name: 'kept before and after with a Deployment that comes and goes, stored',
    set: { pairs: kept, keep: true, mesh: 'stored', replicas: 1 },
    disturbances: { calls: [], others: [rollBack, ...deploymentActs('make', 'remove')], most: { calls: 0, others: 2 } },
    atLeast: 2000,
  },
  {
    name: 'one of two taken over, stored',
    set: { pairs: mixed, mesh: 'stored', replicas: 1 },
    disturbances: { calls: [], others: [rollBack, ...deploymentActs('image')], most: { calls: 0, others: 1 } },
    atLeast: 1000,
  },
];

describe('every order of events around Deployment objects', () => {
  const explored = new Map<string, Exploration>();
  before(() => {
    for (const { name, set, disturbances } of cases) {
      const exploration = explore(createSetup(set), disturbances);
      explored.set(name, exploration);
      // The first breach ends it: what comes after says little.
      if (exploration.breaches.size > 0 || exploration.stuck !== null) return;
    }
  });

  for (const [law, title] of Object.entries(laws) as [Law, string][]) {
    test(title, () => {
      for (const [name, { breaches }] of explored) {
        const breach = breaches.get(law);
        assert.ok(!breach, `${name}: ${breach?.message}\n  ${breach?.trace.join('\n  ')}`);
      }
    });
  }

  test('law 4: an end can be reached from every state', () => {
    for (const [name, { stuck }] of explored) {
      assert.equal(stuck, null, `${name}: no end from here\n  ${stuck?.join('\n  ')}`);
    }
  });

  for (const { name, atLeast } of cases) {
    test(`the exploration of ${name} looks at many states and reaches every kind of end`, (context) => {
      const exploration = explored.get(name);
      assert.ok(exploration, 'not explored, because a case before it breaks a law');
      const { states, transitions, ends } = exploration;
      context.diagnostic(`${states} states, ${transitions} transitions, ends ${JSON.stringify(ends)}`);
      assert.ok(states >= atLeast, `${states} states only, ${atLeast} expected`);
      assert.ok('SUCCEEDED' in ends && 'CANCELLED' in ends, JSON.stringify(ends));
    });
  }
});
