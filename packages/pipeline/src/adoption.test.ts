import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { canRollBack } from './deployment-machine.ts';
import { hashKey } from './marks.ts';
import { errorOf, waitingFor } from './narrate.ts';
import type { StrategyStep } from './plan.ts';
import { programmeOf } from './programme.ts';
import { driveUntil, must } from './testing/drive.ts';
import { formOf, get, list } from './testing/model-cluster.ts';
import { hashesOf, newHash, oldHash } from './testing/samples.ts';
import { createSetup, createWorld, type Setup, type World } from './testing/world.ts';

/* Runs that take a Deployment object over, keep one, or meet one that somebody made. */

type Options = Parameters<typeof createSetup>[0];

const weight = (value: number): StrategyStep => ({ kind: 'setWeight', weight: value });
const approval: StrategyStep = { kind: 'pause', untilApproved: true, approvalExpirationSeconds: null };
const web = (object: 'plain' | 'kept') => [{ root: 'web', deployment: 'web', object }];

function at(options: Options, instruction: string): { setup: Setup; world: World } {
  const setup = createSetup(options);
  const world = driveUntil(setup, createWorld(setup), ({ state }) => state.at === instruction);
  assert.equal(world.state.at, instruction);
  return { setup, world };
}

function end(options: Options): World {
  const setup = createSetup(options);
  return driveUntil(setup, createWorld(setup));
}

const ids = ({ state }: World) => programmeOf(state).map(({ id }) => id);
const named = (world: World, kind: string) => list(world.cluster, kind).map(({ metadata }) => metadata.name);
const deploymentOf = (world: World) => get(world.cluster, 'Deployment', 'web');

describe('taking a Deployment over', () => {
  test('begins with the new pods, ends with the old ReplicaSets, and skips the strategy', () => {
    const { world } = at({ pairs: web('plain'), steps: [weight(50)] }, 'S4.create.0');
    const list = ids(world);
    assert.ok(list.indexOf('S4.scale.0') < list.indexOf('S5.pods.0'));
    assert.deepEqual(list.slice(list.indexOf('S5.pods.0')), [
      'S5.pods.0',
      'F6.survey',
      'F6.pods.0',
      'F6.orphan.0',
      'F6.orphaned.0',
      'F6.new.0',
      'F6.full.0',
      'F6.empty.0',
      'F6.emptied.0',
      'F6.clear.0',
      'F6.clear.1',
      'F7.new.0',
      'F7.ready.0',
      'end',
    ]);
  });

  test('C12: ends with the new version alone, and no Deployment', () => {
    const world = end({ pairs: web('plain'), steps: [weight(50)] });
    assert.equal(world.state.status, 'SUCCEEDED');
    assert.deepEqual([named(world, 'Deployment'), named(world, 'ReplicaSet')], [[], [`web-${newHash}`]]);
    assert.equal(world.state.steps[0]?.status, 'NOT_STARTED');
  });

  test('C13: that fails before leaves the Deployment and its ReplicaSets as they were', () => {
    const { setup, world } = at({ pairs: web('plain') }, 'S5.pods.0');
    const done = driveUntil(setup, must(setup, world, { do: 'rollBack' }));
    assert.equal(done.state.status, 'CANCELLED');
    for (const [key, form] of Object.entries(setup.before)) {
      const [kind = '', name = ''] = key.split('/');
      assert.equal(formOf(get(done.cluster, kind, name)), form, key);
    }
  });

  test('holds while somebody has changed the Deployment, says who, and goes on once it is as it was', () => {
    const { setup, world } = at({ pairs: web('plain') }, 'S5.pods.0');
    const changed = must(setup, world, { do: 'deployment', what: 'image' });
    const held = driveUntil(setup, changed, ({ state }) => state.retry !== null);
    assert.equal(held.state.at, 'F6.survey');
    assert.match(
      waitingFor(held.state) ?? '',
      /Deployment web was changed by unknown.*kubectl delete deployment web -n shop-qa/,
    );
    assert.equal(canRollBack(held.state), true);
    const cluster = { ...held.cluster, objects: { ...held.cluster.objects } };
    const now = get(cluster, 'Deployment', 'web') ?? assert.fail();
    const before = deploymentOf(world) ?? assert.fail();
    cluster.objects['Deployment/web'] = { ...now, spec: before.spec };
    assert.equal(driveUntil(setup, { ...held, cluster }).state.status, 'SUCCEEDED');
  });

  test('does not mind that somebody scales it', () => {
    const { setup, world } = at({ pairs: web('plain') }, 'S5.pods.0');
    const done = driveUntil(setup, must(setup, world, { do: 'deployment', what: 'scale' }));
    assert.deepEqual([done.state.status, named(done, 'ReplicaSet')], ['SUCCEEDED', [`web-${newHash}`]]);
  });

  test('has no way back from the moment that the Deployment is freed of its pods', () => {
    const { world } = at({ pairs: web('plain') }, 'F6.pods.0');
    assert.equal(canRollBack(world.state), true);
    const { world: later } = at({ pairs: web('plain') }, 'F6.orphan.0');
    assert.equal(canRollBack(later.state), false);
    assert.equal(later.state.status, 'FINISHING');
  });

  test('waits, with the old pods serving on, while a Deployment that somebody made again has them', () => {
    const { setup, world } = at({ pairs: web('plain') }, 'F6.orphaned.0');
    const freed = must(setup, world, { do: 'settle' });
    const again = must(setup, must(setup, freed, { do: 'deployment', what: 'make' }), { do: 'settle' });
    const held = driveUntil(setup, again, ({ state }) => waitingFor(state)?.includes('kubectl delete') === true);
    assert.match(waitingFor(held.state) ?? '', /Deployment web stands beside this run \(made by unknown\)/);
    assert.equal(held.state.status, 'FINISHING');
    const done = driveUntil(setup, must(setup, held, { do: 'deployment', what: 'remove' }));
    assert.deepEqual([done.state.status, named(done, 'ReplicaSet')], ['SUCCEEDED', [`web-${newHash}`]]);
  });
});

