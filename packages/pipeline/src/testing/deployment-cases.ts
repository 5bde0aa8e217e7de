import type { StrategyStep } from '../plan.ts';
import type { Disturbances } from './explore.ts';
import { calls, type LawCase, outcomes, rollBack, weight } from './law-tests.ts';
import { samplePairs } from './samples.ts';
import type { Action, How } from './world.ts';

/**
 * The laws of design.md over every order of events of small strategies: every outcome of every call, the cluster early or
 * late, copies of lost requests that arrive at any time, and disturbances at every point. A breach is shown with the
 * shortest way to it.
 */

const approval: StrategyStep = { kind: 'pause', untilApproved: true, approvalExpirationSeconds: null };

const everyOutcome: How[] = [...outcomes, 'serverError', 'throttled'];
const failing: Action[] = [
  { do: 'kill', hash: 'new', count: 1 },
  { do: 'kill', hash: 'old', count: 2 },
];
const edits: Action[] = [
  { do: 'edit', what: 'unpin' },
  { do: 'edit', what: 'deleteSplit' },
  { do: 'edit', what: 'replaceSplit' },
  { do: 'edit', what: 'weights' },
];

/** Pods that fail, people who interfere, and a roll back, any two at any points. */
const others: Disturbances = { calls: [], others: [rollBack, ...failing, ...edits], most: { calls: 0, others: 2 } };

/** Of several pairs there are too many orders to try everything at once: what goes wrong with calls, and what else does, apart. */
const lostCalls: Disturbances = {
  calls: ['lostApplied', 'lostNotApplied', 'forbidden'],
  others: [],
  most: { calls: 1, others: 0 },
};
const oneOther = (...actions: Action[]): Disturbances => ({
  calls: [],
  others: [rollBack, ...actions],
  most: { calls: 0, others: 1 },
});
const { two, mixed, shared } = samplePairs;

export const cases: LawCase[] = [
  {
    name: '[50]',
    set: { steps: [weight(50)] },
    disturbances: { ...calls, calls: everyOutcome },
    atLeast: 6000,
  },
  {
    name: '[20, 60] among failing pods, stored',
    set: { steps: [weight(20), weight(60)], mesh: 'stored' },
    disturbances: { calls: [], others: [rollBack, ...failing], most: { calls: 0, others: 2 } },
    atLeast: 1000,
  },
  {
    name: '[20, 60] of two pairs',
    set: { pairs: two, steps: [weight(20), weight(60)], replicas: 1 },
    disturbances: lostCalls,
    atLeast: 4000,
    ends: ['FAILED', 'SUCCEEDED'],
  },
  {
    name: '[60, 20] of two pairs among failing pods',
    set: { pairs: two, steps: [weight(60), weight(20)], replicas: 2 },
    disturbances: oneOther(
      { do: 'kill', hash: 'new', count: 1, pair: 1 },
      { do: 'kill', hash: 'new', count: 2, pair: 1 },
      { do: 'kill', hash: 'old', count: 1, pair: 0 },
    ),
    atLeast: 1000,
  },
  {
    name: '[50] of a pair with an earlier version and one without',
    set: { pairs: mixed, steps: [weight(50)], replicas: 1 },
    disturbances: { ...lostCalls, others: [rollBack], most: { calls: 1, others: 1 } },
    atLeast: 5000,
  },
  {
    name: '[50] of two given root Services of one Deployment, among edits by others, stored',
    set: { pairs: shared, steps: [weight(50)], replicas: 1, given: true, mesh: 'stored' },
    disturbances: oneOther(
      { do: 'edit', what: 'unpin', pair: 1 },
      { do: 'edit', what: 'deleteSplit', pair: 1 },
      { do: 'edit', what: 'weights', pair: 0 },
    ),
    atLeast: 1000,
  },
  {
    name: 'first deployment with other objects',
    set: { first: true, objects: true, steps: [weight(50)] },
    disturbances: { ...calls, calls: everyOutcome, most: { calls: 2, others: 1 } },
    atLeast: 3000,
  },
  {
    name: '[20, 60] among failing pods and edits by others',
    set: { steps: [weight(20), weight(60)], replicas: 1 },
    disturbances: others,
    atLeast: 6000,
  },
  { name: '[]', set: {}, disturbances: calls, atLeast: 4000 },
  {
    name: '[20, approval, 60]',
    set: { steps: [weight(20), approval, weight(60)] },
    disturbances: calls,
    atLeast: 6000,
  },
  { name: '[100], stored', set: { steps: [weight(100)], mesh: 'stored' }, disturbances: calls, atLeast: 4000 },
  { name: '[0]', set: { steps: [weight(0)] }, disturbances: calls, atLeast: 6000 },
  { name: '[60, 20]', set: { steps: [weight(60), weight(20)] }, disturbances: calls, atLeast: 6000 },
  {
    name: '[50], given canary Service, stored',
    set: { steps: [weight(50)], given: true, mesh: 'stored' },
    disturbances: calls,
    atLeast: 4000,
  },
  {
    name: '[approval] with other objects, stored',
    set: { objects: true, steps: [approval], mesh: 'stored' },
    disturbances: calls,
    atLeast: 4000,
  },
];
