import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { clusterEventsOf, subjectsOf } from './cluster-events.ts';
import { isFinal } from './deployment-state.ts';
import { errorOf, narrate, narrateObservation, waitingFor } from './narrate.ts';
import type { StrategyStep } from './plan.ts';
import { driveUntil, must } from './testing/drive.ts';
import { samplePairs } from './testing/samples.ts';
import { type Action, act, createSetup, createWorld, type Setup, type World } from './testing/world.ts';

const weight = (value: number): StrategyStep => ({ kind: 'setWeight', weight: value });
const approval = (seconds: number | null = null): StrategyStep => ({
  kind: 'pause',
  untilApproved: true,
  approvalExpirationSeconds: seconds,
});

/** What is told of a run from one state to its end. */
function story(setup: Setup, begun: World): string[] {
  const told: string[] = [];
  let world = begun;
  const order: Action[] = [
    { do: 'start' },
    { do: 'tell' },
    { do: 'settle' },
    { do: 'look' },
    { do: 'perform', how: 'ok' },
    { do: 'approve' },
    { do: 'due' },
  ];
  while (!isFinal(world.state.status)) {
    const before = world.state;
    const done = order.reduce<ReturnType<typeof act>>((found, action) => found ?? act(setup, world, action), null);
    if (done === null) throw new Error(`nothing can happen at ${before.at}`);
    const [event] = done.happened.events;
    const sentence = event ? narrate(before, event, done.world.state) : null;
    if (sentence !== null) told.push(sentence);
    world = done.world;
  }
  return told;
}

function at(options: Parameters<typeof createSetup>[0], instruction: string): { setup: Setup; world: World } {
  const setup = createSetup(options);
  const reached = ({ state }: World) => state.at === instruction && state.effect === null;
  const world = driveUntil(setup, createWorld(setup), reached);
  assert.equal(world.state.at, instruction);
  return { setup, world };
}

