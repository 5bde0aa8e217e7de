import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { approveStep, rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import { approval, service, weight } from '../support/deployment-files.ts';
import { checkLaws, weightsWritten } from '../support/laws.ts';
import { tell } from '../support/run.ts';
import { type AnyCluster, asksForWeight, holdWrite, pins } from '../support/test-cluster.ts';
import { openWorld, type Tenant, type World } from '../support/world.ts';
import type { ClusterName } from './place.ts';
import { untilServed } from './versions-behind.ts';

/**
 * Whole deployments, recorded by watches of the cluster's own API and judged by the laws: the same on the sandbox and on
 * real Kubernetes, with worker processes that can be killed.
 */
export function runDeployments(
  cluster: ClusterName,
  open: (world: World) => Promise<AnyCluster>,
  skip: string | false = false,
): void {
  describe(`${cluster} cluster: whole deployments`, { skip }, () => {
    let world: World;
    let tenant: Tenant;
    let where: AnyCluster;
    before(async () => {
      world = await openWorld(`runs-${cluster}`, { workers: 0 });
      where = await open(world);
      tenant = await world.tenant('main');
      await Promise.all([world.spawnWorker(), world.spawnWorker()]);
    });
    after(() => world?.close());
    const title = (words: string) => `${cluster}: ${words}`;
    const scene = () => world.sceneOn(tenant, where);

    describe(title('undisturbed'), { concurrency: 3 }, () => {
      it(title('a first deployment brings pods up and splits nothing'), async () => {
        const here = await scene();
        const recorder = await here.record();
        const seen = await (await here.deploy({ version: '1' })).end(60_000);
        const { changes } = await recorder.stop();
        assert.equal(seen.status, 'SUCCEEDED', tell(seen));
        assert.equal(changes.filter(({ kind }) => kind === 'TrafficSplit').length, 0);
        await untilServed(here, ['1', '1']);
      });

      it(title('a canary moves traffic weight by weight and leaves nothing behind'), async () => {
        const here = await scene();
        await here.first();
        const recorder = await here.record();
        const seen = await (await here.deploy({ version: '2', steps: [weight(10), weight(60)] })).end(60_000);
        const recording = await recorder.stop();
        assert.equal(seen.status, 'SUCCEEDED', tell(seen));
        assert.deepEqual(weightsWritten(recording), ['100/0', '90/10', '40/60', '0/100', '100/0']);
        assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded' }), []);
        await untilServed(here, ['2', '2']);
      });

      it(title('a canary with a canary Service of its own gives it back as it was'), async () => {
        const here = await scene();
        await here.first();
        await here.client.create('Service', here.namespace, service('preview', { type: 'NodePort' }));
        const recorder = await here.record();
        const smi = { canaryServiceName: 'preview', trafficSplitName: 'shifting' };
        const seen = await (await here.deploy({ version: '2', smi })).end(60_000);
        const recording = await recorder.stop();
        assert.equal(seen.status, 'SUCCEEDED', tell(seen));
        const names = { canary: 'preview', split: 'shifting', canaryGiven: true };
        assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded', ...names }), []);
      });

      it(title('a roll back at 60 % leaves everything as it was'), async () => {
        const here = await scene();
        await here.first();
        const recorder = await here.record();
        const run = await here.deploy({ version: '2', steps: [weight(10), weight(60), approval()] });
        await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL', 60_000);
        await rollBackDeployment(tenant.ctx, { id: run.deploymentId });
        const seen = await run.end(60_000);
        const recording = await recorder.stop();
        assert.equal(seen.state.rollBack?.outcome, seen.status, tell(seen));
        assert.deepEqual(weightsWritten(recording), ['100/0', '90/10', '40/60', '100/0']);
        assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'rolledBack' }), []);
        await untilServed(here, ['1', '1']);
      });

      it(title('pods that never become ready get no traffic, and the old version goes on'), async () => {
        const here = await scene();
        await here.first();
        await world.shorten(here.namespace, { readyTimeoutSeconds: 2 });
        const recorder = await here.record();
        const seen = await (await here.deploy({ version: '2-never-ready' })).end(60_000);
        const recording = await recorder.stop();
        assert.equal(seen.status, 'FAILED', tell(seen));
        assert.match(seen.state.error ?? '', /0 of 2/);
        assert.deepEqual(weightsWritten(recording), []);
        assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'rolledBack' }), []);
        await untilServed(here, ['1', '1']);
      });

      it(title('new pods that die under weight lose it at once'), async () => {
        const here = await scene();
        await here.first();
        const recorder = await here.record();
        const seen = await (await here.deploy({ version: '2-crash', steps: [weight(50), approval()] })).end(60_000);
        const recording = await recorder.stop();
        assert.equal(seen.status, 'FAILED', tell(seen));
        const end = { replicas: 2, end: 'rolledBack', disturbed: true } as const;
        assert.deepEqual(checkLaws(recording, end), []);
        await untilServed(here, ['1', '1']);
      });

      it(title('a manifest with a field that its kind does not have fails in the words of the cluster'), async () => {
        const here = await scene();
        const settings = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'settings' }, data: {} };
        await here.first({ objects: [settings] });
        const seen = await (await here.deploy({ version: '2', objects: [{ ...settings, dta: {} }] })).end(60_000);
        assert.equal(seen.status, 'FAILED', tell(seen));
        assert.match(seen.state.error ?? '', /\.dta: field not declared in schema/);
        await untilServed(here, ['1', '1']);
      });

      it(title('other objects are applied over those of others, and restored by a roll back'), async () => {
        const here = await scene();
        const settings = (color: string) => ({
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: { name: 'settings' },
          data: { color },
        });
        await here.first({ objects: [settings('blue')] });
        const run = await here.deploy({ version: '2', objects: [settings('green')], steps: [weight(50), approval()] });
        await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL', 60_000);
        const colorNow = async () => (await here.client.get('ConfigMap', here.namespace, 'settings'))?.data;
        assert.deepEqual(await colorNow(), { color: 'green' });
        await rollBackDeployment(tenant.ctx, { id: run.deploymentId });
        await run.end(60_000);
        assert.deepEqual(await colorNow(), { color: 'blue' });
        const again = await here.deploy({ version: '3', objects: [settings('red')], steps: [approval()] });
        await again.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL', 60_000);
        await approveStep(tenant.ctx, { id: again.deploymentId, ref: 'canary-step-1' });
        assert.equal((await again.end(60_000)).status, 'SUCCEEDED');
        assert.deepEqual(await colorNow(), { color: 'red' });
      });
    });

    describe(title('one after the other'), () => {
      it(title('what a manifest names no longer is taken away, also from objects that were created'), async () => {
        const here = await scene();
        const settings = (data: Record<string, string>, labels: Record<string, string>) => ({
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: { name: 'settings', labels },
          data,
        });
        const now = async () => {
          const stored = await here.client.get('ConfigMap', here.namespace, 'settings');
          return { data: stored?.data, labels: stored?.metadata.labels };
        };
        const first = { color: 'blue', shape: 'round' };
        await here.first({ objects: [settings(first, { team: 'shop', stage: 'early' })] });
        assert.deepEqual(await now(), { data: first, labels: { team: 'shop', stage: 'early' } });
        await here.client.patch('ConfigMap', here.namespace, 'settings', { data: { size: 'large' } });
        const next = await here.deploy({ version: '2', objects: [settings({ color: 'red' }, { team: 'shop' })] });
        const seen = await next.end(60_000);
        assert.equal(seen.status, 'SUCCEEDED', tell(seen));
        assert.deepEqual(await now(), { data: { color: 'red', size: 'large' }, labels: { team: 'shop' } });
      });
    });

    // A worker that is killed drives what else there is, too.
    describe(title('with workers killed'), { concurrency: 2 }, () => {
      const kills = {
        'before its weight of 60 % is carried out': { at: asksForWeight(60), phase: 'before' },
        'after its weight of 60 % was carried out': { at: asksForWeight(60), phase: 'after' },
        'before the point of no return': { at: pins('web', 2), phase: 'before' },
      } as const;
      for (const [when, { at, phase }] of Object.entries(kills)) {
        it(title(`a worker killed ${when} is replaced, and the canary succeeds`), async () => {
          const here = await scene();
          await here.first();
          const recorder = await here.record();
          const held = holdWrite(here, at, phase);
          const run = await here.deploy({ version: '2', steps: [weight(10), weight(60)] });
          await held.reached;
          const owner = await world.ownerOf(run.deploymentId);
          assert.ok(owner, 'a worker drives it');
          await owner.kill();
          await world.spawnWorker();
          const seen = await run.end(90_000);
          // Whatever was held in the cluster arrives only now, when all is over.
          held.release();
          const recording = await recorder.stop();
          assert.equal(seen.status, 'SUCCEEDED', tell(seen));
          assert.deepEqual(weightsWritten(recording), ['100/0', '90/10', '40/60', '0/100', '100/0']);
          assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded', interrupted: true }), []);
        });
      }

      it(title('a worker killed in a roll back is replaced, and all is as it was'), async () => {
        const here = await scene();
        await here.first();
        const recorder = await here.record();
        const run = await here.deploy({ version: '2', steps: [weight(60), approval()] });
        await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL', 60_000);
        const held = holdWrite(here, asksForWeight(0), 'after');
        await rollBackDeployment(tenant.ctx, { id: run.deploymentId });
        await held.reached;
        await (await world.ownerOf(run.deploymentId))?.kill();
        await world.spawnWorker();
        const seen = await run.end(90_000);
        held.release();
        const recording = await recorder.stop();
        assert.ok(seen.state.rollBack, tell(seen));
        assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'rolledBack', interrupted: true }), []);
        await untilServed(here, ['1', '1']);
      });
    });
  });
}
