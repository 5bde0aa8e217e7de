import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { canApprove, canRollBack, decideDeployment } from './deployment-machine.ts';
import type { DeploymentEvent, DeploymentState } from './deployment-state.ts';
import { hashKey } from './marks.ts';
import type { StrategyStep } from './plan.ts';
import { readDeploymentState } from './stored.ts';
import { driveUntil, must } from './testing/drive.ts';
import { formOf, get, list } from './testing/model-cluster.ts';
import { runReplicaSets, setReady } from './testing/model-controllers.ts';
import { newHash, oldHash } from './testing/samples.ts';
import { act, createSetup, createWorld, type Setup, type World } from './testing/world.ts';

type Told = DeploymentEvent extends infer Each ? (Each extends DeploymentEvent ? Omit<Each, 'at'> : never) : never;

const weight = (value: number): StrategyStep => ({ kind: 'setWeight', weight: value });
const approval = (seconds: number | null = null): StrategyStep => ({
  kind: 'pause',
  untilApproved: true,
  approvalExpirationSeconds: seconds,
});

function at(options: Parameters<typeof createSetup>[0], instruction: string): { setup: Setup; world: World } {
  const setup = createSetup(options);
  const world = driveUntil(setup, createWorld(setup), ({ state }) => state.at === instruction);
  assert.equal(world.state.at, instruction);
  return { setup, world };
}

/** The state after an event, told the world's seconds since the run began. */
function told(state: DeploymentState, seconds: number, event: Told) {
  const time = new Date(Date.parse('2026-01-01T00:00:00.000Z') + seconds * 1000).toISOString();
  return decideDeployment(state, { at: time, ...event } as DeploymentEvent);
}

const weightsOf = ({ cluster }: World) =>
  (get(cluster, 'TrafficSplit', 'web')?.spec as { backends: { weight: number }[] } | undefined)?.backends.map(
    (backend) => backend.weight,
  );
const podsOf = ({ cluster }: World, hash: string) =>
  list(cluster, 'Pod').filter(({ metadata }) => metadata.labels?.[hashKey] === hash).length;
const selectorOf = ({ cluster }: World) =>
  (get(cluster, 'Service', 'web')?.spec as { selector?: object } | undefined)?.selector;

