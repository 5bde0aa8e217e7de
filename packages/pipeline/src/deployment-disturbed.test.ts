import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { decideDeployment } from './deployment-machine.ts';
import { deniedByAdmission, type ObjectFacts } from './deployment-state.ts';
import { hashKey } from './marks.ts';
import { waitingFor } from './narrate.ts';
import type { StrategyStep } from './plan.ts';
import { driveUntil, must } from './testing/drive.ts';
import { get, insert, type ModelCluster, remove, update } from './testing/model-cluster.ts';
import { newHash, oldHash } from './testing/samples.ts';
import { createSetup, createWorld, type Setup, type World } from './testing/world.ts';

/* What other people do to the objects of a run, and how it comes to an end all the same. */

const steps: StrategyStep[] = [
  { kind: 'setWeight', weight: 20 },
  { kind: 'pause', untilApproved: true, approvalExpirationSeconds: null },
];

function at(instruction: string): { setup: Setup; world: World } {
  const setup = createSetup({ steps });
  const approved = (world: World) =>
    world.state.status === 'AWAITING_APPROVAL' && instruction.startsWith('F')
      ? must(setup, world, { do: 'approve' })
      : world;
  let world = driveUntil(setup, createWorld(setup), ({ state }) => state.at === instruction || state.at === 'step.2');
  world = driveUntil(setup, approved(world), ({ state }) => state.at === instruction);
  assert.equal(world.state.at, instruction);
  return { setup, world };
}

function edited(world: World, edit: (cluster: ModelCluster) => void): World {
  const cluster = { ...world.cluster, objects: { ...world.cluster.objects } };
  edit(cluster);
  return { ...world, cluster };
}

function scaled(cluster: ModelCluster, name: string, replicas: number): void {
  const before = get(cluster, 'ReplicaSet', name);
  assert.ok(before);
  update(cluster, before, { ...before, spec: { ...(before.spec as object), replicas } });
}

const oldName = `web-${oldHash}`;
const newName = `web-${newHash}`;
const specOf = (world: World, kind: string, name: string) => {
  const object = get(world.cluster, kind, name) ?? assert.fail(`no ${kind} ${name}`);
  return object.spec as { replicas?: number; selector: object };
};

describe('a roll back', () => {
  test('whose previous version is gone ends as FAILED and says what stands and what to do', () => {
    const { setup, world } = at('step.2');
    const gone = edited(world, (cluster) => remove(cluster, 'ReplicaSet', oldName));
    const { state } = driveUntil(setup, must(setup, gone, { do: 'rollBack' }));
    assert.equal(state.status, 'FAILED');
    assert.match(state.error ?? '', /previous version is gone/);
    const left = state.leftInCluster.join('\n');
    assert.match(left, /TrafficSplit web has 80\/20.*kubectl -n shop-qa patch trafficsplit web .*"weight":100/);
    assert.match(left, /Service web is pinned.*patch service web/);
    assert.match(left, /delete trafficsplit web\n.*delete service web-canary/);
    assert.match(left, new RegExp(`get replicaset ${newName}`));
  });

  test('asks for the old pods again that somebody scaled away', () => {
    const { setup, world } = at('step.2');
    const away = edited(world, (cluster) => scaled(cluster, oldName, 0));
    const done = driveUntil(setup, must(setup, away, { do: 'rollBack' }));
    assert.equal(done.state.status, 'CANCELLED');
    assert.equal(specOf(done, 'ReplicaSet', oldName).replicas, 2);
    assert.equal(get(done.cluster, 'TrafficSplit', 'web'), undefined);
  });

  test('pins a root Service again that was deleted and made anew, and sets it free at the end', () => {
    const { setup, world } = at('step.2');
    const anew = edited(world, (cluster) => {
      remove(cluster, 'Service', 'web');
      insert(cluster, get(createWorld(setup).cluster, 'Service', 'web') ?? assert.fail());
    });
    const done = driveUntil(setup, must(setup, anew, { do: 'rollBack' }));
    assert.equal(done.state.status, 'CANCELLED');
    assert.ok(!(hashKey in specOf(done, 'Service', 'web').selector));
  });
});

describe('past the point of no return', () => {
  test('new pods that somebody scaled away are asked for again', () => {
    const { setup, world } = at('F2.wait.0');
    const away = edited(world, (cluster) => scaled(cluster, newName, 0));
    const done = driveUntil(setup, away);
    assert.equal(done.state.status, 'SUCCEEDED');
    assert.equal(specOf(done, 'ReplicaSet', newName).replicas, 2);
  });

  test('a new version that is gone ends the run as FAILED, with what stands', () => {
    const { setup, world } = at('F2.wait.0');
    const gone = edited(world, (cluster) => remove(cluster, 'ReplicaSet', newName));
    const { state } = driveUntil(setup, gone);
    assert.deepEqual([state.status, state.error], ['FAILED', `the new version is gone (ReplicaSet ${newName})`]);
    const left = state.leftInCluster.join('\n');
    assert.match(left, /Service web is pinned/);
    assert.match(left, new RegExp(`the ReplicaSet of the previous version stays.*get replicaset ${oldName}$`, 'm'));
    assert.doesNotMatch(left, new RegExp(newName));
  });
});