for (const [name, options, places] of [
  ['taking over', { pairs: web('plain') }, ['F6.empty.0', 'F6.emptied.0', 'F6.clear.0', 'F6.clear.1']],
  ['a canary', { mesh: 'stored' }, ['F6.ready.0', 'F6.scale.0', 'F6.gone.0', 'F6.delete.0', 'F7.unpin.0']],
] as [string, Options, string[]][]) {
  for (const place of places) {
    test(`${name} that lost its new version at ${place} asks for it again, or fails where it is gone`, () => {
      const { setup, world } = at(options, place);
      const key = `ReplicaSet/web-${newHash}`;
      const set = world.cluster.objects[key] ?? assert.fail();
      const spec = { ...(set.spec as object), replicas: 0 };
      const revision = world.cluster.revision + 1;
      const metadata = { ...set.metadata, resourceVersion: String(revision) };
      const scaled = {
        ...world.cluster,
        revision,
        objects: { ...world.cluster.objects, [key]: { ...set, metadata, spec } },
      };
      const again = driveUntil(setup, { ...world, cluster: scaled });
      assert.equal(again.state.status, 'SUCCEEDED');
      assert.equal((again.cluster.objects[key] as unknown as { spec: { replicas: number } }).spec.replicas, 2);
      const { [key]: _, ...objects } = world.cluster.objects;
      const gone = driveUntil(setup, { ...world, cluster: { ...world.cluster, objects } });
      assert.deepEqual(
        [gone.state.status, gone.state.error],
        ['FAILED', `the new version is gone (ReplicaSet web-${newHash})`],
      );
    });
  }
}