describe('a canary over a TrafficSplit', () => {
  const steps = [weight(10), approval(), weight(60), approval()];

  test('D01: at 10 all new pods run, and canary Service and split exist', () => {
    const { world } = at({ steps, replicas: 3 }, 'step.2');
    assert.deepEqual([podsOf(world, newHash), podsOf(world, oldHash), weightsOf(world)], [3, 2, [90, 10]]);
    assert.ok(get(world.cluster, 'Service', 'web-canary'));
    assert.deepEqual(selectorOf(world), { app: 'web', [hashKey]: oldHash });
    assert.deepEqual(world.state.steps[0]?.status, 'SUCCEEDED');
    assert.deepEqual([world.state.status, world.state.wakeAt], ['AWAITING_APPROVAL', null]);
  });

  test('D02: at the next weight only the weights change, by one write', () => {
    const { setup, world } = at({ steps, replicas: 3 }, 'step.2');
    const later = driveUntil(setup, must(setup, world, { do: 'approve' }), ({ state }) => state.at === 'step.4');
    assert.deepEqual([podsOf(later, newHash), podsOf(later, oldHash), weightsOf(later)], [3, 2, [40, 60]]);
    assert.equal(later.state.calls - world.state.calls, 1);
  });

  test('D05: when it succeeded, split and created Service are gone and root is as before', () => {
    const setup = createSetup({ steps: [weight(50)], replicas: 3 });
    const end = driveUntil(setup, createWorld(setup));
    assert.equal(end.state.status, 'SUCCEEDED');
    assert.equal(get(end.cluster, 'TrafficSplit', 'web'), undefined);
    assert.equal(get(end.cluster, 'Service', 'web-canary'), undefined);
    assert.equal(formOf(get(end.cluster, 'Service', 'web')), setup.before['Service/web']);
    assert.deepEqual([podsOf(end, newHash), podsOf(end, oldHash)], [3, 0]);
  });

  test('D06: a roll back at 60 gives traffic back first and only then removes the new pods', () => {
    const { setup, world } = at({ steps }, 'step.2');
    const sixty = driveUntil(setup, must(setup, world, { do: 'approve' }), ({ state }) => state.at === 'step.4');
    const turning = driveUntil(setup, must(setup, sixty, { do: 'rollBack' }), ({ state }) => state.at === 'R1.drain');
    assert.deepEqual([weightsOf(turning), podsOf(turning, newHash)], [[100, 0], 2]);
    const end = driveUntil(setup, turning);
    assert.deepEqual([end.state.status, podsOf(end, newHash), podsOf(end, oldHash)], ['CANCELLED', 0, 2]);
    assert.equal(end.state.steps[3]?.status, 'CANCELLED');
  });

  test('D09: a first deployment leaves no split and shifts nothing', () => {
    const setup = createSetup({ steps: [weight(20), approval()], first: true });
    const end = driveUntil(setup, createWorld(setup));
    assert.deepEqual([end.state.status, list(end.cluster, 'TrafficSplit')], ['SUCCEEDED', []]);
    assert.equal(get(end.cluster, 'Service', 'web-canary'), undefined);
  });

  test('D11: a worker that is replaced at any write makes nothing twice', () => {
    const setup = createSetup({ steps });
    const begun = act(setup, createWorld(setup), { do: 'start' })?.world as World;
    for (let world = begun; world.state.at !== 'step.2'; ) {
      const before = world;
      world = driveUntil(setup, world, ({ state }) => state.effect !== null || state.at === 'step.2');
      const lost = act(setup, world, { do: 'perform', how: 'lostApplied' })?.world;
      const resumed = driveUntil(setup, lost ?? world, ({ state }) => state.at === 'step.2');
      assert.deepEqual(weightsOf(resumed), [90, 10]);
      assert.deepEqual(
        list(resumed.cluster, 'Service')
          .map(({ metadata }) => metadata.name)
          .sort(),
        ['bystander', 'web', 'web-canary'],
      );
      assert.equal(podsOf(resumed, newHash), 2);
      world = driveUntil(setup, world, ({ state }) => state.calls > before.state.calls && state.effect === null);
    }
  });

  test('C07: while a leading pause lasts there is nothing of the new version', () => {
    const { setup, world } = at({ steps: [{ kind: 'pause', duration: 1, unit: 'MINUTES' }, weight(20)] }, 'step.1');
    assert.equal(podsOf(world, newHash), 0);
    assert.deepEqual(selectorOf(world), { app: 'web' });
    assert.deepEqual([world.state.status, world.state.wakeAt], ['PAUSED', '2026-01-01T00:01:00.000Z']);
    assert.equal(act(setup, world, { do: 'due' })?.world.state.at, 'S1.survey');
  });

  test('C10: an object that the API server refuses rolls back and shows the server’s words', () => {
    const { setup, world } = at({ objects: true }, 'P0.object.1');
    const refused = told(world.state, 1, {
      type: 'refused',
      key: world.state.effect?.key ?? '',
      status: 422,
      reason: 'Invalid',
      message: 'data.value: Invalid value',
    });
    const end = driveUntil(setup, { ...world, state: refused.state });
    assert.equal(end.state.status, 'FAILED');
    assert.equal(end.state.error, 'data.value: Invalid value (HTTP 422)');
    assert.equal(formOf(get(end.cluster, 'ConfigMap', 'settings')), setup.before['ConfigMap/settings']);
  });

  test('an apply that the API server cannot read is refused, though it answers that with 500', () => {
    const { setup, world } = at({ objects: true }, 'P0.object.0');
    const message =
      'failed to create typed patch object (shop/settings; /v1, Kind=ConfigMap): .dta: field not declared';
    const key = world.state.effect?.key ?? '';
    const refused = told(world.state, 1, { type: 'refused', key, status: 500, reason: '', message });
    const end = driveUntil(setup, { ...world, state: refused.state });
    assert.deepEqual([end.state.status, end.state.error], ['FAILED', `${message} (HTTP 500)`]);
  });

  test('an explicit 100 keeps the old side, later steps run, and the implied 100 sends nothing', () => {
    const { setup, world } = at({ steps: [weight(100), approval()] }, 'step.2');
    assert.deepEqual([weightsOf(world), podsOf(world, oldHash)], [[0, 100], 2]);
    const rv = get(world.cluster, 'TrafficSplit', 'web')?.metadata.resourceVersion;
    const drained = driveUntil(setup, must(setup, world, { do: 'approve' }), ({ state }) => state.at === 'F1.drain');
    assert.equal(get(drained.cluster, 'TrafficSplit', 'web')?.metadata.resourceVersion, rv);
    // Nor is it read: what others change of it is told by the watches.
    assert.equal(drained.state.calls, world.state.calls);
  });
});