test('a permission that is lost mid-run holds, by name, and goes on when it is back', () => {
  const { setup, world } = at('S7.1.weight.0');
  const { effect } = world.state;
  assert.ok(effect);
  const moment = '2026-01-01T01:00:00.000Z';
  const no = {
    type: 'refused',
    key: effect.key,
    status: 403,
    reason: 'Forbidden',
    message: 'cannot patch trafficsplits',
  } as const;
  const { state } = decideDeployment(world.state, { ...no, at: moment });
  assert.deepEqual([state.status, state.rollBack, state.effect], ['RUNNING', null, null]);
  assert.match(waitingFor(state) ?? '', /cannot patch trafficsplits/);
  const again = decideDeployment(state, { type: 'due', at: state.wakeAt ?? '' });
  assert.equal(again.effects[0]?.kind, 'write');
  assert.ok(setup);
});

test('what admission refuses turns the run back: no right would change it', () => {
  const { setup, world } = at('S7.1.weight.0');
  const { effect } = world.state;
  assert.ok(effect);
  const no = {
    type: 'refused',
    key: effect.key,
    status: 403,
    reason: deniedByAdmission,
    message: 'exceeded quota',
  } as const;
  const { state, effects } = decideDeployment(world.state, { ...no, at: '2026-01-01T01:00:00.000Z' });
  assert.equal(state.status, 'ROLLING_BACK');
  assert.notEqual(effects.length, 0);
  const end = driveUntil(setup, { ...world, state });
  assert.deepEqual([end.state.status, end.state.error], ['FAILED', 'exceeded quota (HTTP 403)']);
});

test('what is stored with an effect when it is created is not gone on with', () => {
  const cases: [string, Partial<ObjectFacts>][] = [
    ['S6.create.0', { weights: { stable: 0, canary: 100 } }],
    ['S6.create.0', { weights: null }],
    ['S4.create.0', { replicas: 1 }],
    ['S3.canary.0', { pin: oldHash }],
    ['S3.canary.0', { pin: null }],
  ];
  for (const [instruction, odd] of cases) {
    const { world } = at(instruction);
    const { effect, id } = world.state;
    assert.ok(effect?.kind === 'write');
    const object = { uid: 'u', resourceVersion: '9', deployment: id, appliedBy: id, ...odd };
    const { state } = decideDeployment(world.state, {
      type: 'written',
      key: effect.key,
      object,
      at: '2026-01-01T01:00:00.000Z',
    });
    assert.match(state.rollBack?.reason ?? '', /the cluster stored something else than was asked for \(create on /);
    assert.equal(state.objects[effect.slot]?.uid, 'u', 'and it is taken away');
  }
});

test('a preflight may take its many requests’ time before somebody else looks', () => {
  const setup = createSetup({ steps });
  const world = must(setup, createWorld(setup), { do: 'start' });
  assert.equal(world.state.effect?.kind, 'survey');
  const left = Date.parse(world.state.wakeAt ?? '') - Date.parse(world.state.since);
  assert.ok(left >= 60_000, `${left} ms`);
});

test('an old version that loses its pods while it has traffic is told, and nothing is rolled back for it', () => {
  const { world } = at('step.2');
  const seen = {
    type: 'observed',
    condition: 'guard.old.0',
    holds: true,
    detail: 'no ready pods behind Service web',
  } as const;
  const { state } = decideDeployment(world.state, { ...seen, at: '2026-01-01T01:00:00.000Z' });
  assert.equal(state.status, 'AWAITING_APPROVAL');
  assert.match(waitingFor(state) ?? '', /approval of canary-step-2; attention: no ready pods behind Service web/);
});

describe('several events that are folded together', () => {
  const sight = { type: 'observed', holds: true, detail: '' } as const;
  for (const [what, place, turn] of [
    ['a roll back', 'F1.drain', { type: 'rollBackRequested', by: 'ada' }],
    ['a roll back', 'S5.wait.0', { type: 'rollBackRequested', by: 'ada' }],
    ['a cancellation', 'F1.drain', { type: 'cancelRequested', by: 'ada' }],
    ['pods that are gone', 'F1.drain', { ...sight, condition: 'guard.starved.0' }],
  ] as const) {
    test(`turn the run back for ${what} at ${place}, whatever the others would have begun`, () => {
      const { world } = at(place);
      const over = new Date(world.clock + 600_000).toISOString();
      const ready = { ...sight, at: over, condition: place };
      const { state } = decideDeployment({ ...world.state, effect: null }, ready, { ...turn, at: over });
      assert.equal(state.status, 'ROLLING_BACK');
      assert.match(state.at, /^R/);
    });
  }
});
