import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { changeCluster } from '@cdaas/control-plane/clusters/change.ts';
import {
  engineRights,
  lookupRights,
  manifestKinds,
  manifestRight,
  resourceWords,
} from '@cdaas/control-plane/clusters/engine-rights.ts';
import { registerCluster } from '@cdaas/control-plane/clusters.ts';
import { approveStep, rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import { approval, service, weight } from '../support/deployment-files.ts';
import { weightsWritten } from '../support/laws.ts';
import { type RecordingProxy, startRecordingProxy } from '../support/recording-proxy.ts';
import { rightOf } from '../support/request-rights.ts';
import { asksForWeight, holdWrite } from '../support/test-cluster.ts';
import { until } from '../support/until.ts';
import { openWorld, type Scene, type World } from '../support/world.ts';

let world: World;
before(async () => {
  world = await openWorld('rights');
});
after(() => world.close());

/** A scene whose account leads through a proxy that records what is asked of the cluster, and by whom. */
async function throughProxy(more: { namespaces?: string[] } = {}): Promise<Scene & { proxy: RecordingProxy }> {
  const scene = await world.scene();
  const proxy = await startRecordingProxy(scene.cluster.sandbox, ['first-token', 'second-token']);
  proxies.push(proxy);
  const account = `proxied-${proxies.length}`;
  const { server, caData } = proxy;
  const namespaces = more.namespaces ?? [scene.namespace];
  await registerCluster(scene.tenant.ctx, { name: account, server, caData, token: 'first-token', namespaces });
  const yaml: Scene['yaml'] = (shop) => scene.yaml({ ...shop, account });
  return {
    ...scene,
    account,
    proxy,
    yaml,
    deploy: (shop) => scene.tenant.start({ yaml: yaml(shop) }),
    first: async (shop) => (await (await scene.tenant.start({ yaml: yaml({ version: '1', ...shop }) })).end()) as never,
  };
}
const proxies: RecordingProxy[] = [];
after(async () => {
  for (const proxy of proxies) await proxy.close();
});

const objects = (value: string) => [
  { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'settings' }, data: { value } },
  { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'password' }, stringData: { value } },
];

describe('The rights that registration asks for', () => {
  it('cover every request that whole runs make, and hold none that no run uses', async () => {
    const scene = await throughProxy();
    await scene.first({ objects: objects('1') });
    const canary = await scene.deploy({ version: '2', objects: objects('2'), steps: [weight(10), weight(50)] });
    assert.equal((await canary.end()).status, 'SUCCEEDED');
    const given = service('web-next');
    const held = await scene.deploy({
      version: '3',
      objects: [...objects('3'), given],
      smi: { canaryServiceName: 'web-next' },
      steps: [weight(10), approval()],
    });
    await held.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    await rollBackDeployment(scene.tenant.ctx, { id: held.deploymentId });
    assert.equal((await held.end()).status, 'CANCELLED');
    const refusedPods = await scene.deploy({ version: 'never-ready', objects: objects('4') });
    await refusedPods.until('the wait for pods', ({ state }) => state.at.startsWith('S4'));
    await rollBackDeployment(scene.tenant.ctx, { id: refusedPods.deploymentId });
    await refusedPods.end();
    // A Deployment object that is kept, and one that is not kept any more.
    const keeping = await scene.deploy({ version: '4', keep: true, objects: objects('4'), steps: [] });
    assert.equal((await keeping.end()).status, 'SUCCEEDED');
    assert.equal(
      (await (await scene.deploy({ version: '5', objects: objects('5'), steps: [] })).end()).status,
      'SUCCEEDED',
    );

    const used = new Set<string>();
    for (const { method, path, status } of scene.proxy.requests) {
      assert.notEqual(status, 403, `${method} ${path} was refused`);
      const right = rightOf(method, path);
      if (right.kind === 'path') {
        assert.match(
          right.path,
          /^\/(version|(openapi\/v3\/)?apis?(\/[\w.-]+){0,2})$/,
          'discovery, which is open to every account',
        );
        continue;
      }
      if (/^selfsubject(access|rules)reviews$/.test(right.resource)) continue;
      const { verb, group, resource, name, namespace } = right;
      const kinds = manifestKinds.map(manifestRight);
      const covering = [...lookupRights, ...engineRights, ...kinds].find((each) => {
        const isNamed = 'name' in each && each.name !== undefined;
        const fits = each.group === group && each.resource === resource && each.verbs.some((one) => one === verb);
        return fits && (!isNamed || each.name === name);
      });
      assert.ok(
        covering,
        `the engine asked to ${verb} ${resourceWords({ group, resource })} (${method} ${path}): give it a line in engine-rights.ts`,
      );
      if (covering && !('name' in covering)) {
        assert.ok(namespace === scene.namespace, `${method} ${path} leaves the namespaces that are registered`);
      }
      used.add(`${verb} ${resourceWords({ group, resource })}`);
    }
    const unused = engineRights.flatMap((right) =>
      right.verbs.map((verb) => `${verb} ${resourceWords(right)}`).filter((words) => !used.has(words)),
    );
    assert.deepEqual(
      unused.filter((words) => !otherRuns.has(words)),
      [],
      'a right that no run uses is one too many',
    );
  });
});