describe('approvals', () => {
  test('count for their own step only, and only while it waits', () => {
    const { world } = at({ steps: [approval(), approval()] }, 'step.1');
    const wrong = told(world.state, 1, { type: 'approved', ref: 'canary-step-2', by: 'ada' });
    assert.equal(wrong.state.at, 'step.1');
    const right = told(world.state, 1, { type: 'approved', ref: 'canary-step-1', by: 'ada' });
    assert.deepEqual([right.state.at, right.state.steps[0]?.approvedBy], ['step.2', 'ada']);
    const twice = told(right.state, 1, { type: 'approved', ref: 'canary-step-1', by: 'bob' });
    assert.deepEqual([twice.state.at, twice.state.steps[0]?.approvedBy], ['step.2', 'ada']);
    assert.equal(canApprove(world.state), true);
    assert.equal(canApprove(told(world.state, 1, { type: 'rollBackRequested', by: 'ada' }).state), false);
  });

  test('that come too late end the run as CANCELLED', () => {
    const { world } = at({ steps: [approval(60)] }, 'step.1');
    assert.equal(world.state.wakeAt, '2026-01-01T00:01:00.000Z');
    assert.equal(told(world.state, 59, { type: 'due' }).state.status, 'AWAITING_APPROVAL');
    const { state } = told(world.state, 60, { type: 'due' });
    assert.deepEqual(
      [state.status, state.error, state.steps[0]?.status],
      ['CANCELLED', 'nobody approved in time', 'CANCELLED'],
    );
  });
});

