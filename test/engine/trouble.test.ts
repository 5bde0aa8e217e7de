import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import { hashKey } from '@cdaas/pipeline/marks.ts';
import { waitingFor } from '@cdaas/pipeline/narrate.ts';
import { approval, pause, service, weight } from '../support/deployment-files.ts';
import { checkLaws, weightsWritten } from '../support/laws.ts';
import { type Moment, momentsOf } from '../support/recorder.ts';
import type { Run } from '../support/run.ts';
import { asksForWeight, holdWrite } from '../support/test-cluster.ts';
import { openWorld, type World } from '../support/world.ts';

let world: World;
before(async () => {
  world = await openWorld('trouble');
});
after(() => world.close());

const awaitingApproval = (run: Run) => run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');

describe('New pods that are not well', { concurrency: 6 }, () => {
  it('roll the deployment back when they are not ready in time', async () => {
    const scene = await world.scene();
    await world.shorten(scene.namespace, { readyTimeoutSeconds: 1 });
    await scene.first();
    const recorder = await scene.record();
    const seen = await (await scene.deploy({ version: '2-never-ready' })).end();
    assert.equal(seen.status, 'FAILED');
    assert.match(seen.state.error ?? '', /not ready within 1 s: 0 of 2 pods ready behind Service web-canary/);
    const recording = await recorder.stop();
    assert.equal(weightsWritten(recording).length, 0, 'no split was made');
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'rolledBack' }), []);
    assert.deepEqual(scene.send(20), { answers: { '1': 20 }, failed: 0 });
  });

  it('tell what holds them up, in Kubernetes’ words, before the time is up', async () => {
    const scene = await world.scene();
    await scene.first();
    const run = await scene.deploy({ version: '2-bad-image' });
    const words = /pods behind Service web-canary to become ready \(0 of 2 pods ready .*2 in ImagePullBackOff/;
    const seen = await run.until('the reason', ({ state }) => words.test(waitingFor(state) ?? ''));
    assert.ok(seen.events.some(({ message }) => message?.includes('ImagePullBackOff')));
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    assert.equal((await run.end()).status, 'CANCELLED');
  });

  it('tell of a quota that keeps them from being made', async () => {
    const scene = await world.scene();
    await scene.first();
    const quota = { apiVersion: 'v1', kind: 'ResourceQuota', metadata: { name: 'q' }, spec: { hard: { pods: '2' } } };
    await scene.client.send('POST', `/api/v1/namespaces/${scene.namespace}/resourcequotas`, quota);
    const run = await scene.deploy({ version: '2' });
    const words = /0 of 2 pods ready .*\(exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2\)/;
    const seen = await run.until('the quota', ({ state }) => words.test(waitingFor(state) ?? ''), 20_000);
    assert.ok(seen.events.some(({ type, message }) => type === 'observed' && message?.includes('exceeded quota: q')));
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    assert.equal((await run.end()).status, 'CANCELLED');
  });

  it('of a first deployment leave nothing of it but what was applied, which is listed', async () => {
    const scene = await world.scene();
    await world.shorten(scene.namespace, { readyTimeoutSeconds: 1 });
    const seen = await (await scene.deploy({ version: '1-never-ready' })).end();
    assert.equal(seen.status, 'FAILED');
    assert.deepEqual(seen.state.leftInCluster, [
      `Service web was created by this deployment and stays: kubectl delete service web -n ${scene.namespace}`,
    ]);
    assert.equal((await scene.client.list('ReplicaSet', scene.namespace)).objects.length, 0);
    assert.ok(await scene.client.get('Service', scene.namespace, 'web'));
  });

  it('roll back at once when all of them die under weight, and the old version answers', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const run = await scene.deploy({
      version: '2',
      steps: [weight(50), pause(600)],
      podAnnotations: { 'sandbox.cdaas/crash-after': '1s' },
    });
    await run.until('the pause', ({ status }) => status === 'PAUSED');
    const died = await recorder.until('the crash', (moment) => moment.readyPods('web-canary').length === 0);
    const crashedAt = Date.now();
    assert.deepEqual(died.meshWeights('web'), { web: 50, 'web-canary': 50 });
    await recorder.until('the way back', (moment) => moment.meshWeights('web').web !== 50);
    const blindMs = Date.now() - crashedAt;
    const seen = await run.end();
    assert.equal(seen.status, 'FAILED');
    assert.match(seen.state.error ?? '', /the new version has traffic but no ready pod: .*CrashLoopBackOff/);
    const recording = await recorder.stop();
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'rolledBack', disturbed: true }), []);
    assert.ok(blindMs < 5000, `requests were lost for ${blindMs} ms`);
    assert.deepEqual(scene.send(20), { answers: { '1': 20 }, failed: 0 });
  });

  it('hold further weights while some of them are missing, and go on when they are back', async () => {
    const scene = await world.scene();
    const { client, namespace } = scene;
    await scene.first();
    const recorder = await scene.record();
    const hold = holdWrite(scene, asksForWeight(10), 'after');
    const run = await scene.deploy({ version: '2', steps: [weight(10), weight(60)] });
    await hold.reached;
    const [pod] = recorder.now().readyPods('web-canary');
    assert.ok(pod);
    const condition = (status: string) => ({
      status: {
        conditions: [{ type: 'Ready', status, lastTransitionTime: new Date().toISOString().replace(/\.\d+/, '') }],
      },
    });
    const path = `/api/v1/namespaces/${namespace}/pods/${pod}/status`;
    const patch = 'application/merge-patch+json';
    assert.equal((await client.send('PATCH', path, condition('False'), patch)).status, 200);
    await recorder.until('one pod less', (moment) => moment.readyPods('web-canary').length === 1);
    await run.until('the shortage', ({ events }) =>
      events.some(({ message }) => message?.includes('1 of 2 new pods ready')),
    );
    hold.release();
    const held = await run.until('the hold', ({ state }) => state.at === 'S7.2.weight.0' && state.effect === null);
    assert.match(waitingFor(held.state) ?? '', /1 of 2 new pods ready.*no weight rises until that is over/);
    assert.equal((await client.send('PATCH', path, condition('True'), patch)).status, 200);
    const seen = await run.end();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.deepEqual(weightsWritten(await recorder.stop()), ['100/0', '90/10', '40/60', '0/100', '100/0']);
  });

  it('roll the deployment back when they are missing for longer than they may take', async () => {
    const scene = await world.scene();
    await world.shorten(scene.namespace, { readyTimeoutSeconds: 1 });
    await scene.first();
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', steps: [weight(10), approval()] });
    await awaitingApproval(run);
    const [pod] = recorder.now().readyPods('web-canary');
    const status = { conditions: [{ type: 'Ready', status: 'False' }] };
    const path = `/api/v1/namespaces/${scene.namespace}/pods/${pod}/status`;
    await scene.client.send('PATCH', path, { status }, 'application/merge-patch+json');
    const seen = await run.end();
    assert.equal(seen.status, 'FAILED');
    assert.match(seen.state.error ?? '', /the new version lost its pods: 1 of 2 new pods ready/);
    assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'rolledBack', disturbed: true }), []);
  });
});

