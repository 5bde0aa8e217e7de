import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import type { StrategyStep } from './plan.ts';
import { type Disturbances, type Exploration, explore } from './testing/explore.ts';
import { type Law, laws } from './testing/laws.ts';
import { samplePairs } from './testing/samples.ts';
import { type Action, createSetup, type Edit, edits } from './testing/world.ts';

/**
 * The laws of design.md while a hostile editor changes, scales and deletes what a run holds, at any moment: what he changed
 * is put back before anything else moves, no write of ours makes it worse, and every run has an end.
 */

const weight = (value: number): StrategyStep => ({ kind: 'setWeight', weight: value });
const rollBack: Action = { do: 'rollBack' };
const acts = (...kinds: Edit[]): Action[] => kinds.map((what) => ({ do: 'edit', what }));

type Case = {
  name: string;
  set: Parameters<typeof createSetup>[0];
  disturbances: Disturbances;
  atLeast: number;
};

const cases: Case[] = [
  {
    name: '[20, 60] and every edit',
    set: { steps: [weight(20), weight(60)], replicas: 1 },
    disturbances: { calls: [], others: [rollBack, ...acts(...edits)], most: { calls: 0, others: 1 } },
    atLeast: 4000,
  },
  {
    name: '[60] and any two of edits and failing pods, stored',
    // Two pods, so that one that fails leaves the version short and not starved.
    set: { steps: [weight(60)], replicas: 2, mesh: 'stored' },
    disturbances: {
      calls: [],
      others: [...acts('unpin', 'weights'), { do: 'kill', hash: 'new', count: 1 }],
      most: { calls: 0, others: 2 },
    },
    atLeast: 4000,
  },
  {
    name: '[50] and an edit beside a call that is lost, stored',
    set: { steps: [weight(50)], replicas: 1, mesh: 'stored' },
    disturbances: { calls: ['lostNotApplied'], others: acts('unpin'), most: { calls: 1, others: 1 } },
    atLeast: 4000,
  },
  {
    name: '[50] and an edit beside a call that is refused, stored',
    set: { steps: [weight(50)], replicas: 1, mesh: 'stored' },
    disturbances: { calls: ['forbidden'], others: acts('unpin', 'scaleNew'), most: { calls: 1, others: 1 } },
    atLeast: 2000,
  },
  {
    name: '[50] of two pairs and an edit of each',
    set: { pairs: samplePairs.two, steps: [weight(50)], replicas: 1, mesh: 'stored' },
    disturbances: {
      calls: [],
      others: [rollBack, ...acts('unpin', 'weights'), ...acts('unpin', 'weights').map((act) => ({ ...act, pair: 1 }))],
      most: { calls: 0, others: 1 },
    },
    atLeast: 2000,
  },
  {
    name: '[50] of a given canary Service with other objects, and every edit, stored',
    set: { steps: [weight(50)], given: true, objects: true, replicas: 1, mesh: 'stored' },
    disturbances: { calls: [], others: [rollBack, ...acts(...edits)], most: { calls: 0, others: 1 } },
    atLeast: 2000,
  },
];

describe('every order of events beside a hostile editor', () => {
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
    test(`the exploration of ${name} looks at thousands of states and reaches success`, (context) => {
      const exploration = explored.get(name);
      assert.ok(exploration, 'not explored, because a case before it breaks a law');
      const { states, transitions, ends } = exploration;
      context.diagnostic(`${states} states, ${transitions} transitions, ends ${JSON.stringify(ends)}`);
      assert.ok(states >= atLeast, `${states} states only, ${atLeast} expected`);
      assert.ok('SUCCEEDED' in ends, JSON.stringify(ends));
    });
  }
});