describe('the story of a run', () => {
  test('of a canary with other objects is told in sentences', () => {
    const setup = createSetup({ steps: [weight(20), approval()], mesh: 'stored', objects: true });
    assert.deepEqual(story(setup, createWorld(setup)), [
      'Deployment of web to east/shop-qa started',
      'Preflight passed',
      'Applied ConfigMap settings',
      'Applied ConfigMap extra',
      'Applied Service web',
      'Preflight passed',
      'Service web now selects only the previous version',
      'Service web-canary leads to the new version',
      'Created ReplicaSet web-newhash001',
      'Scaled ReplicaSet web-newhash001 to 2',
      'TrafficSplit web created: all traffic still goes to the previous version',
      'TrafficSplit web set: 20 % of traffic to the new version',
      'someone approved canary-step-2',
      'TrafficSplit web set: 100 % of traffic to the new version',
      'Service web now selects the new version; no roll back from here on',
      'TrafficSplit web set: all traffic to Service web, the new version now',
      'TrafficSplit web removed',
      'The previous version (ReplicaSet web-oldhash001) is gone',
      'Service web is no longer pinned to one version',
      'The new version has all traffic; everything auxiliary is gone',
    ]);
  });

  test('of a roll back says why, what was put back, and what stays', () => {
    const { setup, world } = at({ steps: [weight(20), approval()], mesh: 'stored', objects: true }, 'step.2');
    const back = must(setup, world, { do: 'rollBack' });
    assert.equal(
      narrate(world.state, { type: 'rollBackRequested', at: '2026-01-01T00:00:00.000Z', by: 'someone' }, back.state),
      'Rolling back: rolled back by someone',
    );
    assert.deepEqual(story(setup, back), [
      'TrafficSplit web set: all traffic goes to the previous version again',
      'TrafficSplit web removed',
      'The new version (ReplicaSet web-newhash001) is gone',
      'Service web is no longer pinned to one version',
      'Service web is as it was',
      'Cancelled: rolled back by someone; left in the cluster: ConfigMap extra was created by this deployment and stays: kubectl delete configmap extra -n shop-qa',
    ]);
  });

  test('of several pairs names in each sentence which one it is about', () => {
    const setup = createSetup({ steps: [weight(20), approval()], mesh: 'stored', pairs: samplePairs.two });
    const told = story(setup, createWorld(setup));
    assert.equal(new Set(told.slice(3)).size, told.length - 3, told.join('\n'));
    assert.equal(told[0], 'Deployment of api, web to east/shop-qa started');
    for (const name of ['api', 'web']) {
      assert.ok(told.includes(`Service ${name} now selects only the previous version`));
      assert.ok(told.includes(`TrafficSplit ${name} set: 20 % of traffic to the new version`));
    }
    assert.ok(told.includes('The previous version (ReplicaSet api-apiold001) is gone'));
  });

  test('of a mesh that does not give traffic back says that both backends lead to the old pods', () => {
    const { setup, world } = at({ steps: [weight(20), approval()] }, 'step.2');
    let back = must(setup, world, { do: 'rollBack' });
    const told: (string | null)[] = [];
    for (const action of ['perform', 'perform', 'look', 'tell', 'perform', 'due', 'perform'] as const) {
      const done = act(setup, back, action === 'perform' ? { do: 'perform', how: 'ok' } : { do: action });
      if (done === null) throw new Error(`${action} at ${back.state.at}`);
      const [event] = done.happened.events;
      if (event) told.push(narrate(back.state, event, done.world.state));
      back = done.world;
    }
    assert.equal(back.state.routes[0]?.diverted, true);
    assert.equal(
      told.at(-1),
      'Attention: the mesh did not take 100/0 within 10 s: both backends are led to the old pods',
    );
  });

  test('of a failed preflight names what is in the way', () => {
    const setup = createSetup({});
    const { 'Service/web': _, ...objects } = createWorld(setup).cluster.objects;
    const world = createWorld(setup);
    world.cluster.objects = objects;
    assert.deepEqual(story(setup, world), [
      'Deployment of web to east/shop-qa started',
      'Failed: Service shop-qa/web: is neither in the cluster nor in the manifests; add it to the manifests',
    ]);
  });

  test('of calls that go wrong says what is known', () => {
    const { world } = at({ steps: [weight(20)] }, 'S5.wait.0');
    const { state } = world;
    const time = '2026-01-01T00:00:00.000Z';
    const after = { ...state, heldSince: time };
    const rows: [Parameters<typeof narrate>[1], string | null][] = [
      [
        { type: 'unreachable', at: time, key: 'k', message: 'refused' },
        'The cluster cannot be reached: refused; holding',
      ],
      [
        { type: 'lost', at: time, key: 'k', message: 'timed out' },
        'Whether the last call to the cluster arrived is not known (timed out); the cluster is asked first',
      ],
      [
        { type: 'refused', at: time, key: 'k', status: 403, reason: 'Forbidden', message: 'no' },
        'The cluster refused step S5.wait.0: no',
      ],
      [{ type: 'refused', at: time, key: 'k', status: 409, reason: 'Conflict', message: 'no' }, null],
      [{ type: 'due', at: time }, null],
    ];
    for (const [event, sentence] of rows) assert.equal(narrate(state, event, after), sentence);
    assert.equal(narrate(after, { type: 'unreachable', at: time, key: 'k', message: 'refused' }, after), null);
  });

  test('of an object that was to be removed and is gone already says nothing, of one that was to be written it does', () => {
    const gone = { type: 'refused' as const, at: '2026-01-01T00:00:00.000Z', status: 404, reason: 'NotFound' };
    const setup = createSetup({ steps: [weight(20), approval()], mesh: 'stored' });
    const { world } = at({ steps: [weight(20), approval()], mesh: 'stored' }, 'step.2');
    const reach = (instruction: string) => {
      const begun = must(setup, world, { do: instruction.startsWith('R') ? 'rollBack' : 'approve' });
      const { state } = driveUntil(setup, begun, (now) => now.state.at === instruction && now.state.effect !== null);
      return narrate(state, { ...gone, key: state.effect?.key ?? '', message: 'not found' }, state);
    };
    for (const instruction of ['R2.delete.0', 'R4.scale.0', 'R4.delete.0', 'F4.delete.0', 'F6.scale.0'])
      assert.equal(reach(instruction), null, instruction);
    assert.equal(reach('F3.weight.0'), 'The cluster refused step F3.weight.0: not found');
  });

  test('of what the watches see is told by its condition', () => {
    const base = { namespace: 'shop-qa' };
    const guard = { ...base, key: 'guard.old.0', kind: 'starved' as const, service: 'web', hash: 'h' };
    assert.equal(narrateObservation(guard, true, 'it is gone'), 'Attention: it is gone');
    assert.equal(narrateObservation(guard, false, 'pinned'), 'Well again: pinned');
    const mesh = { ...base, kind: 'mesh' as const, root: 'web', canary: 'c', weights: { stable: 80, canary: 20 } };
    assert.equal(
      narrateObservation({ ...mesh, key: 'S7.1.mesh.0' }, true, ''),
      'The mesh took 20 % of traffic of Service web to the new version',
    );
    assert.equal(
      narrateObservation({ ...mesh, key: 'F3.mesh.0' }, true, ''),
      'The mesh leads all traffic through Service web again',
    );
    const dropped = { ...base, key: 'F4.mesh.0', kind: 'meshDropped' as const, root: 'web' };
    assert.equal(narrateObservation(dropped, true, ''), 'The mesh dropped the split of Service web');
  });
});