describe('A cluster that says no', { concurrency: 6 }, () => {
  it('to an object rolls back: what was changed is restored, what was created is listed', async () => {
    const scene = await world.scene();
    const map = (name: string, data: Record<string, string>) => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name },
      data,
    });
    await scene.first({ objects: [map('known', { color: 'blue' })] });
    const before = await scene.client.get('ConfigMap', scene.namespace, 'known');
    const refuse = scene.cluster.intercept(scene.namespace, ({ verb, path, body }) => {
      const name = (body as { metadata?: { name?: string } } | undefined)?.metadata?.name;
      if (verb !== 'create' || !path.endsWith('/configmaps') || name !== 'bad') return 'continue';
      return { code: 422, reason: 'Invalid', message: 'ConfigMap "bad" is invalid: data[a b]: Invalid value: "a b"' };
    });
    const recorder = await scene.record();
    const objects = [map('known', { color: 'green' }), map('fresh', { a: '1' }), map('bad', { 'a b': '1' })];
    const seen = await (await scene.deploy({ version: '2', objects })).end();
    refuse();
    const recording = await recorder.stop();
    assert.equal(seen.status, 'FAILED');
    assert.match(seen.state.error ?? '', /ConfigMap "bad" is invalid: data\[a b\]: Invalid value.*422/);
    assert.ok(seen.events.some(({ message }) => message?.includes('ConfigMap "bad" is invalid')));
    assert.deepEqual(seen.state.leftInCluster, [
      `ConfigMap fresh was created by this deployment and stays: kubectl delete configmap fresh -n ${scene.namespace}`,
    ]);
    const known = await scene.client.get('ConfigMap', scene.namespace, 'known');
    assert.deepEqual(known?.data, before?.data);
    assert.deepEqual(known?.metadata.annotations, before?.metadata.annotations);
    assert.equal(recording.changes.length, 0, 'nothing of the Service or the pods was touched');
  });

  it('to what it restores leaves alone what somebody else has changed meanwhile, and says so', async () => {
    const scene = await world.scene();
    const map = (color: string) => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'known' },
      data: { color },
    });
    await scene.first({ objects: [map('blue')] });
    const run = await scene.deploy({ version: '2', objects: [map('green')], steps: [weight(10), approval()] });
    await awaitingApproval(run);
    await scene.client.patch('ConfigMap', scene.namespace, 'known', { data: { color: 'red' } });
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    const seen = await run.end();
    assert.equal(seen.status, 'CANCELLED');
    assert.match(
      seen.state.leftInCluster.join(),
      /ConfigMap known was not restored: somebody changed it meanwhile; .* kubectl get configmap known -n \S+ -o yaml/,
    );
    assert.deepEqual((await scene.client.get('ConfigMap', scene.namespace, 'known'))?.data, { color: 'red' });
  });

  it('for a moment is asked again when it said, and nothing is done twice', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    let refusals = 0;
    const refuse = scene.cluster.intercept(scene.namespace, (request, phase) => {
      if (phase !== 'before' || !asksForWeight(60)(request) || refusals > 0) return 'continue';
      refusals += 1;
      return { code: 429, reason: 'TooManyRequests', message: 'slow down' };
    });
    const seen = await (await scene.deploy({ version: '2' })).end();
    refuse();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.equal(refusals, 1);
    assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'succeeded', interrupted: true }), []);
  });

  it('by cutting the answer to every write finds each in force and repeats none', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    let cut = 0;
    const stop = scene.cluster.intercept(scene.namespace, (_, phase) => {
      if (phase !== 'after') return 'continue';
      cut += 1;
      return 'drop';
    });
    const seen = await (await scene.deploy({ version: '2' })).end();
    stop();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.ok(cut >= 15, `${cut} answers were cut`);
    assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'succeeded' }), []);
  });
});

