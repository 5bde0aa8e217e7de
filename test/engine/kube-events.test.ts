import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import type { Verdict } from '@cdaas/sandbox/writes.ts';
import { approval, weight } from '../support/deployment-files.ts';
import { until } from '../support/until.ts';
import { openWorld, type Scene, type World } from '../support/world.ts';

let world: World;
before(async () => {
  world = await openWorld('kube-events');
});
after(() => world.close());

type Event = {
  type: string;
  reason: string;
  message: string;
  involvedObject: { kind: string; name: string; uid: string };
  source: { component: string };
  reportingComponent: string;
};

async function eventsOf({ client, namespace }: Scene): Promise<Event[]> {
  const { body } = await client.send('GET', `/api/v1/namespaces/${namespace}/events`);
  return (body as { items: Event[] }).items;
}

/** Waits until the cluster has Events for a reason on so many objects. */
async function told(scene: Scene, reason: string, objects: number): Promise<Event[]> {
  return until(async () => {
    const events = await eventsOf(scene);
    return events.filter((event) => event.reason === reason).length >= objects && events;
  }, `Events ${reason} on ${objects} objects`);
}

const kubectl = spawnSync('kubectl', ['version', '--client'], { stdio: 'ignore' }).status === 0;

describe('Kubernetes Events', { concurrency: 4 }, () => {
  it('tell each weight, the pause and the end on the root Service and the TrafficSplit', async () => {
    const scene = await world.scene();
    await scene.first();
    const run = await scene.deploy({ version: '2', steps: [weight(10), approval(), weight(60)] });
    await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    const events = await told(scene, 'Paused', 2);
    const root = await scene.client.get('Service', scene.namespace, 'web');
    const split = await scene.client.get('TrafficSplit', scene.namespace, 'web');
    const objects = [root, split].flatMap((object) => object ?? []);
    assert.equal(objects.length, 2);
    for (const { kind, metadata } of objects) {
      const about = events.filter(({ involvedObject }) => involvedObject.uid === metadata.uid);
      const messages = about.map(({ message }) => message).join('\n');
      assert.doesNotMatch(messages, /previous version; TrafficSplit/, 'of two weights in one Event the later is so');
      assert.match(messages, /TrafficSplit web created: all traffic still goes to the previous version/, kind);
      assert.match(messages, /TrafficSplit web set: 10 % of traffic to the new version/, kind);
      assert.match(messages, /Waits for approval of canary-step-2/, kind);
      assert.deepEqual([...new Set(about.map((event) => event.reportingComponent))], ['cdaas'], kind);
      assert.deepEqual([...new Set(about.map((event) => event.source.component))], ['cdaas'], kind);
    }
    if (kubectl) {
      const folder = mkdtempSync(join(tmpdir(), 'cdaas-kubectl-'));
      const kubeconfig = join(folder, 'config');
      writeFileSync(kubeconfig, scene.cluster.sandbox.kubeconfig);
      const ask = async (...args: string[]) =>
        (await promisify(execFile)('kubectl', ['--kubeconfig', kubeconfig, '-n', scene.namespace, ...args])).stdout;
      const described = /Normal +TrafficShifted +\S+ +cdaas +TrafficSplit .*10 % of traffic to the new version/;
      assert.match(await ask('describe', 'service', 'web'), described);
      assert.match(await ask('describe', 'trafficsplit', 'web'), described);
      const listed = /^LAST SEEN +TYPE +REASON +OBJECT +MESSAGE\n(.*\n)*\d+s +Normal +Paused +service\/web +Waits for/;
      assert.match(await ask('get', 'events'), listed);
      rmSync(folder, { recursive: true });
    }
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    await run.end();
    const all = await told(scene, 'Cancelled', 1);
    const last = all.filter(({ involvedObject }) => involvedObject.uid === root?.metadata.uid);
    const warnings = last
      .filter(({ type }) => type === 'Warning')
      .map(({ reason, message }) => `${reason}: ${message}`);
    assert.match(warnings.join('\n'), /RollingBack: rolled back by ci\nCancelled: rolled back/);
  });

  const refusals: [string, Verdict][] = [
    ['forbids', { code: 403, reason: 'Forbidden', message: 'events is forbidden' }],
    ['fails at', { code: 500, reason: 'InternalError', message: 'no' }],
  ];
  for (const [verb, verdict] of refusals) {
    it(`that the cluster ${verb} change nothing of a canary`, async () => {
      const scene = await world.scene({ cluster: await world.cluster() });
      await scene.first();
      let asked = 0;
      const began = Date.now();
      scene.cluster.intercept(scene.namespace, ({ path }, phase) => {
        if (!path.endsWith('/events') || phase !== 'before') return 'continue';
        asked += 1;
        return verdict;
      });
      const seen = await (await scene.deploy({ version: '2' })).end();
      assert.equal(seen.status, 'SUCCEEDED');
      const refused = seen.events.filter(({ type, data }) => type === 'refused' && data.status !== 409);
      assert.deepEqual(refused, [], 'it is no news of the run');
      await until(() => asked > 0, 'an Event');
      // Asked again after 5 s at the earliest, which a loaded machine may need for the run.
      const most = 1 + Math.floor((Date.now() - began) / 5_000);
      assert.ok(asked <= most, `asked ${asked} times, ${most} at most`);
    });
  }

  it('that the cluster never answers do not slow a canary down', async () => {
    const scene = await world.scene({ cluster: await world.cluster() });
    await scene.first();
    const held = Promise.withResolvers<Verdict>();
    scene.cluster.held.add(held.resolve);
    const reached = Promise.withResolvers<void>();
    scene.cluster.intercept(scene.namespace, ({ path }, phase) => {
      if (!path.endsWith('/events') || phase !== 'before') return 'continue';
      reached.resolve();
      return held.promise;
    });
    const began = Date.now();
    const steps = Array.from({ length: 20 }, (_, index) => weight(5 * index));
    const seen = await (await scene.deploy({ version: '2', steps })).end();
    const tookMs = Date.now() - began;
    assert.equal(seen.status, 'SUCCEEDED');
    await reached.promise;
    assert.ok(tookMs < 10_000, `${tookMs} ms`);
    assert.ok(!seen.events.some(({ type }) => type === 'unreachable' || type === 'lost'));
    held.resolve('continue');
  });
});
