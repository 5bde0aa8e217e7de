import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createClusterClient } from '../support/cluster-client.ts';
import { kubeconfigText } from '../support/kubernetes-processes.ts';
import { type RealCluster, useRealCluster, withoutRealCluster } from '../support/real-cluster.ts';
import { newInstallation } from './installation.ts';

describe('npm start with a kubeconfig that cannot be used', () => {
  const installation = newInstallation();
  after(() => installation.remove());

  test('names what is refused in it, by line, and starts nothing', async () => {
    const file = join(installation.folder, 'exec.yaml');
    const text = kubeconfigText({ server: 'https://10.0.0.1', caData: 'Tk8=', token: 't' }, 'me');
    writeFileSync(file, text.replace('token: t', 'exec: { command: rm }'));
    const running = installation.start(['--kubeconfig', file]);
    assert.equal(await running.ended(), 1);
    assert.match(running.output(), /line 11: 'exec' is refused: it runs a program/);
    assert.match(running.output(), /kubectl create token/);
    assert.doesNotMatch(running.output(), /CDaaS is starting|\n\s+at /);
  });

  test('says so where there is no such file or context', async () => {
    const missing = installation.start(['--kubeconfig', join(installation.folder, 'none.yaml')]);
    assert.equal(await missing.ended(), 1);
    assert.match(missing.output(), /none\.yaml cannot be read \(ENOENT\)/);
    const file = join(installation.folder, 'two.yaml');
    writeFileSync(file, kubeconfigText({ server: 'https://10.0.0.1', caData: 'Tk8=', token: 't' }, 'me', 'east'));
    const running = installation.start(['--kubeconfig', file, '--context', 'west']);
    assert.equal(await running.ended(), 1);
    assert.match(running.output(), /west[\s\S]*east/);
  });
});

describe("npm start on a cluster of one's own", { skip: withoutRealCluster, concurrency: false }, () => {
  const installation = newInstallation();
  let cluster: RealCluster;
  before(async () => {
    cluster = await useRealCluster();
  });
  after(async () => {
    await installation.remove();
    await cluster?.stop();
  });

  test('registers it, deploys nothing unasked, and says what to do next', async () => {
    const client = createClusterClient(cluster);
    const before = await client.list('Namespace', '');
    const running = installation.start(['--kubeconfig', cluster.kubeconfigFile, '--account', 'east']);
    await running.prints(/CDaaS serves until Ctrl-C/);
    assert.match(running.output(), /account "east", registered now/);
    assert.match(running.output(), /sed -e 's\/account: sandbox\/account: east\/' examples\/shop-v1\.yaml/);
    assert.doesNotMatch(running.output(), /Sandbox/);
    const names = async () => (await client.list('Namespace', '')).objects.map(({ metadata }) => metadata.name);
    assert.ok((await names()).includes('default'));
    assert.equal(
      (await names()).includes('shop'),
      before.objects.some(({ metadata }) => metadata.name === 'shop'),
    );
    running.process.kill('SIGTERM');
    assert.equal(await running.ended(), 0);
    client.close();
  });

  test('shows the demo there when asked, through the real API, to its end', async () => {
    const running = installation.start(['--kubeconfig', cluster.kubeconfigFile, '--account', 'east', '--demo'], {
      DRAIN_SECONDS: '0',
    });
    await running.prints(/CDaaS serves until Ctrl-C/, 120_000);
    assert.match(running.output(), /account "east", registered before/);
    assert.match(running.output(), /Version 2 has all traffic after/);
    assert.match(running.output(), /with a version that crashes|a version that crashes under traffic/);
    running.process.kill('SIGTERM');
    assert.equal(await running.ended(), 0);
  });

  test('refuses a credential without rights, and writes the RBAC that it takes', async () => {
    const credential = await cluster.makeCredential({ rules: [] });
    const file = join(installation.folder, 'poor.yaml');
    writeFileSync(file, kubeconfigText({ ...cluster, token: credential.token }, 'poor'));
    const running = installation.start(['--kubeconfig', file, '--account', 'west']);
    assert.equal(await running.ended(), 1);
    assert.match(running.output(), /may not create services/);
    assert.match(running.output(), /rbac\.yaml: kubectl apply -f it/);
    assert.match(readFileSync(installation.path('rbac.yaml'), 'utf8'), /kind: ClusterRole/);
    await credential.remove();
  });
});
