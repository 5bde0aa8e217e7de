import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { registerCluster } from '@cdaas/control-plane/clusters.ts';
import { approveStep, rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import { waitingFor } from '@cdaas/pipeline/narrate.ts';
import { approval, weight } from '../support/deployment-files.ts';
import { checkLaws, weightsWritten } from '../support/laws.ts';
import { holdWrite, pins } from '../support/test-cluster.ts';
import { openWorld, type World } from '../support/world.ts';

let world: World;
before(async () => {
  world = await openWorld('mesh', { drainSeconds: 1 });
});
after(() => world.close());

// Each case has a cluster of its own, whose mesh or network it disturbs.
const ownScene = async () => world.scene({ cluster: await world.cluster() });

describe('A mesh or a cluster in trouble', { concurrency: 12 }, () => {
  it('which takes weights late has every next weight wait for it', async () => {
    const scene = await ownScene();
    await scene.first();
    const { adaptor } = scene.cluster.sandbox;
    adaptor.lagMs = 400;
    const recorder = await scene.record();
    const seen = await (await scene.deploy({ version: '2' })).end();
    assert.equal(seen.status, 'SUCCEEDED');
    const recording = await recorder.stop();
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded' }), []);
    const split = recording.writes.filter(({ path }) => path.includes('/trafficsplits'));
    const gaps = split.slice(1).map(({ at }, index) => at - (split[index]?.at ?? 0));
    assert.ok(
      gaps.every((gap) => gap >= 390),
      `between writes to the split: ${gaps.join(', ')} ms`,
    );
  });

  it('which is down when a weight is written holds it unconfirmed, says so, and goes on when it is up', async () => {
    const scene = await ownScene();
    const { adaptor } = scene.cluster.sandbox;
    await scene.first();
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', steps: [weight(10), approval(), weight(60)] });
    await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    adaptor.down = true;
    await approveStep(scene.tenant.ctx, { id: run.deploymentId, ref: 'canary-step-2' });
    const waiting = await run.until('the wait', ({ state }) => state.at === 'S7.3.mesh.0');
    assert.match(waitingFor(waiting.state) ?? '', /the mesh to take 60 % of traffic/);
    const [route] = waiting.state.routes;
    assert.deepEqual(route?.weights, { stable: 40, canary: 60 });
    assert.deepEqual(route?.confirmed, { stable: 90, canary: 10 });
    adaptor.down = false;
    const seen = await run.end();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'succeeded' }), []);
  });

  it('which takes no split at all within 30 s has shifted nothing and is rolled back', async () => {
    const scene = await ownScene();
    await scene.first();
    scene.cluster.sandbox.adaptor.down = true;
    const recorder = await scene.record();
    const seen = await (await scene.deploy({ version: '2' })).end(60_000);
    assert.equal(seen.status, 'FAILED');
    assert.match(seen.state.error ?? '', /no mesh took the TrafficSplit within 30 s .*; nothing was shifted/);
    const recording = await recorder.stop();
    assert.deepEqual(weightsWritten(recording), ['100/0']);
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'rolledBack' }), []);
  });

  it('which does not take a roll back in 10 s has both backends led to the old pods', async () => {
    const scene = await ownScene();
    const { adaptor } = scene.cluster.sandbox;
    await scene.first();
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', steps: [weight(50), approval()] });
    await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    adaptor.down = true;
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    await run.until('the diversion', ({ state }) => state.routes[0]?.diverted === true, 20_000);
    await recorder.until('all pods of the old version', (moment) => Object.keys(moment.shares('web')).length === 1);
    assert.deepEqual(scene.send(30), { answers: { '1': 30 }, failed: 0 });
    adaptor.down = false;
    const seen = await run.end(60_000);
    assert.equal(seen.status, 'CANCELLED');
    const recording = await recorder.stop();
    assert.equal(
      recording.changes.length > 0 && (await scene.client.list('ReplicaSet', scene.namespace)).objects.length,
      1,
    );
    assert.deepEqual(scene.send(30), { answers: { '1': 30 }, failed: 0 });
  });

  it('which is down at F1 holds with the old version pinned, and still gives it back on request', async () => {
    const scene = await ownScene();
    const { adaptor } = scene.cluster.sandbox;
    await scene.first();
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', steps: [weight(50), approval()] });
    await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    const pinned = recorder.now().get('Service', 'web')?.spec;
    adaptor.down = true;
    await approveStep(scene.tenant.ctx, { id: run.deploymentId, ref: 'canary-step-2' });
    const waiting = await run.until('the wait', ({ state }) => state.at === 'F1.mesh.0');
    assert.match(waitingFor(waiting.state) ?? '', /the mesh to take 100 % of traffic/);
    assert.equal(waiting.status, 'RUNNING');
    assert.deepEqual(recorder.now().get('Service', 'web')?.spec, pinned);
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    await run.until('the way back', ({ state }) => state.at === 'R1.mesh.0');
    adaptor.down = false;
    assert.equal((await run.end()).status, 'CANCELLED');
    assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'rolledBack' }), []);
    assert.deepEqual(scene.send(20), { answers: { '1': 20 }, failed: 0 });
  });

  it('which is down at F3 keeps the split that leads to the new version, and finishes when it is up', async () => {
    const scene = await ownScene();
    const { adaptor } = scene.cluster.sandbox;
    await scene.first();
    const recorder = await scene.record();
    const hold = holdWrite(scene, pins('web', 2), 'after');
    const run = await scene.deploy({ version: '2', steps: [weight(50)] });
    await hold.reached;
    adaptor.down = true;
    hold.release();
    const waiting = await run.until('the wait', ({ state }) => state.at === 'F3.mesh.0');
    assert.equal(waiting.status, 'FINISHING');
    assert.deepEqual(scene.send(20), { answers: { '2': 20 }, failed: 0 });
    adaptor.down = false;
    assert.equal((await run.end()).status, 'SUCCEEDED');
    assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'succeeded' }), []);
  });

  it('which forgets the deleted split at F4 is told of, goes on after 30 s, and is no obstacle to the next deployment', async () => {
    const scene = await ownScene();
    const { adaptor } = scene.cluster.sandbox;
    await scene.first();
    adaptor.forgetsDeletes = true;
    const seen = await (await scene.deploy({ version: '2', steps: [weight(50)] })).end(60_000);
    assert.equal(seen.status, 'SUCCEEDED');
    assert.ok(seen.state.warnings.some((warning) => /F4.mesh.0: gave up waiting after 30 s/.test(warning)));
    assert.deepEqual(scene.send(20), { answers: { '2': 20 }, failed: 0 });
    adaptor.forgetsDeletes = false;
    const next = await (await scene.deploy({ version: '3', steps: [weight(50)] })).end();
    assert.equal(next.status, 'SUCCEEDED');
    assert.ok(next.state.warnings.some((warning) => /still has the weights 100\/0 of an earlier split/.test(warning)));
    assert.deepEqual(scene.send(20), { answers: { '3': 20 }, failed: 0 });
  });

  it('which forgets the deleted split at R2 has the old version answer all the same', async () => {
    const scene = await ownScene();
    const { adaptor } = scene.cluster.sandbox;
    await scene.first();
    const run = await scene.deploy({ version: '2', steps: [weight(50), approval()] });
    await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    adaptor.forgetsDeletes = true;
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    const seen = await run.end(60_000);
    assert.equal(seen.status, 'CANCELLED');
    assert.ok(seen.state.warnings.some((warning) => /R2.mesh.0: gave up waiting after 30 s/.test(warning)));
    assert.deepEqual(seen.state.leftInCluster, []);
    assert.deepEqual(scene.send(20), { answers: { '1': 20 }, failed: 0 });
  });

  it('which is down for the whole roll back has the canary Service stay for its traffic, and lists it', async () => {
    const scene = await ownScene();
    const { adaptor } = scene.cluster.sandbox;
    await scene.first();
    const run = await scene.deploy({ version: '2', steps: [weight(50), approval()] });
    await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    adaptor.down = true;
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    const seen = await run.end(80_000);
    assert.equal(seen.status, 'CANCELLED');
    const left = seen.state.leftInCluster.join('\n');
    assert.match(left, /Service web-canary stays, because the mesh still sends traffic of web to it/);
    assert.deepEqual(scene.send(30), { answers: { '1': 30 }, failed: 0 });
  });

  it('which takes few splits a second has each of several canaries wait its turn', async () => {
    const cluster = await world.cluster();
    const scenes = await Promise.all([1, 2, 3, 4].map(() => world.scene({ cluster })));
    await Promise.all(scenes.map((scene) => scene.first()));
    const recorders = await Promise.all(scenes.map((scene) => scene.record()));
    cluster.sandbox.adaptor.perSecond = 4;
    const began = Date.now();
    const ends = await Promise.all(
      scenes.map(async (scene) => (await scene.deploy({ version: '2', steps: [weight(50)] })).end(60_000)),
    );
    // Each needs five turns: 100/0, 50/50, 0/100, 100/0 and the end of the split.
    assert.ok(Date.now() - began >= 4_000, 'the rate was kept');
    assert.deepEqual(ends.map(({ status }) => status).sort(), Array(4).fill('SUCCEEDED'));
    for (const recorder of recorders) {
      assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'succeeded' }), []);
    }
  });

  it('without confirmation takes the stored split for the weight in force', async () => {
    const scene = await ownScene();
    const { server, caData, token } = scene.cluster.sandbox;
    await registerCluster(scene.tenant.ctx, { name: 'stored', server, caData, token, meshConfirmation: 'stored' });
    await scene.first();
    const recorder = await scene.record();
    const seen = await (await scene.deploy({ version: '2', account: 'stored' })).end();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.ok(!seen.events.some(({ message }) => message?.startsWith('The mesh took')));
    assert.deepEqual(weightsWritten(await recorder.stop()), ['100/0', '90/10', '40/60', '0/100', '100/0']);
  });

  it('which cannot be reached holds the deployment, says since when, and goes on when it is back', async () => {
    const scene = await ownScene();
    await scene.first();
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', steps: [weight(10), approval(), weight(60)] });
    await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    const outage = await scene.cluster.outage();
    await approveStep(scene.tenant.ctx, { id: run.deploymentId, ref: 'canary-step-2' });
    const held = await run.until('the hold', ({ state }) => state.heldSince !== null && state.retry !== null);
    assert.match(waitingFor(held.state) ?? '', /the cluster: .*since \d{4}-/);
    assert.ok(held.events.some(({ message }) => message?.startsWith('The cluster cannot be reached')));
    assert.equal(held.status, 'RUNNING');
    await outage.over();
    const seen = await run.end(40_000);
    assert.equal(seen.status, 'SUCCEEDED');
    assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'succeeded', interrupted: true }), []);
  });
});
