import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { waitingFor } from './narrate.ts';
import { programmeOf } from './programme.ts';
import { driveUntil, must } from './testing/drive.ts';
import { formOf, get, insert, type ModelCluster, remove, update } from './testing/model-cluster.ts';
import { controllerOf, removeWithOwned } from './testing/model-deployments.ts';
import { namespace, newHash, oldHash } from './testing/samples.ts';
import { act, createSetup, createWorld, type Setup, type World } from './testing/world.ts';

/* The end of a run: what others do to the new version, or put beside it, while the last things are let go of. */

type Options = Parameters<typeof createSetup>[0];

const web = (object: 'plain' | 'kept') => [{ root: 'web', deployment: 'web', object }];
const canary: Options = { mesh: 'stored' };
const name = `web-${newHash}`;

function at(options: Options, instruction: string): { setup: Setup; world: World } {
  const setup = createSetup(options);
  const world = driveUntil(setup, createWorld(setup), ({ state }) => state.at === instruction);
  assert.equal(world.state.at, instruction);
  return { setup, world };
}

/** The world once somebody did something in its cluster. */
function after(world: World, change: (cluster: ModelCluster) => void): World {
  const cluster = { ...world.cluster, objects: { ...world.cluster.objects } };
  change(cluster);
  return { ...world, cluster };
}

const scale = (replicas: number, kind = 'ReplicaSet', of = name) => {
  return (cluster: ModelCluster) => {
    const object = get(cluster, kind, of) ?? assert.fail();
    update(cluster, object, { ...object, spec: { ...(object.spec as object), replicas } });
  };
};
const asksFor = ({ cluster }: World, kind = 'ReplicaSet', of = name) =>
  (get(cluster, kind, of)?.spec as { replicas?: number } | undefined)?.replicas;

describe('the last thing that is seen', () => {
  test('is that the new version has all its pods: no request goes into that where nobody touched it', () => {
    const { setup, world } = at(canary, 'F7.unpin.0');
    const { calls } = world.state;
    const done = driveUntil(setup, world);
    assert.deepEqual([done.state.status, done.state.calls], ['SUCCEEDED', calls]);
    const ids = programmeOf(world.state).map(({ id }) => id);
    assert.deepEqual(ids.slice(-3), ['F7.new.0', 'F7.ready.0', 'end']);
  });

  test('is asked for where the watches are silent, and one that was scaled down gets its pods again', () => {
    const { setup, world } = at(canary, 'F7.unpin.0');
    const scaled = after(world, scale(0));
    let now = must(setup, must(setup, scaled, { do: 'perform', how: 'ok' }), { do: 'pods' });
    assert.equal(now.state.at, 'F7.ready.0');
    for (let moves = 0; moves < 20 && asksFor(now) === 0; moves += 1) {
      const next = act(setup, now, { do: 'perform', how: 'ok' }) ?? act(setup, now, { do: 'due' });
      now = next?.world ?? assert.fail();
      assert.equal(now.state.completedAt, null);
    }
    const done = driveUntil(setup, now);
    assert.deepEqual([done.state.status, asksFor(done)], ['SUCCEEDED', 2]);
    assert.match(done.state.warnings.join(), /ReplicaSet web-newhash001 was changed by somebody/);
  });

  test('fails a run whose new ReplicaSet is gone, however late', () => {
    const { setup, world } = at(canary, 'F7.unpin.0');
    const bare = after(world, (cluster) => remove(cluster, 'ReplicaSet', name));
    const { state } = driveUntil(setup, must(setup, bare, { do: 'perform', how: 'ok' }));
    assert.deepEqual([state.status, state.error], ['FAILED', `the new version is gone (ReplicaSet ${name})`]);
  });

  test('and before it pods that somebody takes away again and again are asked for as often', () => {
    const begun = at(canary, 'F6.gone.0');
    const { setup } = begun;
    let now = begun.world;
    for (let round = 0; round < 5; round += 1) {
      now = must(setup, must(setup, after(now, scale(0)), { do: 'look' }), { do: 'tell' });
      for (let moves = 0; moves < 300 && asksFor(now) === 0; moves += 1) {
        now = (act(setup, now, { do: 'perform', how: 'ok' }) ?? act(setup, now, { do: 'due' }))?.world ?? assert.fail();
      }
      assert.deepEqual([now.state.at, now.state.frozen, asksFor(now)], ['F6.gone.0', [], 2]);
    }
  });
});

