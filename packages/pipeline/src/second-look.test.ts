import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DeploymentState } from './deployment-state.ts';
import type { StrategyStep } from './plan.ts';
import { driveUntil, must } from './testing/drive.ts';
import { get, insert, update } from './testing/model-cluster.ts';
import { type SampleOptions, samplePairs } from './testing/samples.ts';
import { act, createSetup, createWorld, type Setup, type World } from './testing/world.ts';

const steps: StrategyStep[] = [{ kind: 'setWeight', weight: 10 }];
const pause: StrategyStep = { kind: 'pause', duration: 1, unit: 'SECONDS' };

function begun(options: SampleOptions): { setup: Setup; world: World } {
  const setup = createSetup({ steps, mesh: 'stored', ...options });
  return { setup, world: must(setup, createWorld(setup), { do: 'start' }) };
}

/** The kinds of calls, in their order, until root is pinned. */
function callsUntilPinned(setup: Setup, from: World, secondsACall = 0): string[] {
  const calls: string[] = [];
  let world = from;
  while (!world.state.at.startsWith('S2.wait')) {
    const { effect } = world.state;
    assert.ok(effect, world.state.at);
    calls.push(effect.key.replace(/#\d+$/, ''));
    world = must(setup, { ...world, clock: world.clock + secondsACall * 1000 }, { do: 'perform', how: 'ok' });
  }
  return calls;
}

const isAt = (id: string) => (world: World) => world.state.at === id;
const endOf = (setup: Setup, world: World): DeploymentState => driveUntil(setup, world).state;

/** Somebody else changes the root Service. */
function withRoot(world: World, spec: object): World {
  const cluster = { ...world.cluster, objects: { ...world.cluster.objects } };
  const root = get(cluster, 'Service', 'web');
  assert.ok(root);
  update(cluster, root, { ...root, spec: { ...(root.spec as object), ...spec } });
  return { ...world, cluster };
}

test('where nothing lies between them, one look is enough', () => {
  const { setup, world } = begun({});
  assert.deepEqual(callsUntilPinned(setup, world), ['P.survey', 'S2.pin.0']);
  const applied = begun({ objects: 'roots' });
  assert.deepEqual(callsUntilPinned(applied.setup, applied.world), ['P.survey', 'P0.object.0', 'S2.pin.0']);
});

test('what others make while the other objects of the file are applied is seen before root is touched', () => {
  const { setup, world } = begun({ objects: true });
  const applying = driveUntil(setup, world, isAt('P0.object.2'));
  const cluster = { ...applying.cluster, objects: { ...applying.cluster.objects } };
  insert(cluster, {
    apiVersion: 'split.smi-spec.io/v1alpha2',
    kind: 'TrafficSplit',
    metadata: { name: 'theirs', namespace: 'shop' },
    spec: { service: 'web', backends: [] },
  });
  const calls: string[] = [];
  const end = driveUntil(setup, { ...applying, cluster }, ({ state }) => {
    calls.push(state.at);
    return state.at.startsWith('S2.');
  });
  assert.deepEqual([end.state.status, calls.includes('S2.pin.0')], ['FAILED', false]);
  assert.match(end.state.error ?? '', /TrafficSplit shop-qa\/theirs: splits Service web already/);
});

test('what took its time, was tried again, or cannot be guarded is looked at twice', () => {
  const slow = begun({ objects: 'roots' });
  assert.ok(callsUntilPinned(slow.setup, slow.world, 1).includes('S1.survey'));
  const again = begun({ objects: 'roots' });
  const lost = must(again.setup, driveUntil(again.setup, again.world, isAt('P0.object.0')), {
    do: 'perform',
    how: 'lostApplied',
  });
  assert.ok(callsUntilPinned(again.setup, lost).includes('S1.survey'));
  for (const options of [
    { given: true },
    { objects: true },
    { pairs: samplePairs.two },
    { pairs: samplePairs.shared },
  ]) {
    const { setup, world } = begun(options);
    assert.ok(callsUntilPinned(setup, world).includes('S1.survey'), JSON.stringify(options));
  }
});

test('after leading steps there is always a second look', () => {
  const { setup, world } = begun({ steps: [{ ...pause, duration: 0 }, ...steps] });
  const there = driveUntil(setup, world, isAt('S1.survey'));
  assert.equal(there.state.effect?.kind, 'survey');
});

test('a root Service that was changed since the look refuses the pin, and is looked at again with all the rest', () => {
  const { setup, world } = begun({});
  const pinning = driveUntil(setup, world, isAt('S2.pin.0'));
  for (const [change, problem] of [
    [{ publishNotReadyAddresses: true }, /publishes pods that are not ready/],
    [{ selector: { app: 'other' } }, /does not select the pods/],
  ] as const) {
    const changed = withRoot(pinning, change);
    const looking = driveUntil(setup, changed, isAt('S1.survey'));
    assert.equal(looking.state.effect?.kind, 'survey');
    const end = endOf(setup, looking);
    assert.equal(end.status, 'FAILED');
    assert.match(end.error ?? '', problem);
    assert.ok(end.steps.every(({ status }) => status !== 'SUCCEEDED'));
  }
  const harmless = endOf(setup, withRoot(pinning, { sessionAffinity: 'ClientIP' }));
  assert.equal(harmless.status, 'SUCCEEDED');
});

test('a pin that was lost on the way does not bring a second look by itself', () => {
  const { setup, world } = begun({});
  const pinning = driveUntil(setup, world, isAt('S2.pin.0'));
  for (const how of ['lostApplied', 'lostNotApplied'] as const) {
    const lost = act(setup, pinning, { do: 'perform', how })?.world;
    assert.ok(lost);
    const calls = callsUntilPinned(setup, lost);
    assert.ok(!calls.includes('S1.survey'), calls.join());
  }
});