test('what a preflight warns of is told with it, once, before anything is changed', () => {
  const setup = createSetup({ steps: [weight(20)], pairs: [{ root: 'web', deployment: 'web', object: 'plain' }] });
  const asked = driveUntil(setup, createWorld(setup), ({ state }) => state.effect?.kind === 'survey');
  const done = act(setup, asked, { do: 'perform', how: 'ok' });
  const [event] = done?.happened.events ?? [];
  if (!done || !event) throw new Error('the preflight cannot be performed');
  assert.match(
    narrate(asked.state, event, done.world.state) ?? '',
    /^Preflight passed; attention: Deployment shop-qa\/web is taken over: .*steps of the strategy are skipped$/,
  );
  const [told] = clusterEventsOf(asked.state, done.world.state);
  assert.deepEqual([told?.type, told?.reason], ['Warning', 'Preflight']);
  assert.match(told?.message ?? '', /^Deployment shop-qa\/web is taken over/);
  assert.deepEqual(clusterEventsOf(done.world.state, done.world.state), []);
});

test('Kubernetes Events name the deployment once, and say what was in the way when it is over', () => {
  const setup = createSetup({ steps: [weight(20), approval()], mesh: 'stored' });
  const events: ReturnType<typeof clusterEventsOf> = [];
  let before = createWorld(setup).state;
  const world = driveUntil(setup, createWorld(setup), ({ state }) => {
    events.push(...clusterEventsOf(before, state));
    before = state;
    return state.at === 'step.2';
  });
  const [started] = events.filter(({ reason }) => reason === 'CanaryStarted');
  assert.equal(
    started?.message,
    `Canary of shop begins (deployment ${world.state.id}): Service web now selects only the previous version`,
  );
  const held = {
    ...world.state,
    heldSince: '2026-01-01T00:00:00.000Z',
    retry: { count: 1, until: '2026-01-01T00:00:01.000Z', message: 'quota exceeded' },
  };
  assert.deepEqual(clusterEventsOf(world.state, held), [
    { type: 'Warning', reason: 'Held', message: 'quota exceeded' },
  ]);
  assert.deepEqual(clusterEventsOf(held, world.state), [
    { type: 'Normal', reason: 'Resumed', message: 'Goes on; this is over: quota exceeded' },
  ]);
  const back = must(setup, world, { do: 'rollBack' });
  assert.deepEqual(clusterEventsOf(world.state, back.state), [
    { type: 'Warning', reason: 'RollingBack', message: 'rolled back by someone' },
  ]);
});

test('Kubernetes Events are about the root Service to the end, also once it was given back as it was', () => {
  const { setup, world } = at({ steps: [weight(20), approval()], mesh: 'stored', objects: true }, 'step.2');
  const [root] = subjectsOf(world.state).filter(({ ref }) => ref.kind === 'Service');
  assert.equal(root?.uid, world.state.objects['root.0']?.uid);
  const { state } = driveUntil(setup, must(setup, world, { do: 'rollBack' }));
  assert.ok(isFinal(state.status));
  assert.deepEqual(subjectsOf(state), [root]);
});

