import assert from 'node:assert/strict';
import { test } from 'node:test';
import { activeConditions, evaluate, type Sight } from './conditions.ts';
import { decideDeployment } from './deployment-machine.ts';
import type { DeploymentState } from './deployment-state.ts';
import { addSeconds } from './moves.ts';
import { driveUntil } from './testing/drive.ts';
import { get, viewOf } from './testing/model-cluster.ts';
import { runReplicaSets } from './testing/model-controllers.ts';
import { createSetup, createWorld, type World } from './testing/world.ts';

/* What is sent after a wait on a ReplicaSet is sent on the version of it that the wait was shown. */

const setup = createSetup({ steps: [{ kind: 'setWeight', weight: 10 }], mesh: 'stored' });

function at(id: string): World {
  const world = driveUntil(setup, createWorld(setup), ({ state }) => state.at === id);
  assert.equal(world.state.at, id);
  return world;
}

/** The cluster once its controllers have seen everything, and what the wait of the run is shown by it. */
function shown(world: World): Sight {
  const cluster = { ...world.cluster, objects: { ...world.cluster.objects } };
  runReplicaSets(cluster);
  const [condition] = activeConditions(world.state);
  assert.equal(condition?.key, world.state.at);
  return evaluate(condition, viewOf(cluster));
}

function told(state: DeploymentState, sight: Sight): DeploymentState {
  return decideDeployment(state, { type: 'observed', at: state.since, condition: state.at, ...sight }).state;
}

function sentVersion({ effect }: DeploymentState): string | undefined {
  assert.ok(effect?.kind === 'write');
  return effect.resourceVersion;
}

for (const [wait, write] of [
  ['S4.noted.0', 'S4.scale.0'],
  ['F6.gone.0', 'F6.delete.0'],
] as const) {
  test(`${write} is sent on the version that ${wait} was shown`, () => {
    const world = at(wait);
    const sight = shown(world);
    assert.equal(sight.holds, true);
    const state = told(world.state, sight);
    assert.equal(state.at, write);
    assert.ok(sight.object);
    assert.equal(sentVersion(state), sight.object.resourceVersion);
  });

  test(`${write} is not sent on the version of another object of that name`, () => {
    const world = at(wait);
    const slot = wait === 'S4.noted.0' ? 'newReplicaSet.0' : 'oldReplicaSet.0';
    const known = world.state.objects[slot]?.resourceVersion;
    const state = told(world.state, { ...shown(world), object: { uid: 'another', resourceVersion: 'later' } });
    assert.equal(state.at, write);
    assert.equal(sentVersion(state), known);
  });
}

test('a condition that does not hold shows no version', () => {
  const world = at('S4.noted.0');
  const [condition] = activeConditions(world.state);
  assert.ok(condition);
  const sight = evaluate(condition, viewOf(world.cluster));
  assert.deepEqual([sight.holds, sight.object], [false, undefined]);
});

test('nobody tells of the new ReplicaSet within a second: it is scaled on the version that it was created in', () => {
  const { state, cluster } = at('S4.noted.0');
  assert.equal(state.wakeAt, addSeconds(state.since, 1));
  const late = decideDeployment(state, { type: 'due', at: state.wakeAt ?? '' }).state;
  assert.equal(late.at, 'S4.scale.0');
  const name = `web-${state.hashes[0]}`;
  assert.equal(sentVersion(late), get(cluster, 'ReplicaSet', name)?.metadata.resourceVersion);
});
