import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { clusterEventsOf } from './cluster-events.ts';
import { activeConditions, evaluate } from './conditions.ts';
import { decideDeployment } from './deployment-machine.ts';
import type { Condition, DeploymentEvent, DeploymentState } from './deployment-state.ts';
import { heldObjects } from './held.ts';
import type { KubernetesObject } from './kubernetes.ts';
import { canResume } from './mend.ts';
import { narrate, waitingFor } from './narrate.ts';
import type { StrategyStep } from './plan.ts';
import { driveUntil, must } from './testing/drive.ts';
import { get, insert, remove, viewOf } from './testing/model-cluster.ts';
import { newHash, oldHash, type SampleOptions } from './testing/samples.ts';
import { createSetup, createWorld, type Edit, type Setup, type World } from './testing/world.ts';

const steps: StrategyStep[] = [
  { kind: 'setWeight', weight: 20 },
  { kind: 'pause', untilApproved: true, approvalExpirationSeconds: null },
  { kind: 'setWeight', weight: 60 },
];

function at(instruction: string, options: SampleOptions = {}): { setup: Setup; world: World } {
  const setup = createSetup({ steps, mesh: 'stored', ...options });
  let world = driveUntil(setup, createWorld(setup), ({ state }) => state.at === instruction || state.at === 'step.2');
  if (world.state.at === 'step.2' && instruction !== 'step.2') world = must(setup, world, { do: 'approve' });
  world = driveUntil(setup, world, ({ state }) => state.at === instruction);
  assert.equal(world.state.at, instruction);
  return { setup, world };
}

/** Somebody changes something, the run hears of it, and its calls are carried out until it rests. */
function edited(setup: Setup, world: World, what: Edit): World {
  let next = must(setup, must(setup, world, { do: 'edit', what }), { do: 'look' });
  while (next.news.length > 0) next = must(setup, next, { do: 'tell' });
  while (/^mend/.test(next.state.effect?.key ?? '')) next = must(setup, next, { do: 'perform', how: 'ok' });
  return next;
}

const specOf = ({ cluster }: World, kind: string, name: string) =>
  get(cluster, kind, name)?.spec as { selector?: Record<string, string>; replicas?: number; backends?: unknown };

describe('what a run holds', () => {
  const held = (state: DeploymentState) =>
    Object.fromEntries(heldObjects(state).map(({ slot, want: { op, ...rest } }) => [slot, Object.values(rest)[0]]));

  test('is what its last writes asked for, from S2 on', () => {
    assert.deepEqual(held(at('S2.pin.0').world.state), {});
    assert.deepEqual(held(at('S2.wait.0').world.state), { 'root.0': oldHash, 'oldReplicaSet.0': 2 });
    assert.deepEqual(held(at('step.2').world.state), {
      'root.0': oldHash,
      'canary.0': newHash,
      'newReplicaSet.0': 2,
      'split.0': { stable: 80, canary: 20 },
      'oldReplicaSet.0': 2,
    });
    assert.deepEqual(held(at('F2.wait.0').world.state)['root.0'], newHash);
    const gone = held(at('F6.gone.0').world.state);
    assert.deepEqual(gone, { 'root.0': newHash, 'newReplicaSet.0': 2 });
  });

  test('is not what is being written', () => {
    const { world } = at('S7.1.weight.0');
    assert.equal(world.state.effect?.kind, 'write');
    assert.equal(held(world.state)['split.0'], undefined);
  });

  test('of a roll back is that traffic stays with the old version', () => {
    const { setup, world } = at('step.2');
    const back = driveUntil(setup, must(setup, world, { do: 'rollBack' }), ({ state }) => state.at === 'R1.drain');
    assert.deepEqual(held(back.state), {
      'root.0': oldHash,
      'canary.0': newHash,
      'split.0': { stable: 100, canary: 0 },
      'oldReplicaSet.0': 2,
    });
  });
});

