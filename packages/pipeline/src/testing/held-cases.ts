import { type LawCase, rollBack, weight } from './law-tests.ts';
import { samplePairs } from './samples.ts';
import { type Action, type Edit, edits } from './world.ts';

/**
 * The laws of design.md while a hostile editor changes, scales and deletes what a run holds, at any moment: what he changed
 * is put back before anything else moves, no write of ours makes it worse, and every run has an end.
 */

const acts = (...kinds: Edit[]): Action[] => kinds.map((what) => ({ do: 'edit', what }));

export const cases: LawCase[] = [
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
    ends: ['FAILED', 'SUCCEEDED'],
  },
  {
    name: '[50] and an edit beside a call that is lost, stored',
    set: { steps: [weight(50)], replicas: 1, mesh: 'stored' },
    disturbances: { calls: ['lostNotApplied'], others: acts('unpin'), most: { calls: 1, others: 1 } },
    atLeast: 4000,
    ends: ['SUCCEEDED'],
  },
  {
    name: '[50] and an edit beside a call that is refused, stored',
    set: { steps: [weight(50)], replicas: 1, mesh: 'stored' },
    disturbances: { calls: ['forbidden'], others: acts('unpin', 'scaleNew'), most: { calls: 1, others: 1 } },
    atLeast: 2000,
    ends: ['FAILED', 'SUCCEEDED'],
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
    ends: ['CANCELLED', 'SUCCEEDED'],
  },
  {
    name: '[50] of a given canary Service with other objects, and every edit, stored',
    set: { steps: [weight(50)], given: true, objects: true, replicas: 1, mesh: 'stored' },
    disturbances: { calls: [], others: [rollBack, ...acts(...edits)], most: { calls: 0, others: 1 } },
    atLeast: 2000,
  },
];
