import type { FinalStatus } from '../deployment-state.ts';
import {
  decidePipeline,
  initialPipelineState,
  type PipelineEffect,
  type PipelineEvent,
  type PipelineState,
} from '../pipeline-machine.ts';

/**
 * Every order of events of one pipeline: targets that end in every way, people who cancel it or turn back one target, at
 * every point, and every event once more at every later point. Its deployments do what deployments do: one that was told
 * to begin may end in any way, one that was told that it never will, or to stop before it began, ends CANCELLED, and a
 * person may end one that waits.
 */

/** By target: those that it depends on. */
export type Graph = Record<string, string[]>;

export type Step = {
  before: PipelineState;
  event: PipelineEvent;
  after: PipelineState;
  effects: PipelineEffect[];
  /** The same event was decided on before. */
  repeated: boolean;
};

/** What happened on the way to a state, kept apart from what the machine remembers. */
export type World = {
  state: PipelineState;
  begun: boolean;
  cancelled: boolean;
  started: string[];
  withdrawn: string[];
  ends: Record<string, FinalStatus>;
};

export type Visit = { graph: Graph; world: World; steps: (Step & { next: World })[] };

const at = '2026-01-01T00:00:00.000Z';
const ends: FinalStatus[] = ['SUCCEEDED', 'FAILED', 'CANCELLED'];

/**
 * Calls `visit` for every state that can be reached, with all that can happen in it. What it answers false for is not
 * gone on from: a machine that breaks a law may never come to an end.
 *
 * @returns how many states there are
 */
export function explorePipeline(graph: Graph, visit: (visit: Visit) => boolean): number {
  const names = Object.keys(graph);
  const state = initialPipelineState(
    names.map((target) => ({ id: idOf(target), target, dependsOn: graph[target] ?? [] })),
  );
  const first: World = { state, begun: false, cancelled: false, started: [], withdrawn: [], ends: {} };
  const seen = new Set([keyOf(first)]);
  const waiting = [first];
  for (let world = waiting.pop(); world !== undefined; world = waiting.pop()) {
    const steps = [
      ...eventsIn(graph, world).map((event) => take(world, event, false)),
      ...repeatsIn(world).map((event) => take(world, event, true)),
    ];
    if (!visit({ graph, world, steps })) continue;
    for (const { next } of steps) {
      const key = keyOf(next);
      if (seen.has(key)) continue;
      seen.add(key);
      waiting.push(next);
    }
  }
  return seen.size;
}

export function idOf(target: string): string {
  return `id-${target}`;
}

function targetOf(id: string): string {
  return id.slice('id-'.length);
}

function eventsIn(graph: Graph, world: World): PipelineEvent[] {
  if (!world.begun) return [{ at, type: 'pipelineStarted' }];
  const open = Object.keys(graph).filter((target) => !(target in world.ends));
  const events = open.flatMap((target): PipelineEvent[] => {
    const outcomes = world.started.includes(target) ? ends : (['CANCELLED'] as const);
    return outcomes.map((status) => ({ at, type: 'targetEnded', deployment: idOf(target), status }));
  });
  return world.cancelled ? events : [...events, { at, type: 'cancelRequested', by: 'ada' }];
}

/** Everything that happened, again; an end also as another end, as no deployment would tell it. */
function repeatsIn(world: World): PipelineEvent[] {
  const told = Object.keys(world.ends).flatMap((target) =>
    ends.map((status): PipelineEvent => ({ at, type: 'targetEnded', deployment: idOf(target), status })),
  );
  return [
    ...(world.begun ? [{ at, type: 'pipelineStarted' } as const] : []),
    ...(world.cancelled ? [{ at, type: 'cancelRequested', by: 'bob' } as const] : []),
    ...told,
  ];
}

function take(world: World, event: PipelineEvent, repeated: boolean): Step & { next: World } {
  const before = world.state;
  const { state: after, effects } = decidePipeline(before, event);
  const named = (kind: PipelineEffect['kind']) =>
    effects.flatMap((effect) => (effect.kind === kind ? [targetOf(effect.deployment)] : []));
  const next: World = {
    state: after,
    begun: world.begun || event.type === 'pipelineStarted',
    // Asked for after the end it is too late.
    cancelled: world.cancelled || (event.type === 'cancelRequested' && before.status === 'RUNNING'),
    started: [...world.started, ...named('startDeployment')].sort(),
    withdrawn: [...world.withdrawn, ...named('withdrawDeployment')].sort(),
    ends:
      event.type === 'targetEnded' && !repeated
        ? { ...world.ends, [targetOf(event.deployment)]: event.status }
        : world.ends,
  };
  return { before, event, after, effects, repeated, next };
}

function keyOf({ ends, ...world }: World): string {
  return JSON.stringify([world, Object.entries(ends).sort()]);
}
