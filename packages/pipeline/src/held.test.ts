import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decideDeployment } from './deployment-machine.ts';
import type { DeploymentEvent, DeploymentState } from './deployment-state.ts';
import { driveUntil } from './testing/drive.ts';
import { get, list, update } from './testing/model-cluster.ts';
import { newHash } from './testing/samples.ts';
import { act, createSetup, createWorld, type World } from './testing/world.ts';

/* Before the new version is all there is, the run makes sure that it has all its pods: by what the watches tell. */

const setup = createSetup({ steps: [{ kind: 'setWeight', weight: 10 }], mesh: 'stored' });
const name = `web-${newHash}`;

function at(id: string): World {
  const world = driveUntil(setup, createWorld(setup), ({ state }) => state.at === id);
  assert.equal(world.state.at, id);
  return world;
}

/** Somebody takes a pod from the new version. */
function scaledDown(world: World): World {
  const cluster = { ...world.cluster, objects: { ...world.cluster.objects } };
  const replicaSet = get(cluster, 'ReplicaSet', name);
  assert.ok(replicaSet);
  update(cluster, replicaSet, { ...replicaSet, spec: { ...(replicaSet.spec as object), replicas: 1 } });
  return { ...world, cluster };
}

function perform(world: World): World {
  const done = act(setup, world, { do: 'perform', how: 'ok' });
  assert.ok(done, world.state.at);
  return done.world;
}

const asked = ({ effect }: DeploymentState) =>
  effect && 'slot' in effect ? `${effect.kind} ${effect.slot}` : (effect?.kind ?? null);
const replicas = ({ cluster }: World) =>
  (get(cluster, 'ReplicaSet', name)?.spec as { replicas: number } | undefined)?.replicas;

test('as long as the watches tell of nothing, no request goes into looking at the new ReplicaSet', () => {
  const pinned = perform(at('F2.pin.0'));
  assert.deepEqual([pinned.state.at, asked(pinned.state)], ['F2.wait.0', null]);
  const unrouted = perform(at('F5.canary.0'));
  assert.deepEqual([unrouted.state.at, asked(unrouted.state)], ['F6.ready.0', null]);
});

test('one that they tell of is looked at and put back before the old version goes', () => {
  const world = scaledDown(at('F5.canary.0'));
  const told = act(setup, world, { do: 'look' })?.world;
  assert.ok(told);
  assert.ok(
    told.news.some((event) => event.type === 'observed' && event.condition === 'guard.changed.newReplicaSet.0'),
  );
  const end = driveUntil(setup, told, ({ state }) => state.at === 'F6.scale.0');
  assert.equal(replicas(end), 2);
  assert.equal(list(end.cluster, 'Pod').filter(({ metadata }) => metadata.name.startsWith(name)).length, 2);
});

test('where they are silent, the wait that follows finds it and has it put back on the version just read', () => {
  for (const [before, wait] of [
    ['F2.pin.0', 'F2.wait.0'],
    ['F5.canary.0', 'F6.ready.0'],
  ] as const) {
    let world = perform(scaledDown(at(before)));
    assert.equal(world.state.at, wait);
    world = act(setup, world, { do: 'pods' })?.world ?? world;
    world = act(setup, world, { do: 'endpoints' })?.world ?? world;
    const calls: (string | null)[] = [];
    for (let moves = 0; moves < 20 && replicas(world) === 1; moves += 1) {
      const due: DeploymentEvent = { type: 'due', at: world.state.wakeAt ?? '' };
      if (world.state.effect === null) {
        world = { ...world, clock: Date.parse(due.at), state: decideDeployment(world.state, due).state };
      }
      calls.push(asked(world.state));
      world = perform(world);
    }
    assert.equal(replicas(world), 2, calls.join(', '));
    assert.deepEqual(calls.slice(-2), ['read newReplicaSet.0', 'write newReplicaSet.0']);
  }
});
