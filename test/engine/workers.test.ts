import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { approveStep, rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import { approval, pause, weight } from '../support/deployment-files.ts';
import { checkLaws, weightsWritten } from '../support/laws.ts';
import { withAdmin } from '../support/postgres.ts';
import type { Run } from '../support/run.ts';
import { asksForWeight, holdWrite } from '../support/test-cluster.ts';
import type { WorkerProcess } from '../support/worker-process.ts';
import { openWorld, type World } from '../support/world.ts';

let world: World;
let spares: WorkerProcess[];
before(async () => {
  world = await openWorld('workers', { workers: 0 });
  spares = await Promise.all([world.spawnWorker(), world.spawnWorker()]);
});
after(() => world.close());

async function ownerOf(run: Run): Promise<WorkerProcess> {
  const owner = await world.ownerOf(run.deploymentId);
  assert.ok(owner, 'nobody drives the deployment');
  return owner;
}

/** To everybody else the worker looks gone, as after the loss of its machine or its network; it knows nothing of it. */
async function cutOff({ workerId }: WorkerProcess): Promise<void> {
  await withAdmin(world.url, (admin) =>
    admin.query('select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1', [
      `cdaas worker ${workerId}`,
    ]),
  );
}

async function replace(gone: WorkerProcess): Promise<void> {
  spares = [...spares.filter((worker) => worker !== gone), await world.spawnWorker()];
}

describe('Two workers on one database', () => {
  it('share deployments, and one takes over at once what a killed one drove', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const hold = holdWrite(scene, asksForWeight(10), 'after');
    const run = await scene.deploy({ version: '2', steps: [weight(10), weight(60)] });
    await hold.reached;
    const owner = await ownerOf(run);
    await owner.kill();
    const killedAt = Date.now();
    hold.release('drop');
    const seen = await run.end();
    const recording = await recorder.stop();
    assert.equal(seen.status, 'SUCCEEDED');
    const next = recording.writes.find(({ at }) => at > killedAt);
    const tookMs = (next?.at ?? Number.POSITIVE_INFINITY) - killedAt;
    assert.ok(tookMs < 5000, `the next write came ${tookMs} ms after the kill`);
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded' }), []);
    await replace(owner);
  });

  it('do no harm when one was stopped with a request on its way and is woken long after', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const hold = holdWrite(scene, asksForWeight(10));
    const run = await scene.deploy({ version: '2', steps: [weight(10), weight(60), approval()] });
    await hold.reached;
    const late = await ownerOf(run);
    late.signal('SIGSTOP');
    await cutOff(late);
    await run.until('the other worker’s weight 60', ({ status }) => status === 'AWAITING_APPROVAL');
    // Only now does the first request for 10 % arrive, and only now does its worker wake up.
    hold.release();
    late.signal('SIGCONT');
    await approveStep(scene.tenant.ctx, { id: run.deploymentId, ref: 'canary-step-3' });
    const seen = await run.end();
    const recording = await recorder.stop();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.deepEqual(weightsWritten(recording), ['100/0', '90/10', '40/60', '0/100', '100/0']);
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded', interrupted: true }), []);
  });

  it('do no harm when one was stopped in a pause and is woken after the end', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', steps: [weight(10), pause(1), weight(60)] });
    await run.until('the pause', ({ status }) => status === 'PAUSED');
    const late = await ownerOf(run);
    late.signal('SIGSTOP');
    await cutOff(late);
    const seen = await run.end();
    assert.equal(seen.status, 'SUCCEEDED');
    const sent = recorder.writes.length;
    late.signal('SIGCONT');
    // The woken worker shows that it is at work again by driving another deployment beside the other one.
    const other = await world.scene();
    await other.first();
    const recording = await recorder.stop();
    assert.equal(recording.writes.length, sent);
    assert.equal((await run.now()).version, seen.version);
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded' }), []);
  });

  it('leave a create that arrives after everything is over without effect, and the next deployment removes it', async () => {
    const scene = await world.scene();
    await scene.first();
    const hold = holdWrite(scene, ({ verb, path }) => verb === 'create' && path.endsWith('/trafficsplits'));
    const run = await scene.deploy({ version: '2', steps: [weight(10), weight(60)] });
    await hold.reached;
    const owner = await ownerOf(run);
    await owner.kill();
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    assert.equal((await run.end()).status, 'CANCELLED');
    const recorder = await scene.record();
    hold.release();
    const late = await recorder.until('the late split', (moment) => moment.get('TrafficSplit', 'web') !== undefined);
    await recorder.until('the mesh has it', (moment) => moment.meshWeights('web').web === 100);
    assert.deepEqual(Object.keys(late.shares('web')).length, 1);
    assert.deepEqual(scene.send(30), { answers: { '1': 30 }, failed: 0 });
    await replace(owner);
    const seen = await (await scene.deploy({ version: '3' })).end();
    assert.equal(seen.status, 'SUCCEEDED');
    await recorder.stop();
    assert.equal((await scene.client.list('TrafficSplit', scene.namespace)).objects.length, 0);
    assert.deepEqual(scene.send(30), { answers: { '3': 30 }, failed: 0 });
  });

  it('lose nothing of what a deployment waits for when the one that watches its cluster is killed', async () => {
    const scene = await world.scene({ cluster: await world.cluster() });
    await scene.first();
    const { clusterId } = await world.db.prisma.deployment.findFirstOrThrow({ where: { namespace: scene.namespace } });
    const lease = await world.db.prisma.watchLease.findUniqueOrThrow({ where: { clusterId } });
    const watcher = spares.find(({ workerId }) => workerId === lease.owner);
    assert.ok(watcher, 'one of the two watches the cluster');
    // While it stands still, the other one takes the deployment.
    watcher.signal('SIGSTOP');
    const recorder = await scene.record();
    const podAnnotations = { 'sandbox.cdaas/ready-after': '1s' };
    const run = await scene.deploy({ version: '2', podAnnotations });
    const claimed = await run.until('an owner', ({ owner }) => owner !== null);
    assert.notEqual(claimed.owner, watcher.workerId);
    watcher.signal('SIGCONT');
    await run.until('the wait for pods', ({ state }) => state.at === 'S5.wait.0' && state.effect === null);
    await watcher.kill();
    const killedAt = Date.now();
    const seen = await run.end();
    const recording = await recorder.stop();
    assert.equal(seen.status, 'SUCCEEDED');
    const next = recording.writes.find(({ at }) => at > killedAt);
    const tookMs = (next?.at ?? Number.POSITIVE_INFINITY) - killedAt;
    assert.ok(tookMs < 8000, `the next write came ${tookMs} ms after the kill`);
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded' }), []);
    await replace(watcher);
  });

  it('hand over when one is told to stop, without a request lost or repeated', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const hold = holdWrite(scene, asksForWeight(10));
    const run = await scene.deploy({ version: '2' });
    await hold.reached;
    const owner = await ownerOf(run);
    const ended = owner.end();
    hold.release();
    await ended;
    const seen = await run.end();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.ok(!seen.events.some(({ type }) => type === 'lost'));
    assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'succeeded' }), []);
    await replace(owner);
  });

  it('finish all of many deployments, each driven by one at a time', async () => {
    const scenes = await Promise.all(Array.from({ length: 8 }, () => world.scene()));
    await Promise.all(scenes.map((scene) => scene.first()));
    const recorders = await Promise.all(scenes.map((scene) => scene.record()));
    const runs = await Promise.all(scenes.map((scene) => scene.deploy({ version: '2', steps: [weight(30)] })));
    const ends = await Promise.all(runs.map((run) => run.end()));
    assert.deepEqual(new Set(ends.map(({ status }) => status)), new Set(['SUCCEEDED']));
    for (const recorder of recorders) {
      assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'succeeded' }), []);
    }
  });
});
