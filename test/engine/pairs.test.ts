import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { approveStep, getDeployment, rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { hashKey } from '@cdaas/pipeline/marks.ts';
import { waitingFor } from '@cdaas/pipeline/narrate.ts';
import { stepRefs } from '@cdaas/pipeline/plan.ts';
import { approval, rootOf, service, weight, workload } from '../support/deployment-files.ts';
import { checkLaws, type Expectation, weightsWritten } from '../support/laws.ts';
import { ofPair, outOfStep } from '../support/pairs.ts';
import type { Change, Recording } from '../support/recorder.ts';
import { asksForWeight, holdWrite } from '../support/test-cluster.ts';
import { openWorld, type Scene, type World } from '../support/world.ts';

/* Several Deployments and several root Services in one target: forward in lock step, and back together. */

let world: World;
before(async () => {
  world = await openWorld('pairs');
});
after(() => world.close());

const both = ['api', 'web'];
const also = ['api'];

function assertLaws(recording: Recording, end: Expectation['end'], weights = [0, 10, 60, 100]): void {
  for (const name of both) {
    assert.deepEqual(checkLaws(ofPair(recording, name), { root: name, replicas: 2, end }), [], name);
  }
  assert.deepEqual(outOfStep(recording, both, weights), []);
}

/** The judge must notice where one pair's part of a good recording is left out, so that the other goes ahead of it. */
function assertJudged(good: Recording): void {
  const weightOf = ({ spec }: KubernetesObject) => (spec as { backends: { weight: number }[] }).backends[1]?.weight;
  const isSplit = ({ kind, type, object }: Change, name: string) =>
    kind === 'TrafficSplit' && type === 'MODIFIED' && object.metadata.name === name;
  const rows: [RegExp, (change: Change) => boolean][] = [
    [/api was raised, and api, web are at 60, 0/, (change) => isSplit(change, 'web') && weightOf(change.object) === 10],
    [
      /api was turned while the meshes are at 100, 0/,
      ({ kind, object }) => kind === 'ServiceProfile' && object.metadata.name.startsWith('web.'),
    ],
    [
      /the split of api went while api, web are at 0, 100/,
      (change) => isSplit(change, 'web') && weightOf(change.object) === 0,
    ],
  ];
  for (const [words, leftOut] of rows) {
    const changes = good.changes.filter((change) => !leftOut(change));
    assert.match(outOfStep({ ...good, changes }, both, [0, 10, 60, 100]).join('\n'), words);
  }
}

function answersOf({ cluster, namespace }: Scene, name: string) {
  return cluster.sandbox.send({ namespace, service: name, count: 20 });
}

describe('A target of two Deployments', { concurrency: 4 }, () => {
  it('shifts both in lock step, one request a weight each, and leaves nothing behind', async () => {
    const scene = await world.scene();
    await scene.first({ also });
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', also, steps: [weight(10), approval(), weight(60)] });
    await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    for (const name of both) {
      assert.equal(recorder.now().meshWeights(name)[`${name}-canary`], 10, name);
      assert.equal(recorder.now().readyPods(`${name}-canary`).length, 2, name);
    }
    await approveStep(scene.tenant.ctx, { id: run.deploymentId, ref: 'canary-step-2' });
    const seen = await run.end();
    assert.equal(seen.status, 'SUCCEEDED');
    const recording = await recorder.stop();
    assertLaws(recording, 'succeeded');
    assertJudged(recording);
    for (const name of both) {
      const names = { root: name, canary: `${name}-canary` };
      assert.deepEqual(weightsWritten(ofPair(recording, name), names), ['100/0', '90/10', '40/60', '0/100', '100/0']);
      assert.deepEqual(answersOf(scene, name), { answers: { '2': 20 }, failed: 0 });
    }
  });

  it('brings back both from 60 %, before either of them loses its new pods', async () => {
    const scene = await world.scene();
    await scene.first({ also });
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', also, steps: [weight(10), weight(60), approval()] });
    await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    assert.equal((await run.end()).status, 'CANCELLED');
    const recording = await recorder.stop();
    assertLaws(recording, 'rolledBack');
    for (const name of both) assert.deepEqual(answersOf(scene, name), { answers: { '1': 20 }, failed: 0 });
  });

  it('fails as one where one of them does not become ready: nothing is shifted', async () => {
    const scene = await world.scene();
    await scene.first({ also });
    await world.shorten(scene.namespace, { readyTimeoutSeconds: 2 });
    const recorder = await scene.record();
    const broken = workload({ version: '2-never-ready' }, 'api');
    const run = await scene.deploy({ version: '2', objects: [broken, rootOf('api')], smiEntries: both });
    const seen = await run.end();
    assert.equal(seen.status, 'FAILED');
    assert.match(seen.state.error ?? '', /not ready within 2 s: 0 of 2 pods ready behind Service api-canary/);
    const recording = await recorder.stop();
    assert.equal(recording.changes.filter(({ kind }) => kind === 'TrafficSplit').length, 0);
    assertLaws(recording, 'rolledBack');
  });

  it('turns both back at once where one loses its new pods under traffic', async () => {
    const scene = await world.scene();
    await scene.first({ also });
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', also, steps: [weight(60), approval()] });
    const held = await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    const { client, namespace } = scene;
    for (const { metadata } of (await client.list('Pod', namespace)).objects) {
      if (!metadata.name.startsWith('web-') || metadata.labels?.[hashKey] !== held.state.hashes[1]) continue;
      const conditions = [{ type: 'Ready', status: 'False' }];
      const path = `/api/v1/namespaces/${namespace}/pods/${metadata.name}/status`;
      await client.send('PATCH', path, { status: { conditions } }, 'application/merge-patch+json');
    }
    const seen = await run.end();
    assert.equal(seen.status, 'FAILED');
    assert.match(seen.state.error ?? '', /has traffic but no ready pod: no ready pods behind Service web-canary/);
    const recording = await recorder.stop();
    for (const name of both) {
      const expected = { root: name, replicas: 2, end: 'rolledBack', disturbed: name === 'web' } as const;
      assert.deepEqual(checkLaws(ofPair(recording, name), expected), [], name);
      assert.deepEqual(answersOf(scene, name), { answers: { '1': 20 }, failed: 0 });
    }
  });

  it('brings one of them up for the first time while the other is shifted', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const seen = await (await scene.deploy({ version: '2', also, steps: [weight(60)] })).end();
    assert.equal(seen.status, 'SUCCEEDED');
    const recording = await recorder.stop();
    assert.deepEqual(checkLaws(ofPair(recording, 'web'), { root: 'web', replicas: 2, end: 'succeeded' }), []);
    assert.equal(ofPair(recording, 'api').changes.filter(({ kind }) => kind === 'TrafficSplit').length, 0);
    for (const name of both) assert.deepEqual(answersOf(scene, name), { answers: { '2': 20 }, failed: 0 });
  });

  it('names each of them in its story, its steps, and what it waits for', async () => {
    const scene = await world.scene();
    await scene.first({ also });
    const hold = holdWrite(scene, (request) => asksForWeight(60)(request) && request.path.endsWith('/web'));
    const run = await scene.deploy({ version: '2', also, steps: [weight(60), approval()] });
    await hold.reached;
    const between = await getDeployment(scene.tenant.ctx, { id: run.deploymentId });
    assert.deepEqual(
      between.state.routes.map((route) => route.weights?.canary),
      [60, 0],
    );
    assert.deepEqual(stepRefs(between.state.outline, 0), ['canary-step-1-api', 'canary-step-1-web']);
    hold.release();
    const seen = await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    assert.equal(waitingFor(seen.state), 'approval of canary-step-2');
    const told = seen.events.flatMap(({ message }) => message ?? []);
    for (const name of both) {
      assert.ok(told.includes(`TrafficSplit ${name} set: 60 % of traffic to the new version`), told.join('\n'));
      assert.ok(told.includes(`The mesh took 60 % of traffic of Service ${name} to the new version`), told.join('\n'));
    }
    const claims = await world.db.prisma.objectClaim.findMany({ where: { deploymentId: run.deploymentId } });
    assert.deepEqual(claims.map(({ kind, name }) => `${kind} ${name}`).sort(), [
      ...['Deployment api', 'Deployment web', 'Service api', 'Service api-canary', 'Service web', 'Service web-canary'],
      ...['TrafficSplit api', 'TrafficSplit web'],
    ]);
    const other = scene.deploy({ version: '3', application: `other-${scene.namespace}`, smi: {} });
    await assert.rejects(other, { code: 'object.claimed' });
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    await run.end();
  });
});