describe('limits', () => {
  test('pods that are not ready in time roll back, with what Kubernetes says', () => {
    const { setup, world } = at({ mesh: 'stored' }, 'S5.wait.0');
    const broken = structuredClone(world);
    runReplicaSets(broken.cluster);
    let state: World | undefined = broken;
    for (let checks = 0; state && state.state.rollBack === null && checks < 200; checks += 1) {
      state = act(setup, state, { do: 'due' })?.world ?? act(setup, state, { do: 'perform', how: 'ok' })?.world;
    }
    assert.equal(
      state?.state.rollBack?.reason,
      'not ready within 1800 s: 0 of 2 pods ready behind Service web-canary (2 running, not ready)',
    );
    assert.equal(state?.clock, Date.parse('2026-01-01T00:30:00.000Z'));
  });

  test('no mesh within 30 s: nothing was shifted', () => {
    const { setup, world } = at({ steps: [weight(20)] }, 'S6.mesh.0');
    const asked = must(setup, world, { do: 'due' });
    const { state } = must(setup, asked, { do: 'perform', how: 'ok' });
    assert.equal(
      state.rollBack?.reason,
      'no mesh took the TrafficSplit within 30 s (the mesh has no weights for this Service); nothing was shifted',
    );
    assert.equal(state.undo?.routes[0]?.shifted, false);
  });

  test('fewer ready pods than asked for roll back only when it lasts longer than pods may take', () => {
    const { world } = at({ steps: [weight(20), approval()], mesh: 'stored' }, 'step.2');
    const observed = (holds: boolean) => ({
      type: 'observed' as const,
      condition: 'guard.short.0',
      holds,
      detail: '1 of 2',
    });
    let { state } = told(world.state, 100, observed(true));
    assert.equal(state.wakeAt, '2026-01-01T00:31:40.000Z');
    // Told again with other words: it began when it turned.
    ({ state } = told(state, 900, observed(true)));
    assert.equal(state.wakeAt, '2026-01-01T00:31:40.000Z');
    const well = told(state, 1000, observed(false)).state;
    assert.equal(well.wakeAt, null);
    const due = told(state, 1900, { type: 'due' });
    assert.equal(due.effects[0]?.kind, 'check');
    const key = due.state.effect?.key ?? '';
    const end = told(due.state, 1901, { type: 'checked', key, holds: true, detail: '1 of 2' }).state;
    assert.equal(end.rollBack?.reason, 'the new version lost its pods: 1 of 2');
    const again = told(well, 2000, observed(true)).state;
    assert.equal(again.wakeAt, '2026-01-01T01:03:20.000Z');
  });

  test('traffic without any ready pod rolls back at once', () => {
    const { setup, world } = at({ steps: [weight(20), approval()], mesh: 'stored' }, 'step.2');
    let dying = must(setup, world, { do: 'kill', hash: 'new', count: 2 });
    dying = must(setup, dying, { do: 'look' });
    while (dying.news.length > 0) dying = must(setup, dying, { do: 'tell' });
    assert.equal(dying.state.status, 'ROLLING_BACK');
    assert.match(dying.state.rollBack?.reason ?? '', /^the new version has traffic but no ready pod/);
  });

  test('a cluster that cannot be reached is held: tries are spaced out, and nothing times out', () => {
    const { setup, world } = at({}, 'S4.create.0');
    let held = world;
    const gaps: number[] = [];
    for (let tries = 0; tries < 8; tries += 1) {
      held = must(setup, held, { do: 'perform', how: 'unreachable' });
      gaps.push((Date.parse(held.state.wakeAt ?? '') - held.clock) / 1000);
      held = must(setup, held, { do: 'due' });
    }
    assert.deepEqual(gaps, [1, 2, 4, 8, 16, 30, 30, 30]);
    assert.deepEqual([held.state.heldSince, held.state.rollBack], ['2026-01-01T00:00:00.000Z', null]);
  });

  test('a write that is lost over and over is not sent as fast as it is lost', () => {
    const { setup, world } = at({}, 'S4.create.0');
    let lost = world;
    for (let losses = 0; losses < 4; losses += 1) {
      lost = must(setup, lost, { do: 'perform', how: 'lostNotApplied' });
      if (losses < 3) lost = must(setup, lost, { do: 'perform', how: 'ok' });
    }
    assert.equal(lost.state.effect, null);
    assert.equal(lost.state.wakeAt, '2026-01-01T00:00:01.000Z');
  });
});

