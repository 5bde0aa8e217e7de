import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Sandbox, startSandbox } from '@cdaas/sandbox/sandbox.ts';
import { connect, example, newInstallation } from './installation.ts';

describe('npm start with the kubeconfig of a cluster that is known', { concurrency: false }, () => {
  const installation = newInstallation();
  const clusters: Sandbox[] = [];
  const kubeconfig = (name: string) => join(installation.folder, `${name}.yaml`);
  before(async () => {
    for (const name of ['one', 'two']) {
      const cluster = await startSandbox({ dataDir: join(installation.folder, name) });
      clusters.push(cluster);
      writeFileSync(kubeconfig(name), cluster.kubeconfig);
    }
  });
  after(async () => {
    await installation.remove();
    for (const cluster of clusters) await cluster.stop();
  });

  test('stays up where the demo finds its application in progress, and says what to do', async () => {
    const first = installation.start(['--kubeconfig', kubeconfig('one')]);
    const api = await connect(installation, await first.url());
    const file = example('shop-v1.yaml').replace('account: sandbox', 'account: own');
    await api.post('/pipelines/kubernetes', file.replace('shop:1.0.0', 'shop:1.0.0-never-ready'));
    first.process.kill('SIGTERM');
    assert.equal(await first.ended(), 0);

    const second = installation.start(['--kubeconfig', kubeconfig('one'), '--demo']);
    await second.prints(/CDaaS serves until Ctrl-C/);
    assert.match(second.output(), /account "own", registered before/);
    assert.match(second.output(), /shop is in progress, the demo is left out: http\S+\n[\s\S]*\/cancel -H/);
    assert.match(second.output(), /In progress:\n +shop is RUNNING: waits for .*pods/);
    second.process.kill('SIGTERM');
    assert.equal(await second.ended(), 0);
  });

  test('refuses another cluster under its account, and says by whole commands how to go on', async () => {
    const running = installation.start(['--kubeconfig', kubeconfig('two')]);
    assert.equal(await running.ended(), 1);
    const words = running.output();
    assert.match(words, /leads to another cluster than the one registered as "own"/);
    assert.match(words, /under another account:\n.* npm start -- --kubeconfig \S+two\.yaml --account own-2\n/);
    assert.match(words, /with a new data folder:\n +CDAAS_DATA_DIR=\S+-2 .*npm start -- --kubeconfig \S+two\.yaml\n/);
    assert.doesNotMatch(words, /\n\s+at /, 'no stack');
  });

  test('says what is wrong with a path, before anything is started', async () => {
    const rows: [string, RegExp][] = [
      [installation.folder, /cannot be read \(EISDIR\): it is a folder/],
      ['~/.kube/config', /cannot be read \(ENOENT\): a shell expands ~ only outside of quotes/],
      [join(installation.folder, 'none'), /cannot be read \(ENOENT\): there is no such file/],
    ];
    for (const [path, words] of rows) {
      const running = installation.start(['--kubeconfig', path]);
      assert.equal(await running.ended(), 1);
      assert.match(running.output(), words);
      assert.doesNotMatch(running.output(), /CDaaS is starting/);
    }
  });
});