/** A Deployment of another name, as somebody applies it. */
const rival = (name: string, fields: { labels?: Record<string, string>; replicas?: number } = {}) => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name, namespace, managedFields: [{ manager: 'argocd-controller' }] },
  spec: {
    replicas: fields.replicas ?? 1,
    selector: { matchLabels: fields.labels ?? { app: 'web' } },
    template: { metadata: { labels: { app: 'web', ...fields.labels } }, spec: { containers: [] } },
  },
});

/** Drives on until people are told of it, and beyond. */
function held(setup: Setup, world: World, instruction: string): World {
  const told = driveUntil(setup, world, ({ state }) => state.at === instruction && state.effect === null);
  const late = told.clock + 600_000;
  const waits = driveUntil(setup, told, ({ clock }) => clock > late);
  assert.equal(waits.state.at, instruction);
  return waits;
}

describe('a Deployment of another name that appears beside a run', () => {
  test('keeps the new ReplicaSet from getting the labels by which that would take it, by name, until it is gone', () => {
    const { setup, world } = at({ first: true, keep: true }, 'S4.create.0');
    const beside = after(world, (cluster) => void insert(cluster, rival('web-copy')));
    const waits = held(setup, beside, 'F8.create.0');
    assert.match(
      waitingFor(waits.state) ?? '',
      /Deployment web-copy \(made by argocd-controller\) would take ReplicaSet web-newhash001.*kubectl delete deployment web-copy -n shop-qa/,
    );
    const set = get(waits.cluster, 'ReplicaSet', name) ?? assert.fail();
    assert.equal(controllerOf(set), undefined);
    const gone = after(waits, (cluster) => removeWithOwned(cluster, 'web-copy'));
    const done = driveUntil(setup, gone);
    assert.equal(done.state.status, 'SUCCEEDED');
    const kept = get(done.cluster, 'ReplicaSet', name) ?? assert.fail();
    assert.equal(controllerOf(kept), get(done.cluster, 'Deployment', 'web')?.metadata.uid);
  });

  test('is as much in the way when it appears after the Deployment that is kept was made', () => {
    const { setup, world } = at({ first: true, keep: true }, 'F8.create.0');
    const beside = after(must(setup, world, { do: 'perform', how: 'ok' }), (cluster) => {
      insert(cluster, rival('web-copy'));
    });
    assert.equal(beside.state.at, 'F8.label.0');
    // Its write is on its way; it is refused, and looked at again.
    const told = must(setup, must(setup, beside, { do: 'look' }), { do: 'tell' });
    const retried = must(setup, told, { do: 'perform', how: 'unreachable' });
    const waits = held(setup, retried, 'F8.label.0');
    assert.match(waitingFor(waits.state) ?? '', /Deployment web-copy .* would take ReplicaSet/);
  });

  test('keeps root on the new pods while it has pods that root would send traffic to', () => {
    const { setup, world } = at(canary, 'F6.gone.0');
    const beside = after(world, (cluster) => void insert(cluster, rival('debug', { labels: { x: 'y' } })));
    const waits = held(setup, beside, 'F7.unpin.0');
    assert.match(
      waitingFor(waits.state) ?? '',
      /Deployment debug \(made by argocd-controller\) has pods that Service web would send traffic to.*kubectl delete deployment debug -n shop-qa/,
    );
    const gone = after(waits, (cluster) => remove(cluster, 'Deployment', 'debug'));
    assert.equal(driveUntil(setup, gone).state.status, 'SUCCEEDED');
    const none = after(world, (cluster) => {
      insert(cluster, rival('debug', { replicas: 0, labels: { x: 'y' } }));
    });
    assert.equal(driveUntil(setup, none).state.status, 'SUCCEEDED');
  });

  test('is named by a roll back, whose end it does not hold up', () => {
    const { setup, world } = at({ mesh: 'stored', steps: [{ kind: 'setWeight', weight: 20 }] }, 'S7.1.weight.0');
    const beside = after(world, (cluster) => void insert(cluster, rival('debug', { labels: { x: 'y' } })));
    const done = driveUntil(setup, must(setup, beside, { do: 'rollBack' }));
    assert.equal(done.state.status, 'CANCELLED');
    assert.match(
      done.state.leftInCluster.join(),
      /Deployment debug .* has pods that Service web would send traffic to/,
    );
  });

  test('keeps a roll back from giving the old ReplicaSet its labels again until it is gone', () => {
    const { setup, world } = at(
      { pairs: web('kept'), mesh: 'stored', steps: [{ kind: 'setWeight', weight: 20 }] },
      'S7.1.weight.0',
    );
    const rolled = must(setup, world, { do: 'rollBack' });
    const beside = after(rolled, (cluster) => void insert(cluster, rival('web-copy', { replicas: 0 })));
    const waits = held(setup, beside, 'R7.create.0');
    assert.match(waitingFor(waits.state) ?? '', /Deployment web-copy .* would take ReplicaSet web-oldhash001/);
    const gone = after(waits, (cluster) => remove(cluster, 'Deployment', 'web-copy'));
    const done = driveUntil(setup, gone);
    assert.equal(done.state.status, 'CANCELLED');
    assert.equal(formOf(get(done.cluster, 'ReplicaSet', `web-${oldHash}`)), setup.before[`ReplicaSet/web-${oldHash}`]);
  });
});