describe('keeping the Deployment object', () => {
  test('C14: over a first version it owns the ReplicaSet that runs, and starts no pod', () => {
    const world = end({ first: true, keep: true });
    assert.equal(world.state.status, 'SUCCEEDED');
    const set = get(world.cluster, 'ReplicaSet', `web-${newHash}`);
    assert.equal(set?.metadata.ownerReferences?.[0]?.uid, deploymentOf(world)?.metadata.uid);
    assert.deepEqual(named(world, 'Pod').length, 2);
    assert.deepEqual((deploymentOf(world)?.spec as { paused?: boolean } | undefined)?.paused, undefined);
    assert.equal(set?.metadata.labels?.app, 'web');
  });

  for (const instruction of ['F8.label.0', 'F8.resume.0', 'F8.settled.0']) {
    test(`holds at ${instruction} while somebody has changed the Deployment, by name, until it is as it was`, () => {
      const { setup, world } = at({ first: true, keep: true }, instruction);
      const before = deploymentOf(world) ?? assert.fail();
      const changed = must(setup, world, { do: 'deployment', what: 'image' });
      const told = driveUntil(setup, changed, ({ state }) => waitingFor(state)?.includes('kubectl') === true);
      const late = told.clock + 600_000;
      const held = driveUntil(setup, told, ({ clock }) => clock > late);
      assert.equal(held.state.status, 'FINISHING');
      assert.match(
        waitingFor(held.state) ?? '',
        /Deployment web was changed by unknown and asks for other pods.*kubectl delete deployment web -n shop-qa/,
      );
      const now = deploymentOf(held) ?? assert.fail();
      const { template } = before.spec as { template: unknown };
      const cluster = { ...held.cluster, objects: { ...held.cluster.objects } };
      cluster.objects['Deployment/web'] = { ...now, spec: { ...(now.spec as object), template } };
      const done = driveUntil(setup, { ...held, cluster });
      assert.equal(done.state.status, 'SUCCEEDED');
    });
  }

  test('names who made another Deployment in its place, and makes its own once that is gone', () => {
    const { setup, world } = at({ first: true, keep: true }, 'F8.label.0');
    const bare = { ...world.cluster, objects: { ...world.cluster.objects } };
    delete bare.objects['Deployment/web'];
    const beside = must(setup, { ...world, cluster: bare }, { do: 'deployment', what: 'make' });
    const late = beside.clock + 300_000;
    const held = driveUntil(setup, beside, ({ clock }) => clock > late);
    assert.equal(held.state.status, 'FINISHING');
    assert.match(
      waitingFor(held.state) ?? '',
      /Deployment web .*made by unknown.*kubectl delete deployment web -n shop-qa/,
    );
    assert.equal(get(held.cluster, 'ReplicaSet', `web-${newHash}`)?.metadata.ownerReferences, undefined);
    const done = driveUntil(setup, must(setup, held, { do: 'deployment', what: 'remove' }));
    assert.equal(done.state.status, 'SUCCEEDED');
    assert.equal(deploymentOf(done)?.metadata.annotations?.owner, undefined);
  });

  test('that lost its ReplicaSet meanwhile fails, and says what is left and what is not', () => {
    const { setup, world } = at({ first: true, keep: true }, 'F8.adopted.0');
    const cluster = { ...world.cluster, objects: { ...world.cluster.objects } };
    delete cluster.objects[`ReplicaSet/web-${newHash}`];
    const { state } = driveUntil(setup, { ...world, cluster });
    assert.deepEqual([state.status, state.error], ['FAILED', `the new version is gone (ReplicaSet web-${newHash})`]);
    assert.deepEqual(state.leftInCluster, [
      'Deployment web was made by this deployment and stays, paused: kubectl -n shop-qa delete deployment web',
    ]);
  });

  test('the next run sets it aside first, shifts traffic as ever, and makes it again in the end', () => {
    const { world } = at({ pairs: web('kept'), keep: true, steps: [weight(50)], mesh: 'stored' }, 'S1.orphan.0');
    const list = ids(world);
    assert.deepEqual(list.slice(0, 6), [
      'P.survey',
      'S1.survey',
      'S1.orphan.0',
      'S1.orphaned.0',
      'S1.unlabel.0',
      'S2.pin.0',
    ]);
    assert.deepEqual(list.slice(-10), [
      'F6.delete.0',
      'F7.unpin.0',
      'F7.new.0',
      'F7.ready.0',
      'F8.create.0',
      'F8.label.0',
      'F8.adopted.0',
      'F8.resume.0',
      'F8.settled.0',
      'end',
    ]);
    const done = end({ pairs: web('kept'), keep: true, steps: [weight(50)], mesh: 'stored' });
    assert.deepEqual([done.state.status, named(done, 'ReplicaSet')], ['SUCCEEDED', [`web-${newHash}`]]);
    const { template } = (deploymentOf(done) ?? assert.fail()).spec as { template: { metadata: { labels: object } } };
    assert.deepEqual(template.metadata.labels, { app: 'web', [hashKey]: newHash });
  });

  test('a roll back makes it again as it was', () => {
    const { setup, world } = at({ pairs: web('kept'), steps: [weight(50), approval], mesh: 'stored' }, 'step.2');
    assert.equal(deploymentOf(world), undefined);
    const done = driveUntil(setup, must(setup, world, { do: 'rollBack' }));
    assert.equal(done.state.status, 'CANCELLED');
    for (const name of ['Deployment/web', `ReplicaSet/web-${oldHash}`]) {
      const [kind = '', id = ''] = name.split('/');
      assert.equal(formOf(get(done.cluster, kind, id)), setup.before[name]);
    }
  });

  test('with keepDeploymentObject taken out of the file it stays away', () => {
    const world = end({ pairs: web('kept'), mesh: 'stored' });
    assert.deepEqual([world.state.status, named(world, 'Deployment')], ['SUCCEEDED', []]);
  });

  test('a roll back that meets somebody’s Deployment leaves that alone and says so', () => {
    const { setup, world } = at({ pairs: web('kept'), steps: [weight(50), approval], mesh: 'stored' }, 'step.2');
    const beside = must(setup, world, { do: 'deployment', what: 'make' });
    const told = driveUntil(setup, beside, ({ state }) => state.observed['guard.deployment.0']?.holds === true);
    const done = driveUntil(setup, must(setup, told, { do: 'rollBack' }));
    assert.equal(done.state.status, 'CANCELLED');
    assert.match(done.state.leftInCluster.join('\n'), /Deployment web was not restored/);
    assert.match(
      done.state.leftInCluster.join('\n'),
      /made by somebody else.*kubectl delete deployment web -n shop-qa/,
    );
    assert.equal(get(done.cluster, 'ReplicaSet', `web-${oldHash}`)?.metadata.labels?.app, undefined);
  });
});

