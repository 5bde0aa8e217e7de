import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import type { StrategyStep } from '../plan.ts';
import { type Disturbances, type Exploration, explore } from './explore.ts';
import { type Law, laws } from './laws.ts';
import { type Action, createSetup, type How } from './world.ts';

/** A small deployment, and what may happen to it in any order. */
export type LawCase = {
  name: string;
  set: Parameters<typeof createSetup>[0];
  disturbances: Disturbances;
  /** States that there must be at least: a law that nothing happens under says nothing. */
  atLeast: number;
  /** Where not every kind of end can be. */
  ends?: string[];
};

export const weight = (value: number): StrategyStep => ({ kind: 'setWeight', weight: value });
export const rollBack: Action = { do: 'rollBack' };
export const outcomes: How[] = ['lostApplied', 'lostNotApplied', 'unreachable', 'forbidden'];

/** A call that goes wrong in any way, and a person who wants the old version back, each at any point. */
export const calls: Disturbances = { calls: outcomes, others: [rollBack], most: { calls: 1, others: 1 } };

/**
 * The laws of design.md over every order of events of these cases. A breach is shown with the shortest way to it, and is the
 * end of it: what comes after says little.
 */
export function testLaws(title: string, cases: readonly LawCase[]): void {
  describe(title, () => {
    const explored = new Map<string, Exploration>();
    before(() => {
      for (const { name, set, disturbances } of cases) {
        const exploration = explore(createSetup(set), disturbances);
        explored.set(name, exploration);
        if (exploration.breaches.size > 0 || exploration.stuck !== null) return;
      }
    });

    for (const [law, words] of Object.entries(laws) as [Law, string][]) {
      test(words, () => {
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

    for (const { name, atLeast, ends: expected = ['CANCELLED', 'FAILED', 'SUCCEEDED'] } of cases) {
      test(`the exploration of ${name} looks at many states and reaches every kind of end that there is`, (context) => {
        const exploration = explored.get(name);
        assert.ok(exploration, 'not explored, because a case before it breaks a law');
        const { states, transitions, ends } = exploration;
        context.diagnostic(`${states} states, ${transitions} transitions, ends ${JSON.stringify(ends)}`);
        assert.ok(states >= atLeast, `${states} states only, ${atLeast} expected`);
        assert.deepEqual(Object.keys(ends).sort(), expected);
      });
    }
  });
}
