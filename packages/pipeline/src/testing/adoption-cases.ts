import type { Disturbances } from './explore.ts';
import { calls, type LawCase, rollBack, weight } from './law-tests.ts';
import type { Action } from './world.ts';

/**
 * The laws of design.md where Deployment objects are about: one that is taken over, one that an earlier run kept, one that
 * this run is to keep, and those that others make, change and remove at any moment. Every order of events, as in
 * deployment-cases.ts.
 */

const deploymentActs = (...whats: Extract<Action, { do: 'deployment' }>['what'][]): Action[] =>
  whats.map((what) => ({ do: 'deployment', what }));
const killing: Action[] = [{ do: 'kill', hash: 'new', count: 1 }];

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

export const cases: LawCase[] = [
  { name: 'taking over', set: { pairs: plain, steps: [weight(50)] }, disturbances: calls, atLeast: 500 },
  {
    name: 'taking over, among others',
    set: { pairs: plain, steps: [weight(50)] },
    disturbances: others('make', 'remove', 'image', 'scale'),
    atLeast: 5000,
    ends: ['CANCELLED', 'SUCCEEDED'],
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
    ends: ['CANCELLED', 'SUCCEEDED'],
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
    ends: ['CANCELLED', 'SUCCEEDED'],
  },
];