describe('a Deployment that somebody makes in the middle of a run', () => {
  const steps = [weight(20), approval, weight(60)];

  test('keeps weights from rising, by name, until it is gone', () => {
    const { setup, world } = at({ steps, mesh: 'stored' }, 'step.2');
    const beside = must(setup, must(setup, world, { do: 'deployment', what: 'make' }), { do: 'settle' });
    const told = driveUntil(setup, beside, ({ state }) => state.observed['guard.deployment.0']?.holds === true);
    const held = must(setup, told, { do: 'approve' });
    assert.deepEqual([held.state.at, held.state.effect], ['S7.3.weight.0', null]);
    assert.match(waitingFor(held.state) ?? '', /Deployment web stands beside.*no weight rises until that is over/);
    assert.equal(canRollBack(held.state), true);
    const done = driveUntil(setup, must(setup, held, { do: 'deployment', what: 'remove' }));
    assert.equal(done.state.status, 'SUCCEEDED');
  });

  test('past the point of no return holds root to the new pods until it and its pods are gone', () => {
    const { setup, world } = at({ mesh: 'stored' }, 'F6.gone.0');
    const beside = must(setup, must(setup, world, { do: 'deployment', what: 'make' }), { do: 'settle' });
    const held = driveUntil(setup, beside, ({ state }) => state.at === 'F7.unpin.0' && state.effect === null);
    assert.match(waitingFor(held.state) ?? '', /Deployment web stands beside.*the deployment ends once that is over/);
    const orphaned = { ...held, cluster: { ...held.cluster, objects: { ...held.cluster.objects } } };
    delete orphaned.cluster.objects['Deployment/web'];
    const strangers = driveUntil(setup, orphaned, ({ state }) => state.observed['strangers.0']?.holds === false);
    assert.match(waitingFor(strangers.state) ?? '', /Service web would select pods of another version: web-k1-0/);
    const cluster = { ...strangers.cluster, objects: { ...strangers.cluster.objects } };
    for (const key of Object.keys(cluster.objects))
      if (/^(ReplicaSet|Pod)\/web-k1/.test(key)) delete cluster.objects[key];
    assert.equal(driveUntil(setup, { ...strangers, cluster }).state.status, 'SUCCEEDED');
  });

  test('is left to people by a roll back, which says that its pods get traffic', () => {
    const { setup, world } = at({ steps, mesh: 'stored' }, 'step.2');
    const beside = must(setup, world, { do: 'deployment', what: 'make' });
    const told = driveUntil(setup, beside, ({ state }) => state.observed['guard.deployment.0']?.holds === true);
    const done = driveUntil(setup, must(setup, told, { do: 'rollBack' }));
    assert.equal(errorOf(done.state), 'rolled back by someone');
    assert.match(done.state.leftInCluster.join(), /its pods get traffic beside the previous version/);
    assert.ok(deploymentOf(done));
  });
});

test('of two Deployments one is taken over and one shifted: both end together', () => {
  const pairs = [
    { root: 'api', deployment: 'api', object: 'plain' as const },
    { root: 'web', deployment: 'web' },
  ];
  const { world } = at({ pairs, mesh: 'stored' }, 'F6.survey');
  const list = ids(world);
  assert.ok(
    list.indexOf('F2.pin.1') < list.indexOf('F6.survey') && list.indexOf('F6.clear.1') < list.indexOf('F7.unpin.1'),
  );
  const done = end({ pairs, mesh: 'stored' });
  assert.deepEqual(
    [done.state.status, named(done, 'ReplicaSet').sort()],
    ['SUCCEEDED', [`api-${hashesOf('api').new}`, `web-${newHash}`]],
  );
});
