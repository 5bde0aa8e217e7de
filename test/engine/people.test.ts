import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { approveStep, rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import { cancelPipeline } from '@cdaas/control-plane/pipelines.ts';
import { approval, pause, service, weight } from '../support/deployment-files.ts';
import { checkLaws, weightsWritten } from '../support/laws.ts';
import type { Run } from '../support/run.ts';
import { asksForWeight, holdWrite, pins } from '../support/test-cluster.ts';
import { openWorld, type World } from '../support/world.ts';

let world: World;
before(async () => {
  world = await openWorld('people');
});
after(() => world.close());

const awaitingApproval = (run: Run) => run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
const refusedAs = (code: string) => (error: unknown) => (error as { code?: string }).code === code;

describe('What people do to a deployment', { concurrency: 6 }, () => {
  it('waits for approval as long as it takes, and goes on when it comes', async () => {
    const scene = await world.scene();
    const { ctx } = scene.tenant;
    await scene.first();
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', steps: [weight(20), approval(), weight(60)] });
    const waiting = await awaitingApproval(run);
    assert.equal(waiting.state.wakeAt, null, 'nothing but a person ends it');
    assert.equal(waiting.owner, null, 'no worker is bound by it');
    await assert.rejects(approveStep(ctx, { id: run.deploymentId, ref: 'canary-step-9' }), refusedAs('not.found'));
    await assert.rejects(approveStep(ctx, { id: run.deploymentId, ref: 'canary-step-1-web' }), refusedAs('step.state'));
    await approveStep(ctx, { id: run.deploymentId, ref: 'canary-step-2' });
    const seen = await run.end();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.equal(seen.state.steps[1]?.approvedBy, 'ci');
    await assert.rejects(
      approveStep(ctx, { id: run.deploymentId, ref: 'canary-step-2' }),
      refusedAs('deployment.final'),
    );
    assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'succeeded' }), []);
  });

  it('counts an approval once, however often it comes', async () => {
    const scene = await world.scene();
    const { ctx } = scene.tenant;
    await scene.first();
    const run = await scene.deploy({ version: '2', steps: [weight(20), approval(), approval(), weight(60)] });
    await awaitingApproval(run);
    const many = Array.from({ length: 5 }, () => approveStep(ctx, { id: run.deploymentId, ref: 'canary-step-2' }));
    const outcomes = await Promise.allSettled(many);
    assert.ok(outcomes.some(({ status }) => status === 'fulfilled'));
    const second = await run.until(
      'the second approval',
      ({ state }) => state.steps[2]?.status === 'AWAITING_APPROVAL',
    );
    assert.equal(second.state.at, 'step.3');
    assert.equal(second.state.steps[2]?.approvedBy, undefined);
    await approveStep(ctx, { id: run.deploymentId, ref: 'canary-step-3' });
    assert.equal((await run.end()).status, 'SUCCEEDED');
  });

  it('rolls back, cancelled, when nobody approves in time', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', steps: [weight(20), approval(1), weight(60)] });
    const seen = await run.end();
    assert.equal(seen.status, 'CANCELLED');
    assert.match(seen.state.error ?? '', /nobody approved in time/);
    assert.equal(seen.state.steps[1]?.status, 'CANCELLED');
    const recording = await recorder.stop();
    assert.deepEqual(weightsWritten(recording), ['100/0', '80/20', '100/0']);
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'rolledBack' }), []);
  });

  it('rolls back on request at 60 %: weights first, then the new pods, and the cluster is as before', async () => {
    const scene = await world.scene();
    await scene.first();
    const before = await content(scene);
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', steps: [weight(10), weight(60), approval()] });
    await awaitingApproval(run);
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    const seen = await run.end();
    const recording = await recorder.stop();
    assert.equal(seen.status, 'CANCELLED');
    assert.equal(seen.pipelineStatus, 'CANCELLED');
    assert.match(seen.state.error ?? '', /rolled back by ci/);
    assert.deepEqual(weightsWritten(recording), ['100/0', '90/10', '40/60', '100/0']);
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'rolledBack' }), []);
    const sent = recording.writes.map(({ verb, path }) => `${verb} ${path.split('/').at(-2)}`);
    // A controller that changed the object meanwhile has a request sent again.
    const wayBack = sent.filter((request, index) => request !== sent[index - 1]);
    assert.deepEqual(wayBack.slice(-7), [
      'patch trafficsplits',
      'delete trafficsplits',
      'delete services',
      'patch replicasets',
      'delete replicasets',
      'patch services',
      'update services',
    ]);
    assert.deepEqual(await content(scene), before);
    assert.deepEqual(scene.send(50), { answers: { '1': 50 }, failed: 0 });
  });

  it('changes nothing when asked to roll back twice', async () => {
    const scene = await world.scene();
    const { ctx } = scene.tenant;
    await scene.first();
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', steps: [weight(10), approval()] });
    await awaitingApproval(run);
    const requests = Array.from({ length: 4 }, () => rollBackDeployment(ctx, { id: run.deploymentId }));
    await Promise.allSettled(requests);
    assert.equal((await run.end()).status, 'CANCELLED');
    assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'rolledBack' }), []);
    await assert.rejects(rollBackDeployment(ctx, { id: run.deploymentId }), refusedAs('deployment.final'));
  });

  it('changes nothing at all when cancelled before a worker has begun', async () => {
    const idle = await openWorld('idle', { workers: 0 });
    try {
      const scene = await idle.scene();
      await scene.client.create('Service', scene.namespace, service('web'));
      const before = await scene.client.versions(scene.namespace);
      const recorder = await scene.record();
      const run = await scene.deploy({ version: '1' });
      await cancelPipeline(scene.tenant.ctx, { id: run.pipelineId });
      await idle.startWorker();
      const seen = await run.end();
      assert.equal(seen.status, 'CANCELLED');
      assert.equal(seen.pipelineStatus, 'CANCELLED');
      assert.deepEqual((await recorder.stop()).writes, []);
      assert.deepEqual(await scene.client.versions(scene.namespace), before);
    } finally {
      await idle.close();
    }
  });

  it('restores what a write that nobody can vouch for may have changed, when cancelled meanwhile', async () => {
    const scene = await world.scene();
    await scene.first();
    const before = await content(scene);
    const hold = holdWrite(scene, () => true);
    const run = await scene.deploy({ version: '2', steps: [weight(10)] });
    await hold.reached;
    await cancelPipeline(scene.tenant.ctx, { id: run.pipelineId });
    await run.until('the cancel in the run', ({ events }) => events.some(({ type }) => type === 'cancelRequested'));
    hold.release({ code: 503, reason: 'ServiceUnavailable', message: 'not now' });
    const seen = await run.end();
    assert.equal(seen.status, 'CANCELLED');
    assert.equal(seen.pipelineStatus, 'CANCELLED');
    assert.deepEqual(await content(scene), before);
  });

  it('cancels at a weight by rolling back', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', steps: [weight(30), pause(600)] });
    await run.until('the pause', ({ status }) => status === 'PAUSED');
    await cancelPipeline(scene.tenant.ctx, { id: run.pipelineId });
    const seen = await run.end();
    assert.equal(seen.status, 'CANCELLED');
    assert.equal(seen.pipelineStatus, 'CANCELLED');
    const recording = await recorder.stop();
    assert.deepEqual(weightsWritten(recording), ['100/0', '70/30', '100/0']);
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'rolledBack' }), []);
  });

  it('waits for the write in flight before it turns back, and for nothing else', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const hold = holdWrite(scene, asksForWeight(50));
    const run = await scene.deploy({ version: '2', steps: [weight(50), pause(600)] });
    await hold.reached;
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    await run.until('the request', ({ events }) => events.some(({ type }) => type === 'rollBackRequested'));
    hold.release();
    assert.equal((await run.end()).status, 'CANCELLED');
    const recording = await recorder.stop();
    assert.deepEqual(weightsWritten(recording), ['100/0', '50/50', '100/0']);
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'rolledBack' }), []);
  });

  it('refuses to turn back once finishing has begun, and finishes', async () => {
    const scene = await world.scene();
    const { ctx } = scene.tenant;
    await scene.first();
    const recorder = await scene.record();
    const hold = holdWrite(scene, pins('web', 2));
    const run = await scene.deploy({ version: '2', steps: [weight(50)] });
    await hold.reached;
    await assert.rejects(rollBackDeployment(ctx, { id: run.deploymentId }), refusedAs('deployment.finishing'));
    await assert.rejects(cancelPipeline(ctx, { id: run.pipelineId }), refusedAs('deployment.finishing'));
    assert.equal((await run.now()).status, 'FINISHING');
    hold.release();
    const seen = await run.end();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.equal(seen.pipelineStatus, 'SUCCEEDED');
    assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'succeeded' }), []);
  });

  it('can turn back up to the last moment before finishing', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const hold = holdWrite(scene, asksForWeight(100), 'after');
    const run = await scene.deploy({ version: '2', steps: [weight(50)] });
    await hold.reached;
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    hold.release();
    assert.equal((await run.end()).status, 'CANCELLED');
    const recording = await recorder.stop();
    assert.deepEqual(weightsWritten(recording), ['100/0', '50/50', '0/100', '100/0']);
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'rolledBack' }), []);
    assert.deepEqual(scene.send(20), { answers: { '1': 20 }, failed: 0 });
  });

  it('refuses a second start of the application with a link to the one in progress', async () => {
    const scene = await world.scene();
    await scene.first();
    const run = await scene.deploy({ version: '2', steps: [weight(10), approval()] });
    await assert.rejects(scene.deploy({ version: '3' }), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'deployment.conflict');
      assert.match(error.message, new RegExp(`http://127.0.0.1:8080/.*${run.pipelineId}`));
      return true;
    });
    await awaitingApproval(run);
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    await run.end();
    assert.equal((await (await scene.deploy({ version: '3', steps: [] })).end()).status, 'SUCCEEDED');
  });
});

/** What people would compare: all but what the cluster counts up by itself. */
async function content({ client, namespace }: Pick<Awaited<ReturnType<World['scene']>>, 'client' | 'namespace'>) {
  const kinds = ['Service', 'ReplicaSet', 'TrafficSplit', 'ConfigMap', 'Pod'] as const;
  const lists = await Promise.all(kinds.map(async (kind) => (await client.list(kind, namespace)).objects));
  return lists.flat().map((object) => {
    const { name, labels, annotations, uid } = object.metadata;
    return { kind: object.kind, name, labels, annotations, uid, spec: object.spec };
  });
}