test('why a run turns back is told from the moment it begins to', () => {
  const { setup, world } = at({ steps: [weight(20), approval()], mesh: 'stored' }, 'step.2');
  assert.equal(errorOf(world.state), null);
  const back = must(setup, world, { do: 'rollBack' });
  assert.equal(back.state.completedAt, null);
  assert.equal(errorOf(back.state), 'rolled back by someone');
  assert.equal(errorOf(driveUntil(setup, back).state), 'rolled back by someone');
});

describe('what a run waits for', () => {
  const started = '2026-01-01T00:00:00.000Z';
  const rows: [string, Parameters<typeof createSetup>[0], string][] = [
    [
      'step.1',
      { steps: [{ kind: 'pause', duration: 2, unit: 'MINUTES' }] },
      'the end of the pause at 2026-01-01T00:02:00.000Z',
    ],
    ['step.1', { steps: [approval()] }, 'approval of canary-step-1'],
    ['step.1', { steps: [approval(60)] }, 'approval of canary-step-1 until 2026-01-01T00:01:00.000Z'],
    ['S5.wait.0', {}, '2 pods behind Service web-canary to become ready; rolls back at 2026-01-01T00:30:00.000Z'],
    [
      'S6.mesh.0',
      {},
      'the mesh to take 0 % of traffic of Service web to the new version; rolls back at 2026-01-01T00:00:30.000Z',
    ],
    ['S7.1.mesh.0', { steps: [weight(20)] }, 'the mesh to take 20 % of traffic of Service web to the new version'],
    ['F1.drain', {}, 'connections to drain until 2026-01-01T00:00:05.000Z'],
    ['F4.mesh.0', {}, 'the mesh to drop the split of Service web'],
    ['F6.gone.0', {}, 'the pods of ReplicaSet web-oldhash001 to end'],
  ];
  for (const [instruction, options, sentence] of rows) {
    test(`at ${instruction}: ${sentence}`, () => {
      assert.equal(waitingFor(at(options, instruction).world.state), sentence);
    });
  }

  test('is nothing before it starts, while it works, and when it is over', () => {
    const setup = createSetup({ mesh: 'stored' });
    assert.equal(waitingFor(createWorld(setup).state), null);
    assert.equal(
      waitingFor(driveUntil(setup, createWorld(setup), ({ state }) => state.at === 'S4.create.0').state),
      null,
    );
    assert.equal(waitingFor(driveUntil(setup, createWorld(setup)).state), null);
  });

  test('is the cluster, and since when, while that cannot be reached', () => {
    const setup = createSetup({});
    const asking = driveUntil(setup, createWorld(setup), ({ state }) => state.at === 'S4.create.0');
    const held = must(setup, asking, { do: 'perform', how: 'unreachable' });
    assert.equal(
      waitingFor(held.state),
      `the cluster: no answer (since ${started}, next try 2026-01-01T00:00:01.000Z)`,
    );
  });

  test('is fewer pods than asked for, and when that turns the run back', () => {
    const { world } = at({ steps: [weight(20), approval()], mesh: 'stored' }, 'step.2');
    const short = { holds: true, detail: '1 of 2 new pods ready', at: started };
    const state = { ...world.state, observed: { 'guard.short.0': short } };
    assert.equal(
      waitingFor(state),
      'approval of canary-step-2; attention: 1 of 2 new pods ready; rolls back at 2026-01-01T00:30:00.000Z',
    );
  });

  test('is people, while others take the pin out of root again and again', () => {
    const { setup, world } = at({ steps: [weight(20), approval(), weight(60)], mesh: 'stored' }, 'step.2');
    let held = world;
    for (let time = 0; time < 4; time += 1) {
      held = must(setup, held, { do: 'edit', what: 'unpin' });
      held = driveUntil(setup, held, ({ state, news }) => state.effect === null && news.length === 0);
      held = driveUntil(setup, must(setup, held, { do: 'look' }), ({ state }) => state.effect !== null);
      while (held.state.effect !== null) held = must(setup, held, { do: 'perform', how: 'ok' });
    }
    assert.equal(
      waitingFor(held.state),
      'people: Service web no longer selects only the pods it is to, changed by somebody; it was put back 3 times within a minute; no weight moves until somebody resumes the deployment or rolls it back (POST /deployments/deployment-2/resume or /deployments/deployment-2/rollback)',
    );
  });
});