describe('the way back from a mesh that does not answer', () => {
  test('leads both backends to the old pods, and keeps the canary Service that the mesh still sends traffic to', () => {
    const { setup, world } = at({ steps: [weight(40), approval()] }, 'step.2');
    let back = must(setup, world, { do: 'rollBack' });
    const allButMesh = [
      { do: 'tell' },
      { do: 'pods' },
      { do: 'endpoints' },
      { do: 'look' },
      { do: 'perform', how: 'ok' },
      { do: 'due' },
    ] as const;
    for (let moves = 0; moves < 200 && back.state.completedAt === null; moves += 1) {
      back = allButMesh.reduce<World | null>(
        (done, action) => done ?? act(setup, back, action)?.world ?? null,
        null,
      ) as World;
    }
    assert.equal(back.state.status, 'CANCELLED');
    const canary = get(back.cluster, 'Service', 'web-canary');
    assert.deepEqual(canary?.spec && (canary.spec as { selector: object }).selector, {
      app: 'web',
      [hashKey]: oldHash,
    });
    assert.match(
      back.state.leftInCluster.join(),
      /^Service web-canary stays, because the mesh still sends traffic of web to it/,
    );
    assert.deepEqual(selectorOf(back), { app: 'web' });
  });
});

describe('before it starts', () => {
  const setup = createSetup({});
  const { state } = createWorld(setup);

  test('a cancel ends it and nothing was done', () => {
    const cancelled = told(state, 0, { type: 'cancelRequested', by: 'ada' });
    assert.deepEqual([cancelled.state.status, cancelled.effects], ['CANCELLED', []]);
    assert.equal(told(cancelled.state, 1, { type: 'started' }).state, cancelled.state);
  });

  test('a refused claim fails it, and one that is told later changes nothing', () => {
    const message = 'Service shop-qa/web is in use by another owner';
    const refused = told(state, 0, { type: 'claimRefused', key: '', message });
    assert.deepEqual([refused.state.status, refused.state.error], ['FAILED', message]);
    const started = told(state, 0, { type: 'started' }).state;
    assert.equal(told(started, 1, { type: 'claimRefused', key: '', message }).state.status, 'RUNNING');
  });
});

test('a run that has not begun may be rolled back, one that is over may not', () => {
  const setup = createSetup({});
  assert.equal(canRollBack(createWorld(setup).state), true);
  assert.equal(canRollBack(driveUntil(setup, createWorld(setup)).state), false);
});

test('law 10: an unknown event is an error by name', () => {
  const setup = createSetup({});
  const event = { type: 'eclipsed' } as unknown as Told;
  assert.throws(() => told(createWorld(setup).state, 0, event), /eclipsed/);
});

test('law 10: a stored state of an unknown version is an error by name', () => {
  const { state } = createWorld(createSetup({}));
  assert.deepEqual(readDeploymentState(JSON.parse(JSON.stringify(state))), state);
  assert.throws(() => readDeploymentState({ ...state, stateVersion: 3 }), /deployment state of unknown version 3/);
  assert.throws(() => readDeploymentState(null), /unknown version undefined/);
});

test('an old version that lost pods does not keep a run from turning back before anything was shifted', () => {
  const { setup, world } = at({ steps: [weight(20)] }, 'S6.mesh.0');
  const dying = structuredClone(world);
  setReady(dying.cluster, oldHash, false, 1);
  const back = must(setup, dying, { do: 'rollBack' });
  assert.equal(back.state.at, 'R2.delete.0');
});

test('of a namespace that it created a roll back says under what condition it can go', () => {
  const setup = createSetup({ steps: [weight(20), approval()], mesh: 'stored', objects: true });
  const world = driveUntil(setup, createWorld(setup), ({ state }) => state.at === 'step.2');
  const end = driveUntil(setup, must(setup, world, { do: 'rollBack' }), ({ state }) => state.at === 'R5.unpin.0').state;
  const objects = end.outline.objects.map((object) =>
    object.name === 'extra' ? { apiVersion: 'v1', kind: 'Namespace', name: 'shop' } : object,
  );
  const state = { ...end, outline: { ...end.outline, objects } };
  const { leftInCluster } = driveUntil(setup, { ...world, state }).state;
  assert.ok(
    leftInCluster.some((line) =>
      /^Namespace shop .* stays \(if nothing else is in it\): kubectl delete namespace shop$/.test(line),
    ),
    leftInCluster.join('; '),
  );
});
