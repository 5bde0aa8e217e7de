import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { approveStep, getDeployment } from '@cdaas/control-plane/deployments.ts';
import { newReplicaSetName } from '@cdaas/pipeline/deployment-state.ts';
import { hashKey } from '@cdaas/pipeline/marks.ts';
import { approval, manifestsOf, manifestText, pause, service, shopFile, weight } from '../support/deployment-files.ts';
import { checkLaws, weightsWritten } from '../support/laws.ts';
import { hashOf, momentsOf } from '../support/recorder.ts';
import { asksForWeight, holdWrite } from '../support/test-cluster.ts';
import { openWorld, type World } from '../support/world.ts';

let world: World;
before(async () => {
  world = await openWorld('canary');
});
after(() => world.close());

describe('A canary over an SMI TrafficSplit', { concurrency: 6 }, () => {
  it('brings the first version up without any split', async () => {
    const scene = await world.scene();
    const recorder = await scene.record();
    const seen = await (await scene.deploy({ version: '1' })).end();
    const recording = await recorder.stop();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.equal(seen.pipelineStatus, 'SUCCEEDED');
    assert.equal(recording.changes.filter(({ kind }) => kind === 'TrafficSplit').length, 0);
    assert.deepEqual(scene.send(50), { answers: { '1': 50 }, failed: 0 });
    const ended = seen.events.filter(({ type }) => type === 'pipelineEnded');
    assert.deepEqual(
      ended.map(({ message }) => message),
      ['Pipeline SUCCEEDED'],
    );
  });

  it('moves traffic weight by weight and leaves nothing behind', async () => {
    const scene = await world.scene();
    await scene.first({ replicas: 3 });
    const recorder = await scene.record();
    const atFirst = holdWrite(scene, asksForWeight(60));
    const atSecond = holdWrite(scene, asksForWeight(100));
    const run = await scene.deploy({ version: '2', replicas: 3, steps: [weight(10), weight(60)] });

    await atFirst.reached;
    const tenPercent = await recorder.until('10 %', (moment) => moment.meshWeights('web')['web-canary'] === 10);
    const [newPod] = tenPercent.readyPods('web-canary');
    const newHash = hashOf(tenPercent.get('Pod', newPod ?? ''));
    assert.equal(tenPercent.readyPods('web-canary').length, 3);
    assert.equal(tenPercent.shares('web')[newHash], 0.1);
    const { answers, failed } = scene.send(2000);
    assert.equal(failed, 0);
    assert.ok(
      Math.abs((answers['2'] ?? 0) / 2000 - 0.1) < 0.05,
      `${answers['2']} of 2000 requests went to the new version`,
    );
    atFirst.release();

    await atSecond.reached;
    const sixtyPercent = await recorder.until('60 %', (moment) => moment.meshWeights('web')['web-canary'] === 60);
    assert.deepEqual(podNames(sixtyPercent), podNames(tenPercent), 'only weights change between two weights');
    atSecond.release();

    const seen = await run.end();
    const recording = await recorder.stop();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.deepEqual(weightsWritten(recording), ['100/0', '90/10', '40/60', '0/100', '100/0']);
    assert.deepEqual(checkLaws(recording, { replicas: 3, end: 'succeeded' }), []);
    assert.deepEqual(scene.send(50), { answers: { '2': 50 }, failed: 0 });
  });

  it('answers every request from beginning to end, with and without a mesh', async () => {
    const scene = await world.scene();
    await scene.first();
    const { sandbox } = scene.cluster;
    const counted = { meshed: 0, plain: 0, failed: 0 };
    const sample = () => {
      for (const meshed of [true, false]) {
        const { answers, failed } = sandbox.send({ namespace: scene.namespace, service: 'web', count: 20, meshed });
        counted[meshed ? 'meshed' : 'plain'] += Object.values(answers).reduce((sum, count) => sum + count, 0);
        counted.failed += failed;
      }
    };
    const timer = setInterval(sample, 2);
    try {
      const seen = await (await scene.deploy({ version: '2', steps: [weight(10), weight(50), weight(90)] })).end();
      assert.equal(seen.status, 'SUCCEEDED');
    } finally {
      clearInterval(timer);
    }
    assert.equal(counted.failed, 0);
    assert.ok(counted.meshed > 1000 && counted.plain > 1000, JSON.stringify(counted));
  });

  it('tells every step of a canary once, in order', async () => {
    const scene = await world.scene();
    await scene.first();
    const seen = await (await scene.deploy({ version: '2', steps: [weight(50)] })).end();
    const told = seen.events.flatMap(({ message }) => message ?? []);
    const replicaSet = newReplicaSetName(seen.state, 0);
    const old = seen.state.survey?.workloads[0]?.old?.name;
    const milestones = [
      'Preflight passed',
      'Service web now selects only the previous version',
      'Service web-canary leads to the new version',
      `Created ReplicaSet ${replicaSet}`,
      `Scaled ReplicaSet ${replicaSet} to 2`,
      'TrafficSplit web created: all traffic still goes to the previous version',
      'TrafficSplit web set: 50 % of traffic to the new version',
      'TrafficSplit web set: 100 % of traffic to the new version',
      'Service web now selects the new version; no roll back from here on',
      'TrafficSplit web removed',
      `The previous version (ReplicaSet ${old}) is gone`,
      'Service web is no longer pinned to one version',
      'The new version has all traffic; everything auxiliary is gone',
    ];
    const found = milestones.map((milestone) => told.indexOf(milestone));
    assert.ok(
      found.every((place, index) => place >= 0 && place > (found[index - 1] ?? -1)),
      JSON.stringify(told, null, 1),
    );
    // A preflight is done twice: at the start, and again right before traffic is touched.
    for (const milestone of milestones.slice(1))
      assert.equal(told.filter((message) => message === milestone).length, 1, milestone);
    assert.deepEqual(
      seen.events.map(({ number }) => number),
      seen.events.map((_, index) => index + 1),
      'events are numbered without a gap',
    );
  });

  it('sends nothing for the implied 100 % after an explicit one', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const seen = await (await scene.deploy({ version: '2', steps: [weight(100), pause(1)] })).end();
    const recording = await recorder.stop();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.deepEqual(weightsWritten(recording), ['100/0', '0/100', '100/0']);
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded' }), []);
  });

  it('moves nothing for a weight of 0', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const seen = await (await scene.deploy({ version: '2', steps: [weight(0), weight(30)] })).end();
    const recording = await recorder.stop();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.deepEqual(weightsWritten(recording), ['100/0', '70/30', '0/100', '100/0']);
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded' }), []);
  });

  it('lets the share fall where the file asks for a lower weight', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const seen = await (await scene.deploy({ version: '2', steps: [weight(50), weight(20)] })).end();
    const recording = await recorder.stop();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.deepEqual(weightsWritten(recording), ['100/0', '50/50', '80/20', '0/100', '100/0']);
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded', lowered: [20] }), []);
    assert.notDeepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded' }), [], 'law 2 would notice it otherwise');
  });

  it('goes from 0 to 100 % by the same order without any setWeight', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const seen = await (await scene.deploy({ version: '2', steps: [pause(1)] })).end();
    const recording = await recorder.stop();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.deepEqual(weightsWritten(recording), ['100/0', '0/100', '100/0']);
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded' }), []);
  });

  it('starts no new pod before a leading pause has ended', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', steps: [pause(1), weight(50)] });
    const paused = await run.until('the pause', ({ status }) => status === 'PAUSED');
    assert.equal(paused.state.steps[0]?.status, 'PAUSED');
    const seen = await run.end();
    const recording = await recorder.stop();
    assert.equal(seen.status, 'SUCCEEDED');
    const created = recording.writes.find(({ verb, path }) => verb === 'create' && path.endsWith('/replicasets'));
    const waitedMs = (created?.at ?? 0) - Date.parse(seen.state.steps[0]?.startedAt ?? '');
    assert.ok(waitedMs >= 1000, `the ReplicaSet came ${waitedMs} ms after the pause began`);
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded' }), []);
  });

  it('uses a given canary Service and restores it exactly', async () => {
    const scene = await world.scene();
    await scene.first();
    await scene.client.create('Service', scene.namespace, service('preview', { type: 'NodePort' }));
    const recorder = await scene.record();
    const run = await scene.deploy({
      version: '2',
      smi: { canaryServiceName: 'preview', trafficSplitName: 'shifting' },
    });
    const split = await recorder.until('the split', (moment) => moment.get('TrafficSplit', 'shifting') !== undefined);
    assert.equal(split.get('TrafficSplit', 'web'), undefined);
    const pinned = split.get('Service', 'preview')?.spec as { selector: Record<string, string> };
    assert.ok(pinned.selector[hashKey]);
    const seen = await run.end();
    const recording = await recorder.stop();
    assert.equal(seen.status, 'SUCCEEDED');
    const names = { root: 'web', canary: 'preview' };
    assert.deepEqual(weightsWritten(recording, names), ['100/0', '90/10', '40/60', '0/100', '100/0']);
    assert.deepEqual(
      checkLaws(recording, { replicas: 2, end: 'succeeded', canary: 'preview', split: 'shifting', canaryGiven: true }),
      [],
    );
  });

  it('leaves a root Service that is not in the manifests exactly as it was', async () => {
    const scene = await world.scene();
    await scene.first({ root: null });
    const recorder = await scene.record();
    const seen = await (await scene.deploy({ version: '2', root: null })).end();
    const recording = await recorder.stop();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded', rootApplied: false }), []);
  });

  it('takes manifests from files of the JSON form', async () => {
    const scene = await world.scene();
    await scene.first();
    const { namespace, account } = scene;
    const shop = { namespace, account, version: '2', steps: [weight(25)] };
    const [deployment, ...others] = manifestsOf(shop);
    const file = {
      ...shopFile(shop),
      manifests: [{ path: 'deployment.yaml' }, { path: 'others/' }],
      files: {
        'deployment.yaml': [manifestText([deployment as Record<string, unknown>])],
        'others/': [manifestText(others)],
      },
    };
    const recorder = await scene.record();
    const run = await scene.tenant.start({ json: JSON.stringify(file) });
    assert.equal((await run.end()).status, 'SUCCEEDED');
    assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'succeeded' }), []);
  });

  it('applies other objects once, before traffic is touched, and changes of existing ones', async () => {
    const scene = await world.scene();
    const settings = (color: string) => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'settings' },
      data: { color },
    });
    await scene.first({ objects: [settings('blue')] });
    const recorder = await scene.record();
    const seen = await (await scene.deploy({ version: '2', objects: [settings('green')] })).end();
    const { writes } = await recorder.stop();
    assert.equal(seen.status, 'SUCCEEDED');
    const paths = writes.map(({ verb, path }) => `${verb} ${path.split('/').slice(-2).join('/')}`);
    assert.deepEqual(paths.slice(0, 3), ['patch configmaps/settings', 'patch services/web', 'patch services/web']);
    assert.equal(paths.filter((path) => path.includes('configmaps')).length, 1);
    const stored = await scene.client.get('ConfigMap', scene.namespace, 'settings');
    assert.deepEqual(stored?.data, { color: 'green' });
  });

  it('replaces a version that has no pods without splitting traffic, and says so', async () => {
    const scene = await world.scene();
    await scene.first({ replicas: 0 });
    const recorder = await scene.record();
    const seen = await (await scene.deploy({ version: '2' })).end();
    const recording = await recorder.stop();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.equal(weightsWritten(recording).length, 0);
    assert.match(seen.state.warnings.join(), /replaced without splitting traffic/);
    const last = [...momentsOf(recording)].at(-1)?.moment;
    assert.equal(last?.objects('ReplicaSet').length, 1);
    assert.deepEqual(scene.send(10), { answers: { '2': 10 }, failed: 0 });
  });

  it('lists what stands of all that it created and changed, for those who read the deployment', async () => {
    const scene = await world.scene();
    await scene.first();
    const run = await scene.deploy({ version: '2', steps: [weight(10), approval()] });
    const listed = async () => {
      const { objects } = await getDeployment(scene.tenant.ctx, { id: run.deploymentId });
      return objects.map(({ kind, name }) => `${kind} ${name.replace(/-[a-z0-9]{10}$/, '-<hash>')}`).sort();
    };
    await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    const all = ['ReplicaSet web-<hash>', 'Service web', 'Service web-canary', 'TrafficSplit web'];
    assert.deepEqual(await listed(), all);
    await approveStep(scene.tenant.ctx, { id: run.deploymentId, ref: 'canary-step-2' });
    await run.end();
    assert.deepEqual(await listed(), ['ReplicaSet web-<hash>', 'Service web']);
  });
});

function podNames(moment: { objects(kind: 'Pod'): { metadata: { name: string } }[] }): string[] {
  return moment
    .objects('Pod')
    .map(({ metadata }) => metadata.name)
    .sort();
}