describe('a change by others', () => {
  test('is read first, and put back with the resourceVersion that was read', () => {
    const { setup, world } = at('step.2');
    let next = must(setup, must(setup, world, { do: 'edit', what: 'unpin' }), { do: 'look' });
    next = must(setup, next, { do: 'tell' });
    assert.deepEqual([next.state.effect?.kind, next.state.at], ['read', 'step.2']);
    next = must(setup, next, { do: 'perform', how: 'ok' });
    const stored = get(next.cluster, 'Service', 'web')?.metadata.resourceVersion;
    const { effect } = next.state;
    assert.ok(effect?.kind === 'write');
    assert.deepEqual([effect.change, effect.resourceVersion], [{ op: 'pin', hash: oldHash }, stored]);
    const before = next.state;
    next = must(setup, next, { do: 'perform', how: 'ok' });
    assert.equal(specOf(next, 'Service', 'web').selector?.['armory-pod-template-hash'], oldHash);
    assert.equal(next.state.status, 'AWAITING_APPROVAL');
    const told = { type: 'written', at: '', key: before.effect?.key ?? '', object: null } as const;
    assert.equal(narrate(before, told, next.state), 'Service web was changed by others; it is put back');
    assert.deepEqual(clusterEventsOf(before, next.state), [
      { type: 'Warning', reason: 'PutBack', message: 'Service web was changed by others; it is put back' },
    ]);
  });

  const rows: [Edit, (world: World) => unknown, unknown][] = [
    ['unlabel', ({ cluster }) => get(cluster, 'Service', 'web')?.metadata.labels?.['cdaas/deployment'], 'deployment-2'],
    ['unpinCanary', (world) => specOf(world, 'Service', 'web-canary').selector?.['armory-pod-template-hash'], newHash],
    ['scaleNew', (world) => specOf(world, 'ReplicaSet', `web-${newHash}`).replicas, 2],
    ['scaleOld', (world) => specOf(world, 'ReplicaSet', `web-${oldHash}`).replicas, 2],
    [
      'weights',
      (world) => specOf(world, 'TrafficSplit', 'web').backends,
      [
        { service: 'web', weight: 80 },
        { service: 'web-canary', weight: 20 },
      ],
    ],
  ];
  for (const [what, read, wanted] of rows) {
    test(`of the kind ${what} is put back`, () => {
      const { setup, world } = at('step.2');
      const next = edited(setup, world, what);
      assert.deepEqual(read(next), wanted);
      assert.deepEqual([next.state.mending, next.state.disturbed, next.state.frozen], [null, [], []]);
    });
  }

  test('that raised pods is let be', () => {
    const { world } = at('step.2');
    const [condition] = activeConditions(world.state).filter(({ key }) => key === 'guard.changed.newReplicaSet.0');
    assert.ok(condition?.kind === 'changed');
    const more = get(world.cluster, 'ReplicaSet', `web-${newHash}`) as KubernetesObject;
    const scaled = {
      ...more,
      metadata: { ...more.metadata, resourceVersion: 'x' },
      spec: { ...(more.spec as object), replicas: 5 },
    };
    const view = { ...viewOf(world.cluster), replicaSet: () => scaled };
    assert.equal(evaluate(condition, view).holds, false);
  });

  test('that takes a Service or split away turns the run back; one that takes the old version asks people', () => {
    for (const what of ['deleteSplit', 'deleteCanary'] as const) {
      const { setup, world } = at('step.2');
      const { state } = edited(setup, world, what);
      assert.match(state.rollBack?.reason ?? '', /was deleted by somebody while the deployment ran/, what);
    }
    const { setup, world } = at('step.2');
    const { state } = edited(setup, world, 'deleteOld');
    assert.equal(state.rollBack, null);
    assert.match(
      waitingFor(state) ?? '',
      /^people: ReplicaSet web-oldhash001 was deleted: there is nothing to go back to/,
    );
  });

  test('past F2 that takes the root Service holds the run, until its new version is missed as well', () => {
    const { setup, world } = at('F2.wait.0');
    const without = (now: World, kind: string, name: string): World => {
      const cluster = structuredClone(now.cluster);
      remove(cluster, kind, name);
      let next = must(setup, { ...now, cluster }, { do: 'look' });
      while (next.news.length > 0) next = must(setup, next, { do: 'tell' });
      for (let turn = 0; turn < 6 && next.state.completedAt === null; turn += 1) {
        while (/^mend/.test(next.state.effect?.key ?? '')) next = must(setup, next, { do: 'perform', how: 'ok' });
        if (next.state.completedAt === null) next = must(setup, next, { do: 'due' });
      }
      return next;
    };
    const held = without(world, 'Service', 'web');
    assert.equal(held.state.status, 'FINISHING');
    assert.match(waitingFor(held.state) ?? '', /Service web was deleted/);
    const ended = without(held, 'ReplicaSet', `web-${newHash}`);
    assert.equal(ended.state.status, 'FAILED');
    assert.match(ended.state.error ?? '', /the new version is gone/);
  });

  test('that deletes a given Service and makes it again asks people, and once resumed it is held as before', () => {
    const { setup, world } = at('step.2');
    const cluster = structuredClone(world.cluster);
    const root = get(cluster, 'Service', 'web') as KubernetesObject;
    remove(cluster, 'Service', 'web');
    insert(cluster, {
      ...root,
      metadata: { name: 'web' },
      spec: { ...(root.spec as object), selector: { app: 'web' } },
    });
    let next = must(setup, { ...world, cluster }, { do: 'look' });
    const settle = () => {
      while (next.news.length > 0) next = must(setup, next, { do: 'tell' });
      while (/^mend/.test(next.state.effect?.key ?? '')) next = must(setup, next, { do: 'perform', how: 'ok' });
    };
    settle();
    assert.match(waitingFor(next.state) ?? '', /^people: Service web was deleted and made again by /);
    assert.deepEqual(specOf(next, 'Service', 'web').selector, { app: 'web' });
    next = must(setup, next, { do: 'resume' });
    settle();
    assert.equal(specOf(next, 'Service', 'web').selector?.['armory-pod-template-hash'], oldHash);
    assert.deepEqual(next.state.frozen, []);
    assert.equal(driveUntil(setup, must(setup, next, { do: 'approve' })).state.status, 'SUCCEEDED');
  });

  test('three times within a minute freezes weights until somebody resumes or rolls back', () => {
    const { setup, world } = at('step.2');
    let next = world;
    for (let time = 0; time < 4; time += 1) next = edited(setup, next, 'unpin');
    assert.equal(next.state.frozen.length, 1);
    assert.equal(specOf(next, 'Service', 'web').selector?.['armory-pod-template-hash'], undefined);
    next = must(setup, next, { do: 'approve' });
    assert.deepEqual([next.state.at, next.state.effect, next.state.wakeAt], ['S7.3.weight.0', null, null]);
    assert.equal(canResume(next.state), true);
    const back = driveUntil(setup, must(setup, next, { do: 'rollBack' }));
    assert.equal(back.state.status, 'CANCELLED');
    const on = driveUntil(setup, must(setup, next, { do: 'resume' }));
    assert.equal(on.state.status, 'SUCCEEDED');
    assert.equal(canResume(on.state), false);
  });

  test('over a longer time is put back again and again', () => {
    const { setup, world } = at('step.2');
    let next = world;
    for (let time = 0; time < 8; time += 1) {
      next = edited(setup, { ...next, clock: next.clock + 25_000 }, 'unpin');
    }
    assert.deepEqual(next.state.frozen, []);
  });
});