it('Two root Services of one Deployment share its pods, and each has its own split', async () => {
  const scene = await world.scene();
  const admin = service('admin');
  await scene.first({ objects: [admin], smiEntries: ['web', 'admin'] });
  const recorder = await scene.record();
  const run = await scene.deploy({
    version: '2',
    objects: [admin],
    smiEntries: ['web', 'admin'],
    steps: [weight(10), weight(60)],
  });
  const seen = await run.end();
  assert.equal(seen.status, 'SUCCEEDED');
  const recording = await recorder.stop();
  const created = recording.changes.filter(({ type }) => type === 'ADDED');
  assert.equal(created.filter(({ kind }) => kind === 'ReplicaSet').length, 1);
  assert.equal(created.filter(({ kind }) => kind === 'TrafficSplit').length, 2);
  for (const name of ['admin', 'web']) {
    const names = { root: name, canary: `${name}-canary` };
    const { changes, ...rest } = recording;
    const own = changes.filter(({ kind, object }) => kind !== 'TrafficSplit' || object.metadata.name === name);
    assert.deepEqual(
      weightsWritten({ ...rest, changes: own }, names),
      ['100/0', '90/10', '40/60', '0/100', '100/0'],
      name,
    );
    assert.deepEqual(answersOf(scene, name), { answers: { '2': 20 }, failed: 0 });
  }
  assert.deepEqual(outOfStep(recording, ['admin', 'web'], [0, 10, 60, 100]), []);
});
