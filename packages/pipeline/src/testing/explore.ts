import { activeConditions, evaluate, isGuard, isTurn } from '../conditions.ts';
import { isFinal } from '../deployment-state.ts';
import { currentInstruction } from '../moves.ts';
import { type Breach, breachesOf, type Law } from './laws.ts';
import { list, viewOf } from './model-cluster.ts';
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
  /** What may become of a call; `ok` always may. */
  calls: readonly How[];
  others: readonly Action[];
  /** How many of each kind in one run. */
  most: { calls: number; others: number };
};

type Left = Disturbances['most'];
type Node = { world: World; left: Left; from: number; by: string };

export function explore(setup: Setup, disturbances: Disturbances, most = 60_000): Exploration {
  const nodes: Node[] = [{ world: createWorld(setup), left: disturbances.most, from: -1, by: 'begin' }];
  const known = new Map<string, number>([[canonical(nodes[0] as Node), 0]]);
  const into: number[][] = [[]];
  const found: Exploration = { states: 0, transitions: 0, ends: {}, breaches: new Map(), stuck: null };
  // The first breach ends it: what comes after says little.
  for (let index = 0; index < Math.min(nodes.length, most) && found.breaches.size === 0; index += 1) {
    const node = nodes[index] as Node;
    const { status } = node.world.state;
    if (isFinal(status)) found.ends[status] = (found.ends[status] ?? 0) + 1;
    for (const { action, left } of actionsOf(node, disturbances)) {
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
      const next: Node = { world: done.world, left, from: index, by };
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
  if (found.breaches.size > 0) return found;
  found.stuck = nodes.length < most ? stuck(nodes, into) : [`more than ${most} states`, ...traceTo(nodes, most)];
  return found;
}

/** News is told at once; else every outcome of the call in flight, or what else may happen. */
function actionsOf({ world, left }: Node, { calls, others }: Disturbances): { action: Action; left: Left }[] {
  const { state } = world;
  if (state.startedAt === null) return [{ action: { do: 'start' }, left }];
  if (world.news.length > 0) return [{ action: { do: 'tell' }, left }];
  const tellable = activeConditions(state).some((condition) => {
    if (isGuard(condition.key, 'old')) return false;
    return isTurn(state.observed[condition.key], evaluate(condition, viewOf(world.cluster)));
  });
  if (tellable) return [{ action: { do: 'look' }, left }];
  const list: { action: Action; left: Left }[] = [
    { action: { do: 'settle' }, left },
    { action: { do: 'arrive' }, left },
  ];
  if (isFinal(state.status)) return list;
  const oneLess = { calls: { ...left, calls: left.calls - 1 }, others: { ...left, others: left.others - 1 } };
  if (left.others > 0) list.push(...others.map((action) => ({ action, left: oneLess.others })));
  if (left.calls > 0) {
    list.push(...calls.map((how) => ({ action: { do: 'perform', how } as const, left: oneLess.calls })));
  }
  list.push({ action: { do: 'perform', how: 'ok' }, left }, { action: { do: 'approve' }, left });
  list.push({ action: { do: 'resume' }, left });
  // A wait for a cluster that catches up ends by that; else time goes on.
  if (isSettled(world) || currentInstruction(state).kind !== 'wait') list.push({ action: { do: 'due' }, left });
  return list;
}

const settledClusters = new WeakMap<object, boolean>();

function isSettled({ cluster }: World): boolean {
  let known = settledClusters.get(cluster);
  if (known === undefined) {
    const copy = { ...cluster, objects: { ...cluster.objects } };
    settle(copy);
    known = copy.revision === cluster.revision;
    settledClusters.set(cluster, known);
  }
  return known;
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
  const open = nodes.flatMap(({ world }, index) => (isAnEnd(world) ? [index] : []));
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (reaches.has(next)) continue;
    reaches.add(next);
    open.push(...(into[next] ?? []));
  }
  const lost = nodes.findIndex((_, index) => !reaches.has(index));
  return lost === -1 ? null : traceTo(nodes, lost);
}

/**
 * Where only people can help, and know it: a split of somebody's own leads traffic to the canary Service, or a Deployment of
 * somebody's own is in the way, a Deployment was changed that is being taken over, or pods are left that nobody knows.
 */
function isAnEnd({ state, cluster }: World): boolean {
  const foreign = [...list(cluster, 'TrafficSplit'), ...list(cluster, 'Deployment')].some(
    ({ metadata }) => metadata.annotations?.owner === 'somebody',
  );
  const changed = state.at === 'F6.survey' && state.retry?.message.includes('was changed by') === true;
  const strangers = Object.entries(state.observed).some(([key, { holds }]) => key.startsWith('strangers.') && !holds);
  return isFinal(state.status) || foreign || changed || strangers;
}

/**
 * The world without its history, as a hash: times relative to the clock, versions by whether they are equal, no counters.
 */
function canonical({ world, left }: Node): string {
  const names = new Map<string, string>();
  const rename = (value: string) => {
    const name = names.get(value) ?? `${names.size}`;
    names.set(value, name);
    return name;
  };
  const { state, cluster, late, news, disturbed, lateCreates, clock } = world;
  const { outline, calls, warnings, startedAt, effect, doubt, steps, ...rest } = state;
  const stepWords = steps.map(({ status }) => status);
  const calling = [effect && { ...effect, key: '' }, doubt && { ...doubt, key: '' }];
  const value = [rest, startedAt !== null, stepWords, calling, late, news, disturbed, lateCreates, left];
  const machine = JSON.stringify(value, (key, entry) => {
    // guard.old is told to people and decides nothing.
    if (key === 'cdaas/fence' || key === 'detail' || isGuard(key, 'old')) return null;
    if (key === 'completedAt') return entry === null;
    if (typeof entry !== 'string') return entry;
    if (/^(rv|uid)-/.test(entry)) return rename(entry);
    // A minute ago or longer is long ago: waits that are checked over and over come back to the same state.
    return /^\d{4}-\d\d-\d\dT/.test(entry) ? `${Math.max(Date.parse(entry) - clock, -60_000)}` : entry;
  });
  const objects = Object.entries(cluster.objects).map(([name, object]) => {
    const { uid = '', resourceVersion = '' } = object.metadata;
    return `${name} ${names.get(uid) ?? ''} ${names.get(resourceVersion) ?? ''} ${formText(object)}`;
  });
  return hash(machine + objects.sort().join());
}

const formTexts = new WeakMap<object, string>();

function formText(object: object): string {
  let text = formTexts.get(object);
  if (text === undefined) {
    const dropped = new Set(['cdaas/fence', 'generation', 'observedGeneration', 'uid', 'resourceVersion']);
    text = JSON.stringify(object, (key, entry) => (dropped.has(key) ? undefined : entry));
    formTexts.set(object, text);
  }
  return text;
}

/** 64 bits of FNV-1a in two halves: a long text need not be kept to be recognised. */
function hash(text: string): string {
  let low = 0x811c9dc5;
  let high = 0x01000193;
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    low = Math.imul(low ^ code, 0x01000193);
    high = Math.imul(high ^ (code + index), 0x85ebca6b);
  }
  return `${low >>> 0}.${high >>> 0}`;
}