describe('putting back', () => {
  test('waits where the cluster does not do it, and is frozen where it refuses', () => {
    const { setup, world } = at('step.2');
    let next = must(setup, must(setup, must(setup, world, { do: 'edit', what: 'unpin' }), { do: 'look' }), {
      do: 'tell',
    });
    next = must(setup, next, { do: 'perform', how: 'ok' });
    const busy = must(setup, next, { do: 'perform', how: 'throttled' });
    assert.equal(busy.state.effect, null);
    assert.match(waitingFor(busy.state) ?? '', /^the cluster: slow down/);
    const again = must(setup, busy, { do: 'due' });
    assert.equal(again.state.effect?.kind, 'read');
    const refused = must(setup, next, { do: 'perform', how: 'forbidden' });
    assert.match(waitingFor(refused.state) ?? '', /putting it back is refused: not allowed/);
  });

  test('never gives weight to pods that are not there', () => {
    const { setup, world } = at('step.2', { replicas: 1 });
    const short: DeploymentEvent = {
      type: 'observed',
      at: new Date(world.clock).toISOString(),
      condition: 'guard.short.0',
      holds: true,
      detail: '0 of 1 new pods ready',
    };
    const lowered = must(setup, world, { do: 'edit', what: 'weights' });
    const split = get(lowered.cluster, 'TrafficSplit', 'web') as KubernetesObject;
    assert.ok(split);
    const state = decideDeployment(lowered.state, short).state;
    const changed: DeploymentEvent = { ...short, condition: 'guard.changed.split.0', detail: '', seen: 'x' };
    let next: World = { ...lowered, state: decideDeployment(state, changed).state };
    // Others took all weight from the new version: giving it back is a raise.
    const spec = {
      ...(split.spec as object),
      backends: [
        { service: 'web', weight: 100 },
        { service: 'web-canary', weight: 0 },
      ],
    };
    next = {
      ...next,
      cluster: { ...next.cluster, objects: { ...next.cluster.objects, 'TrafficSplit/web': { ...split, spec } } },
    };
    next = must(setup, next, { do: 'perform', how: 'ok' });
    assert.deepEqual([next.state.effect, next.state.mending?.write], [null, true]);
    const well = decideDeployment(next.state, { ...short, holds: false });
    assert.equal(well.state.effect?.kind, 'write');
  });
});

describe('a sight of a held object', () => {
  const { world } = at('step.2');
  const [pin] = activeConditions(world.state).filter(({ key }) => key === 'guard.changed.root.0');
  const root = get(world.cluster, 'Service', 'web') as KubernetesObject;
  const seen = (resourceVersion: string, selector: object, condition: Partial<Condition> = {}) => {
    const object = {
      ...root,
      metadata: { ...root.metadata, resourceVersion },
      spec: { ...(root.spec as object), selector },
    };
    const view = { ...viewOf(world.cluster), service: () => object };
    return evaluate({ ...pin, resourceVersion: '100', ...condition } as Condition, view).holds;
  };

  test('is none while it is older than the run’s own last answer, or the same', () => {
    assert.equal(seen('99', { app: 'web' }), false);
    assert.equal(seen('100', { app: 'web' }), false);
    assert.equal(seen('101', { app: 'web' }), true);
    assert.equal(seen('1000', { app: 'web', 'armory-pod-template-hash': oldHash }), false);
  });

  test('that it is not there counts only once the watch is as far as the run', () => {
    const view = (upTo: string | null) => ({
      ...viewOf(world.cluster),
      service: () => undefined,
      shownUpTo: () => upTo,
    });
    const holds = (upTo: string | null) => evaluate({ ...pin, resourceVersion: '100' } as Condition, view(upTo)).holds;
    assert.deepEqual([holds('99'), holds('100'), holds('2000'), holds(null)], [false, true, true, true]);
  });
});