/** Rights that the runs above may have no use for. */
const otherRuns = new Set([
  // After a write whose outcome is not known.
  'get trafficsplits.split.smi-spec.io',
  // Of splits that somebody else changes.
  'watch trafficsplits.split.smi-spec.io',
  // Where KEDA is installed.
  'list scaledobjects.keda.sh',
]);

describe('A registration that is changed while a run is in progress', { concurrency: 3 }, () => {
  it('brings the run a new credential, with which it goes on as if nothing had been', async () => {
    const scene = await throughProxy();
    await scene.first();
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', steps: [weight(10), approval(), weight(60)] });
    await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    await changeCluster(scene.tenant.ctx, { name: scene.account, change: { token: 'second-token' } });
    await until(
      () => scene.proxy.requests.some(({ token, path }) => token === 'second-token' && path.includes('watch=true')),
      'watches with the new credential',
    );
    scene.proxy.tokens.delete('first-token');
    const seen = scene.proxy.requests.length;
    await approveStep(scene.tenant.ctx, { id: run.deploymentId, ref: 'canary-step-2' });
    assert.equal((await run.end()).status, 'SUCCEEDED');
    const later = scene.proxy.requests.slice(seen);
    assert.ok(later.every(({ token }) => token === 'second-token'));
    const recording = await recorder.stop();
    assert.deepEqual(weightsWritten(recording), ['100/0', '90/10', '40/60', '0/100', '100/0'], 'each weight once');
  });

  it('takes over in the middle of a write, which is not sent twice', async () => {
    const scene = await throughProxy();
    await scene.first();
    const recorder = await scene.record();
    const atWeight = holdWrite(scene, asksForWeight(10), 'after');
    const run = await scene.deploy({ version: '2', steps: [weight(10), weight(60)] });
    await atWeight.reached;
    await changeCluster(scene.tenant.ctx, { name: scene.account, change: { token: 'second-token' } });
    scene.proxy.tokens.delete('first-token');
    atWeight.release();
    assert.equal((await run.end(60_000)).status, 'SUCCEEDED');
    assert.deepEqual(weightsWritten(await recorder.stop()), ['100/0', '90/10', '40/60', '0/100', '100/0']);
  });

  it('ends the hold of a run whose credential was taken away before', async () => {
    const scene = await throughProxy();
    await scene.first();
    const run = await scene.deploy({ version: '2', steps: [weight(10), approval(), weight(60)] });
    await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    scene.proxy.tokens.delete('first-token');
    await approveStep(scene.tenant.ctx, { id: run.deploymentId, ref: 'canary-step-2' });
    await run.until('the hold', ({ events }) =>
      events.some(({ type, data }) => type === 'refused' && data.status === 401),
    );
    await changeCluster(scene.tenant.ctx, { name: scene.account, change: { token: 'second-token' } });
    assert.equal((await run.end(60_000)).status, 'SUCCEEDED');
  });

  it('opens namespaces: they are watched from then on, and the run there ends', async () => {
    const scene = await throughProxy({ namespaces: ['elsewhere'] });
    await assert.rejects(scene.deploy({ version: '1' }), /not open for deployments/);
    const change = { namespaces: ['elsewhere', scene.namespace] };
    await changeCluster(scene.tenant.ctx, { name: scene.account, change });
    const run = await scene.deploy({ version: '1' });
    assert.equal((await run.end()).status, 'SUCCEEDED');
  });
});