describe('pods that others ask for while a ReplicaSet is handed to its Deployment', () => {
  test('fewer are put back as long as the run has it', () => {
    for (const instruction of ['F8.create.0', 'F8.label.0']) {
      const { setup, world } = at({ first: true, keep: true }, instruction);
      const scaled = after(world, scale(1));
      const told = driveUntil(setup, act(setup, scaled, { do: 'look' })?.world ?? scaled);
      assert.equal(told.state.status, 'SUCCEEDED', instruction);
      assert.deepEqual([asksFor(told), asksFor(told, 'Deployment', 'web')], [2, 2], instruction);
    }
  });

  test('of the Deployment that stands over it are left so, and the run says it', () => {
    for (const replicas of [1, 5]) {
      const { setup, world } = at({ first: true, keep: true }, 'F8.resume.0');
      const done = driveUntil(setup, after(world, scale(replicas, 'Deployment', 'web')));
      assert.equal(done.state.status, 'SUCCEEDED');
      assert.equal(asksFor(done, 'Deployment', 'web'), replicas);
      assert.match(
        done.state.warnings.join(),
        new RegExp(`ask for ${replicas} pods instead of 2, and that is left so`),
      );
    }
  });

  test('of a Deployment that was scaled down before it had the pods are told, with the line that asks for them again', () => {
    const { setup, world } = at({ first: true, keep: true }, 'F8.adopted.0');
    const waits = held(setup, after(world, scale(1, 'Deployment', 'web')), 'F8.adopted.0');
    assert.match(
      waitingFor(waits.state) ?? '',
      /asks for 1 pods instead of 2 .*kubectl scale deployment web -n shop-qa --replicas=2/,
    );
    assert.equal(driveUntil(setup, after(waits, scale(2, 'Deployment', 'web'))).state.status, 'SUCCEEDED');
  });

  test('of the previous version are put back by a roll back until that is its Deployment’s again', () => {
    const { setup, world } = at(
      { pairs: web('kept'), mesh: 'stored', steps: [{ kind: 'setWeight', weight: 20 }] },
      'S7.1.weight.0',
    );
    const back = driveUntil(setup, must(setup, world, { do: 'rollBack' }), ({ state }) => state.at === 'R7.create.0');
    const scaled = after(back, scale(1, 'ReplicaSet', `web-${oldHash}`));
    const done = driveUntil(setup, act(setup, scaled, { do: 'look' })?.world ?? scaled);
    assert.equal(done.state.status, 'CANCELLED');
    assert.equal(asksFor(done, 'ReplicaSet', `web-${oldHash}`), 2);
  });
});

test('the model refuses a Deployment that does not select the pods of its own template', () => {
  const { world } = at(canary, 'P.survey');
  const stray = rival('stray');
  const spec = { ...stray.spec, selector: { matchLabels: { app: 'other' } } };
  assert.throws(() => after(world, (cluster) => void insert(cluster, { ...stray, spec })), /selects other pods/);
});

test('labels that others put on the previous version stay through the run after', () => {
  const { setup, world } = at(canary, 'P.survey');
  const worn = after(world, (cluster) => {
    const set = get(cluster, 'ReplicaSet', `web-${oldHash}`) ?? assert.fail();
    update(cluster, set, {
      ...set,
      metadata: { ...set.metadata, labels: { ...set.metadata.labels, injected: 'yes' } },
    });
  });
  const started = driveUntil(setup, worn, ({ state }) => state.survey !== null);
  assert.ok(!programmeOf(started.state).some(({ id }) => id.startsWith('S1.unlabel')));
  assert.equal(driveUntil(setup, started).state.status, 'SUCCEEDED');
});
