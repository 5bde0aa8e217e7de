import { activeConditions, evaluate } from '../conditions.ts';
import { isFinal } from '../deployment-state.ts';
import { type Breach, breachesOf, type Law } from './laws.ts';
import { viewOf } from './model-cluster.ts';
import { type Action, act, createWorld, type How, type Setup, settle, type World } from './world.ts';

/**
 * Tries, breadth first, every order of what may happen to one deployment: every outcome of every call, everything in the
 * cluster early or late, and a given number of disturbances (a lost call, a person, a failing pod, an edit by others) at
 * every point. Two worlds that differ only in how often something was tried are one.
 */
export type Exploration = {
  states: number;
  transitions: number;
  ends: Record<string, number>;
  /** The first breach of each law, with the shortest way to it. */
  breaches: Map<Law, Breach & { trace: string[] }>;
  /** The way to a state from which no end can be reached, if there is one. */
  stuck: string[] | null;
};

export type Disturbances = {
  calls: readonly How[];
  others: readonly Action[];
  /** How many of either kind in one run. */
  most: number;
};

type Node = { world: World; left: number; from: number; by: string };

export function explore(setup: Setup, disturbances: Disturbances, limit = 200_000): Exploration {
  const nodes: Node[] = [{ world: createWorld(setup), left: disturbances.most, from: -1, by: 'begin' }];
  const known = new Map<string, number>([[canonical(nodes[0] as Node), 0]]);
  const into: number[][] = [[]];
  const found: Exploration = { states: 0, transitions: 0, ends: {}, breaches: new Map(), stuck: null };
  for (let index = 0; index < nodes.length && index < limit; index += 1) {
    const node = nodes[index] as Node;
    const { status } = node.world.state;
    if (isFinal(status)) found.ends[status] = (found.ends[status] ?? 0) + 1;
    for (const { action, cost } of actionsOf(node, disturbances)) {
      const done = act(setup, node.world, action);
      if (done === null) continue;
      found.transitions += 1;
      const by = nameOf(action, node.world);
      const breaches = breachesOf(setup, node.world, action, done.world, done.happened);
      for (const breach of breaches) {
        if (found.breaches.has(breach.law)) continue;
        found.breaches.set(breach.law, { ...breach, trace: [...traceTo(nodes, index), by] });
      }
      if (breaches.length > 0) continue;
      const next: Node = { world: done.world, left: node.left - cost, from: index, by };
      const key = canonical(next);
      const seen = known.get(key);
      if (seen !== undefined) {
        into[seen]?.push(index);
        continue;
      }
      known.set(key, nodes.length);
      into.push([index]);
      nodes.push(next);
    }
  }
  found.states = nodes.length;
  found.stuck = found.breaches.size > 0 ? null : stuck(nodes, into);
  return found;
}

/** News is told at once; else every outcome of the call in flight, or what else may happen. */
function actionsOf({ world, left }: Node, { calls, others }: Disturbances): { action: Action; cost: number }[] {
  const { state } = world;
  if (state.startedAt === null) return [{ action: { do: 'start' }, cost: 0 }];
  if (world.news.length > 0) return [{ action: { do: 'tell' }, cost: 0 }];
  const tellable = activeConditions(state).some((condition) => {
    const known = state.observed[condition.key]?.holds ?? false;
    return evaluate(condition, viewOf(world.cluster)).holds !== known;
  });
  if (tellable) return [{ action: { do: 'look' }, cost: 0 }];
  const list: { action: Action; cost: number }[] = [
    { action: { do: 'settle' }, cost: 0 },
    { action: { do: 'arrive' }, cost: 0 },
  ];
  if (isFinal(state.status)) return list;
  if (left > 0) {
    list.push(...others.map((action) => ({ action, cost: 1 })));
    list.push(...calls.map((how) => ({ action: { do: 'perform', how } as const, cost: 1 })));
  }
  list.push({ action: { do: 'perform', how: 'ok' }, cost: 0 }, { action: { do: 'approve' }, cost: 0 });
  // A cluster that has caught up cannot end a wait any more, so time goes on.
  if (isSettled(world)) list.push({ action: { do: 'due' }, cost: 0 });
  return list;
}

function isSettled({ cluster }: World): boolean {
  const settled = structuredClone(cluster);
  settle(settled);
  return settled.revision === cluster.revision;
}

function nameOf(action: Action, { state }: World): string {
  const { do: verb, ...rest } = action;
  const what = Object.values(rest).join(' ');
  return `${[verb, what].filter((word) => word !== '').join(' ')} (${state.effect?.key ?? state.at})`;
}

function traceTo(nodes: Node[], index: number): string[] {
  const trace: string[] = [];
  for (let at = index; at > 0; at = nodes[at]?.from ?? 0) trace.unshift(nodes[at]?.by ?? '');
  return trace;
}

/** A state from which no end is reachable, found backwards from all ends. */
function stuck(nodes: Node[], into: number[][]): string[] | null {
  const reaches = new Set<number>();
  const open = nodes.flatMap(({ world }, index) => (isFinal(world.state.status) ? [index] : []));
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (reaches.has(next)) continue;
    reaches.add(next);
    open.push(...(into[next] ?? []));
  }
  const lost = nodes.findIndex((_, index) => !reaches.has(index));
  return lost === -1 ? null : traceTo(nodes, lost);
}

/** The world without its history: times relative to the clock, versions by whether they are equal, no counters. */
function canonical({ world, left }: Node): string {
  const names = new Map<string, string>();
  const rename = (prefix: string, value: string) => {
    const name = names.get(value) ?? `${prefix}${names.size}`;
    names.set(value, name);
    return name;
  };
  const { state, cluster, late, news, disturbed, lateCreates, saved, clock } = world;
  const { outline, calls, warnings, startedAt, ...rest } = state;
  const kept = { ...rest, begun: startedAt !== null, effect: state.effect && { ...state.effect, key: '' } };
  const doubt = state.doubt && { ...state.doubt, key: '' };
  const value = [{ ...kept, doubt }, cluster.objects, late, news, disturbed, lateCreates, saved, left];
  return JSON.stringify(value, (key, entry) => {
    if (key === 'cdaas/fence' || key === 'generation' || key === 'observedGeneration' || key === 'detail') return null;
    if (key === 'startedAt' || key === 'completedAt') return entry === null;
    if (typeof entry !== 'string') return entry;
    if (/^(rv|uid)-/.test(entry)) return rename(entry[0] ?? '', entry);
    // A minute ago or longer is long ago: waits that are checked over and over come back to the same state.
    return /^\d{4}-\d\d-\d\dT/.test(entry) ? `${Math.max(Date.parse(entry) - clock, -60_000)}` : entry;
  });
}
