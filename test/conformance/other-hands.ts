import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { approveStep, resumeDeployment, rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import { type DeploymentState, newReplicaSetName } from '@cdaas/pipeline/deployment-state.ts';
import { hashKey } from '@cdaas/pipeline/marks.ts';
import { waitingFor } from '@cdaas/pipeline/narrate.ts';
import { approval, service, weight } from '../support/deployment-files.ts';
import type { Moment } from '../support/recorder.ts';
import type { Run } from '../support/run.ts';
import type { AnyCluster } from '../support/test-cluster.ts';
import { type AnyScene, openWorld, type Tenant, type World } from '../support/world.ts';
import type { ClusterName } from './place.ts';

/*
 * People and controllers edit, scale and delete what a canary at 10 % holds. The same on the sandbox and on real
 * Kubernetes.
 */

const pinOf = (moment: Moment, name = 'web') =>
  (moment.get('Service', name)?.spec as { selector: Record<string, string> } | undefined)?.selector[hashKey];
const oldHash = ({ survey }: DeploymentState) => survey?.workloads[0]?.old?.hash;

/** Waits until all requests to the root Service are answered by one version. */
async function served(scene: AnyScene, hash: string | undefined): Promise<void> {
  const recorder = await scene.record();
  await recorder.until('one version alone', (moment) => {
    const [shares, plain] = [moment.shares('web'), moment.plainShares('web')];
    return hash !== undefined && shares[hash] === 1 && plain[hash] === 1;
  });
  await recorder.stop();
}

/** A canary at 10 % that waits for approval. */
async function atTen(scene: AnyScene): Promise<{ run: Run; state: DeploymentState }> {
  await scene.first();
  const run = await scene.deploy({ version: '2', steps: [weight(10), approval(), weight(60)] });
  const { state } = await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
  return { run, state };
}

export function runOtherHands(
  cluster: ClusterName,
  open: (world: World) => Promise<AnyCluster>,
  skip: string | false = false,
): void {
  describe(`${cluster} cluster: what others do to a canary at 10 %`, { skip, concurrency: 4 }, () => {
    let world: World;
    let tenant: Tenant;
    let where: AnyCluster;
    before(async () => {
      world = await openWorld(`other-hands-${cluster}`, { drainSeconds: 1 });
      where = await open(world);
      tenant = await world.tenant('main');
    });
    after(() => world?.close());

    type Edit = (scene: AnyScene, state: DeploymentState) => Promise<unknown>;
    type Spec = { selector?: Record<string, string>; replicas?: number; backends?: { weight: number }[] };
    const specOf = (moment: Moment, kind: 'Service' | 'TrafficSplit' | 'ReplicaSet', name: string) =>
      moment.get(kind, name)?.spec as Spec | undefined;
    const backends = (stable: number, canary: number) => [
      { service: 'web', weight: stable },
      { service: 'web-canary', weight: canary },
    ];
    const oldName = ({ survey }: DeploymentState) => survey?.workloads[0]?.old?.name ?? '';

    const healed: {
      title: string;
      edit: Edit;
      told: RegExp;
      isBack: (moment: Moment, state: DeploymentState) => boolean;
    }[] = [
      {
        title: 'the pin of the canary Service is taken out',
        edit: ({ client, namespace }) =>
          client.patch('Service', namespace, 'web-canary', { spec: { selector: { [hashKey]: null } } }),
        told: /Service web-canary no longer selects only the pods it is to, changed by kubectl \(Update at/,
        isBack: (moment, state) => pinOf(moment, 'web-canary') === state.hashes[0],
      },
      {
        title: 'the weights are changed',
        edit: ({ client, namespace }) =>
          client.patch('TrafficSplit', namespace, 'web', { spec: { backends: backends(50, 50) } }),
        told: /TrafficSplit web has 50\/50 instead of 90\/10, changed by kubectl/,
        isBack: (moment) => specOf(moment, 'TrafficSplit', 'web')?.backends?.[1]?.weight === 10,
      },
      {
        title: 'a backend is taken out of the split',
        edit: ({ client, namespace }) =>
          client.patch('TrafficSplit', namespace, 'web', { spec: { backends: backends(100, 0).slice(0, 1) } }),
        told: /TrafficSplit web has other backends instead of 90\/10/,
        isBack: (moment) => specOf(moment, 'TrafficSplit', 'web')?.backends?.[1]?.weight === 10,
      },
      {
        title: 'the old version is scaled down',
        edit: ({ client, namespace }, state) =>
          client.patch('ReplicaSet', namespace, oldName(state), { spec: { replicas: 1 } }),
        told: /ReplicaSet web-\w+ asks for 1 pods instead of 2, changed by kubectl/,
        isBack: (moment, state) => specOf(moment, 'ReplicaSet', oldName(state))?.replicas === 2,
      },
      {
        title: 'the new version is scaled down',
        edit: ({ client, namespace }, state) =>
          client.patch('ReplicaSet', namespace, newReplicaSetName(state, 0), { spec: { replicas: 1 } }),
        told: /ReplicaSet web-\w+ asks for 1 pods instead of 2/,
        isBack: (moment, state) => specOf(moment, 'ReplicaSet', newReplicaSetName(state, 0))?.replicas === 2,
      },
      {
        title: 'the label by which the root Service is watched is taken off',
        edit: ({ client, namespace }) =>
          client.patch('Service', namespace, 'web', { metadata: { labels: { 'cdaas/deployment': null } } }),
        told: /Service web was deleted or lost its label/,
        isBack: (moment) => moment.get('Service', 'web')?.metadata.labels?.['cdaas/deployment'] !== undefined,
      },
    ];

    for (const { title, edit, told, isBack } of healed) {
      it(`${cluster}: ${title}: it is put back, and told`, async (context) => {
        const scene = await world.sceneOn(tenant, where);
        const { run, state } = await atTen(scene);
        const recorder = await scene.record();
        await edit(scene, state);
        const at = Date.now();
        await recorder.until('the change', (moment) => !isBack(moment, state) || recorder.writes.length > 0);
        await recorder.until('what was', (moment) => isBack(moment, state) && recorder.writes.length > 0);
        context.diagnostic(`${title} | put back after ${Date.now() - at} ms`);
        const seen = await run.until('the news', ({ events }) =>
          events.some(({ message }) => told.test(message ?? '')),
        );
        assert.ok(seen.events.some(({ message }) => told.test(message ?? '')));
        await run.until(
          'the end of it',
          ({ state: { mending, disturbed } }) => mending === null && disturbed.length === 0,
        );
        assert.equal((await run.now()).status, 'AWAITING_APPROVAL');
        await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
        assert.equal((await run.end()).status, 'CANCELLED');
        await recorder.stop();
        await served(scene, oldHash(state));
      });
    }

    const turned: { title: string; edit: Edit; error: RegExp }[] = [
      {
        title: 'the TrafficSplit is deleted',
        edit: ({ client, namespace }) => client.delete('TrafficSplit', namespace, 'web'),
        error: /TrafficSplit web was deleted by somebody/,
      },
      {
        title: 'the canary Service is deleted',
        edit: ({ client, namespace }) => client.delete('Service', namespace, 'web-canary'),
        error: /Service web-canary was deleted by somebody|has traffic but no ready pod/,
      },
      {
        title: 'the new ReplicaSet is deleted',
        edit: ({ client, namespace }, state) => client.delete('ReplicaSet', namespace, newReplicaSetName(state, 0)),
        error: /ReplicaSet web-\w+ was deleted by somebody|has traffic but no ready pod/,
      },
    ];
    for (const { title, edit, error } of turned) {
      it(`${cluster}: ${title}: the deployment rolls back at once`, async () => {
        const scene = await world.sceneOn(tenant, where);
        const { run, state } = await atTen(scene);
        await edit(scene, state);
        const seen = await run.end();
        assert.equal(seen.status, 'FAILED');
        assert.match(seen.state.error ?? '', error);
        await served(scene, oldHash(state));
      });
    }

    it(`${cluster}: the old ReplicaSet is deleted: weights freeze, and people may let the new version take over`, async () => {
      const scene = await world.sceneOn(tenant, where);
      const { run, state } = await atTen(scene);
      await scene.client.delete('ReplicaSet', scene.namespace, oldName(state));
      const frozen = await run.until('the freeze', ({ state: { frozen } }) => frozen.length > 0);
      assert.match(waitingFor(frozen.state) ?? '', /ReplicaSet web-\w+ was deleted: there is nothing to go back to/);
      await resumeDeployment(scene.tenant.ctx, { id: run.deploymentId });
      await approveStep(scene.tenant.ctx, { id: run.deploymentId, ref: 'canary-step-2' });
      assert.equal((await run.end()).status, 'SUCCEEDED');
      await served(scene, state.hashes[0]);
    });

    it(`${cluster}: the pin is fought over: after three times weights freeze, who does it is named, and people decide`, async () => {
      const scene = await world.sceneOn(tenant, where);
      const { run, state } = await atTen(scene);
      const recorder = await scene.record();
      const old = state.survey?.workloads[0]?.old?.hash;
      const { metadata: _, ...manifest } = service('web');
      const drop = () =>
        scene.client.apply('Service', scene.namespace, 'web', { ...manifest, metadata: { name: 'web' } });
      for (let time = 1; time <= 3; time += 1) {
        await drop();
        await run.until(
          `fight ${time}`,
          ({ state: { fights, mending } }) => fights.length === time && mending === null,
        );
        await recorder.until('the pin', (moment) => pinOf(moment) === old);
      }
      await drop();
      const frozen = await run.until('the freeze', ({ state }) => state.frozen.length > 0);
      const words = waitingFor(frozen.state) ?? '';
      assert.match(words, /^people: Service web no longer selects .* changed by argocd-controller \(Apply at/);
      assert.match(words, /put back 3 times within a minute; no weight moves until somebody resumes/);
      await approveStep(scene.tenant.ctx, { id: run.deploymentId, ref: 'canary-step-2' });
      await run.until('the wait of the weight', ({ state }) => state.at === 'S7.3.weight.0' && state.effect === null);
      assert.equal(recorder.writes.filter(({ path }) => path.includes('/trafficsplits/')).length, 0);
      await resumeDeployment(scene.tenant.ctx, { id: run.deploymentId });
      const seen = await run.end();
      assert.equal(seen.status, 'SUCCEEDED');
      await recorder.stop();
      await served(scene, state.hashes[0]);
      await assert.rejects(resumeDeployment(scene.tenant.ctx, { id: run.deploymentId }), { code: 'deployment.final' });
    });

    it(`${cluster}: nothing: no change is seen, and the canary sends what it sends without being watched`, async () => {
      const scene = await world.sceneOn(tenant, where);
      await scene.first();
      const recorder = await scene.record();
      const seen = await (await scene.deploy({ version: '2', steps: [weight(10), weight(60)] })).end();
      assert.equal(seen.status, 'SUCCEEDED');
      assert.deepEqual(
        seen.events.filter(({ data }) => String(data.condition ?? data.key ?? '').match(/^(guard\.changed|mend)/)),
        [],
      );
      const { writes: sent } = await recorder.stop();
      assert.ok(sent.length <= 18, `${sent.length} writes`);
    });
  });
}
