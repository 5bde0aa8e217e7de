import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { approveStep, rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { approval, rootOf, service, weight, workload } from '../support/deployment-files.ts';
import { checkLaws, type Expectation, weightsWritten } from '../support/laws.ts';
import { ofPair, outOfStep } from '../support/pairs.ts';
import type { Change, Recording } from '../support/recorder.ts';
import type { AnyCluster } from '../support/test-cluster.ts';
import { bringVersion1, trainOf } from '../support/train.ts';
import { openWorld, type Tenant, type World } from '../support/world.ts';
import type { ClusterName } from './place.ts';
import { untilServed } from './versions-behind.ts';

const both = ['api', 'web'];
const also = ['api'];

/**
 * Several Deployments and several root Services in one target, forward in lock step and back together, and targets on two
 * clusters: the same on the sandbox and on real Kubernetes.
 */
export function runPairs(
  cluster: ClusterName,
  open: (world: World) => Promise<AnyCluster>,
  skip: string | false = false,
): void {
  describe(`${cluster} cluster: targets of several Deployments`, { skip, concurrency: 3 }, () => {
    let world: World;
    let tenant: Tenant;
    let where: AnyCluster;
    before(async () => {
      world = await openWorld(`pairs-${cluster}`);
      where = await open(world);
      tenant = await world.tenant('main');
    });
    after(() => world?.close());
    const title = (words: string) => `${cluster}: ${words}`;
    const scene = () => world.sceneOn(tenant, where);

    it(title('shifts both in lock step, one request a weight each, and leaves nothing behind'), async () => {
      const here = await scene();
      await here.first({ also });
      const recorder = await here.record();
      const run = await here.deploy({ version: '2', also, steps: [weight(10), approval(), weight(60)] });
      await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL', 60_000);
      for (const name of both) {
        assert.equal(recorder.now().meshWeights(name)[`${name}-canary`], 10, name);
        assert.equal(recorder.now().readyPods(`${name}-canary`).length, 2, name);
      }
      await approveStep(here.tenant.ctx, { id: run.deploymentId, ref: 'canary-step-2' });
      const seen = await run.end(60_000);
      assert.equal(seen.status, 'SUCCEEDED');
      const recording = await recorder.stop();
      assertLaws(recording, 'succeeded');
      assertJudged(recording);
      for (const name of both) {
        const names = { root: name, canary: `${name}-canary` };
        assert.deepEqual(weightsWritten(ofPair(recording, name), names), ['100/0', '90/10', '40/60', '0/100', '100/0']);
        await untilServed(here, ['2', '2'], name);
      }
    });

    it(title('brings back both from 60 %, before either of them loses its new pods'), async () => {
      const here = await scene();
      await here.first({ also });
      const recorder = await here.record();
      const run = await here.deploy({ version: '2', also, steps: [weight(10), weight(60), approval()] });
      await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL', 60_000);
      await rollBackDeployment(here.tenant.ctx, { id: run.deploymentId });
      assert.equal((await run.end(60_000)).status, 'CANCELLED');
      const recording = await recorder.stop();
      assertLaws(recording, 'rolledBack');
      for (const name of both) await untilServed(here, ['1', '1'], name);
    });

    it(title('fails as one where one of them does not become ready: nothing is shifted'), async () => {
      const here = await scene();
      await here.first({ also });
      await world.shorten(here.namespace, { readyTimeoutSeconds: 2 });
      const recorder = await here.record();
      const broken = workload({ version: '2-never-ready' }, 'api');
      const run = await here.deploy({ version: '2', objects: [broken, rootOf('api')], smiEntries: both });
      const seen = await run.end(60_000);
      assert.equal(seen.status, 'FAILED');
      assert.match(seen.state.error ?? '', /not ready within 2 s: 0 of 2 pods ready behind Service api-canary/);
      const recording = await recorder.stop();
      assert.equal(recording.changes.filter(({ kind }) => kind === 'TrafficSplit').length, 0);
      assertLaws(recording, 'rolledBack');
    });

    it(title('brings one of them up for the first time while the other is shifted'), async () => {
      const here = await scene();
      await here.first();
      const recorder = await here.record();
      const seen = await (await here.deploy({ version: '2', also, steps: [weight(60)] })).end(60_000);
      assert.equal(seen.status, 'SUCCEEDED');
      const recording = await recorder.stop();
      assert.deepEqual(checkLaws(ofPair(recording, 'web'), { root: 'web', replicas: 2, end: 'succeeded' }), []);
      assert.equal(ofPair(recording, 'api').changes.filter(({ kind }) => kind === 'TrafficSplit').length, 0);
      for (const name of both) await untilServed(here, ['2', '2'], name);
    });

    it(title('Two root Services of one Deployment share its pods, and each has its own split'), async () => {
      const here = await scene();
      const admin = service('admin');
      await here.first({ objects: [admin], smiEntries: ['web', 'admin'] });
      const recorder = await here.record();
      const run = await here.deploy({
        version: '2',
        objects: [admin],
        smiEntries: ['web', 'admin'],
        steps: [weight(10), weight(60)],
      });
      const seen = await run.end(60_000);
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
        await untilServed(here, ['2', '2'], name);
      }
      assert.deepEqual(outOfStep(recording, ['admin', 'web'], [0, 10, 60, 100]), []);
    });

    it(title('a target on a sandbox comes after one on this cluster, each with its own canary'), async () => {
      const beside = await world.cluster();
      const train = trainOf({ staging: await scene(), prod: await world.sceneOn(tenant, beside) });
      await bringVersion1(train, 'staging', 'prod');
      const { staging, prod } = train.scenes;
      const recorders = [await staging.record(), await prod.record()];
      const runs = await train.start(
        { staging: { steps: [weight(10), approval()] }, prod: { dependsOn: ['staging'], steps: [weight(60)] } },
        { version: '2' },
      );
      await runs.staging.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL', 60_000);
      assert.equal((await runs.prod.now()).status, 'WAITING');
      await approveStep(tenant.ctx, { id: runs.staging.deploymentId, ref: 'canary-step-2' });
      for (const run of Object.values(runs)) assert.equal((await run.end(60_000)).status, 'SUCCEEDED');
      for (const recorder of recorders) {
        assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'succeeded' }), []);
      }
      for (const here of [staging, prod]) await untilServed(here, ['2', '2']);
    });
  });
}

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