describe('Somebody else who writes', { concurrency: 4 }, () => {
  it('the pin away has it put back before any weight rises, and is told of by name', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const hold = holdWrite(scene, asksForWeight(10), 'after');
    const run = await scene.deploy({ version: '2', steps: [weight(10), weight(60)] });
    await hold.reached;
    const pinOf = (moment: Moment) => moment.get('Service', 'web')?.spec as { selector: Record<string, string> };
    const pin = pinOf(recorder.now()).selector[hashKey];
    // What GitOps tools send: a Service's selector is atomic, so that all of it is replaced.
    const { metadata: _, ...manifest } = service('web');
    await scene.client.apply('Service', scene.namespace, 'web', { ...manifest, metadata: { name: 'web' } });
    await run.until('the alarm', ({ events }) =>
      events.some(({ message }) =>
        message?.startsWith(
          'Attention: Service web no longer selects only the pods it is to, changed by argocd-controller',
        ),
      ),
    );
    hold.release();
    const seen = await run.end();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.ok(seen.events.some(({ message }) => message === 'Service web was changed by others; it is put back'));
    const recording = await recorder.stop();
    const raised = [...momentsOf(recording)].find(({ moment }) => moment.meshWeights('web')['web-canary'] === 60);
    assert.equal(raised && pinOf(raised.moment).selector[hashKey], pin);
    assert.deepEqual(weightsWritten(recording), ['100/0', '90/10', '40/60', '0/100', '100/0']);
    assert.equal((await scene.client.list('ReplicaSet', scene.namespace)).objects.length, 1);
  });

  it('labels on our objects costs a read and a second request, and nothing else', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const hold = holdWrite(scene, asksForWeight(60));
    const run = await scene.deploy({ version: '2' });
    await hold.reached;
    await scene.client.patch('TrafficSplit', scene.namespace, 'web', { metadata: { labels: { owner: 'somebody' } } });
    hold.release();
    assert.equal((await run.end()).status, 'SUCCEEDED');
    const recording = await recorder.stop();
    const asked = recording.writes.filter((request) => asksForWeight(60)(request as never));
    assert.equal(asked.length, 2);
    const last = [...momentsOf(recording)].at(-1)?.moment;
    assert.equal(last?.objects('TrafficSplit').length, 0);
  });

  it('deletes the TrafficSplit has the deployment rolled back', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const hold = holdWrite(scene, asksForWeight(60));
    const run = await scene.deploy({ version: '2' });
    await hold.reached;
    await scene.client.delete('TrafficSplit', scene.namespace, 'web');
    hold.release();
    const seen = await run.end();
    assert.equal(seen.status, 'FAILED');
    assert.match(seen.state.error ?? '', /TrafficSplit web was deleted by somebody/);
    assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'rolledBack', disturbed: true }), []);
    assert.deepEqual(scene.send(20), { answers: { '1': 20 }, failed: 0 });
  });
});
