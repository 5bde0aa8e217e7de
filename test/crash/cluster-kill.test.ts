import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { registerCluster } from '@cdaas/control-plane/clusters.ts';
import { createClusterClient } from '../support/cluster-client.ts';
import { pause, shopYaml, weight } from '../support/deployment-files.ts';
import { checkLaws, weightsWritten } from '../support/laws.ts';
import { startRecorder } from '../support/recorder.ts';
import { tell } from '../support/run.ts';
import { spawnSandbox } from '../support/sandbox-process.ts';
import { openWorld, type World } from '../support/world.ts';

let world: World;
let folder: string;
before(async () => {
  world = await openWorld('cluster-kill');
  folder = mkdtempSync(join(tmpdir(), 'cdaas-sandbox-'));
});
after(async () => {
  await world.close();
  rmSync(folder, { recursive: true, force: true });
});

it('A cluster killed in the middle of a canary comes back as it was, and the canary goes on', async () => {
  let sandbox = await spawnSandbox(folder);
  const client = createClusterClient(sandbox);
  try {
    const namespace = 'shop';
    await client.create('Namespace', '', { metadata: { name: namespace } });
    const tenant = await world.tenant('main');
    await registerCluster(tenant.ctx, { name: 'east', kubeconfig: sandbox.kubeconfig });
    const deploy = (version: string) =>
      tenant.start({
        yaml: shopYaml({ namespace, account: 'east', version, steps: [weight(10), pause(1), weight(60)] }),
      });
    assert.equal((await (await deploy('1')).end()).status, 'SUCCEEDED');

    const recorder = await startRecorder(client, namespace);
    const run = await deploy('2');
    await recorder.until('the first weight', (moment) => moment.meshWeights('web')['web-canary'] === 10);
    const before = await client.versions(namespace);
    const { server } = sandbox;
    await sandbox.kill();
    sandbox = await spawnSandbox(folder);
    assert.equal(sandbox.server, server, 'it serves at the address that it had');
    const restored = await client.versions(namespace);
    assert.deepEqual(Object.keys(restored), Object.keys(before));

    await recorder.until('the second weight', (moment) => moment.meshWeights('web')['web-canary'] === 60);
    await sandbox.kill();
    sandbox = await spawnSandbox(folder);
    const seen = await run.end(60_000);
    const recording = await recorder.stop();
    assert.equal(seen.status, 'SUCCEEDED', tell(seen));
    assert.deepEqual(weightsWritten(recording), ['100/0', '90/10', '40/60', '0/100', '100/0']);
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded', interrupted: true }), []);
  } finally {
    client.close();
    await sandbox.kill();
  }
});
