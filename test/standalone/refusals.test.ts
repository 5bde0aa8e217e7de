import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { newInstallation } from './installation.ts';

describe('npm start that cannot start', { concurrency: false }, () => {
  const installation = newInstallation();
  after(() => installation.remove());

  test('says on an old Node which one is needed and how to get it', () => {
    const pretend = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '18.19.1' } })`;
    const { status, stderr } = spawnSync(
      process.execPath,
      ['--import', `data:text/javascript,${encodeURIComponent(pretend)}`, 'scripts/start.mjs'],
      { encoding: 'utf8' },
    );
    assert.equal(status, 1);
    assert.match(stderr, /needs Node 20 or newer.*this is Node 18\.19\.1/);
    assert.match(stderr, /Install a current Node/);
    assert.doesNotMatch(stderr, /\n\s+at /, 'no stack');
  });

  test('explains its options with --help, and refuses one that it does not know', async () => {
    const help = installation.start(['--help']);
    assert.equal(await help.ended(), 0);
    assert.match(help.output(), /--no-demo/);
    const unknown = installation.start(['--dry-run']);
    assert.equal(await unknown.ended(), 1);
    assert.match(unknown.output(), /--dry-run[\s\S]*Usage: npm start/);
  });

  test('names every environment variable that is wrong', async () => {
    const running = installation.start([], { PORT: '99999', LOG_LEVEL: 'loud', OUTBOUND_ALLOW: 'cluster:everything' });
    assert.equal(await running.ended(), 1);
    for (const name of ['PORT', 'LOG_LEVEL', 'OUTBOUND_ALLOW']) assert.match(running.output(), new RegExp(name));
  });

  test('names a port that is in use, and how to choose another, and starts nothing', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const address = other.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const running = installation.start([], { PORT: String(port) });
    const code = await running.ended();
    await new Promise((resolve) => other.close(resolve));
    assert.equal(code, 1);
    assert.match(running.output(), new RegExp(`127\\.0\\.0\\.1:${port} is in use[\\s\\S]*PORT=${port + 1} npm start`));
    assert.ok(!existsSync(installation.path('postgres')), 'nothing was made before the port was looked at');
    assert.ok(!existsSync(installation.path('lock.json')), 'the folder is free again');
  });

  test('names a data folder that cannot be written', async () => {
    const file = join(installation.folder, 'a-file');
    writeFileSync(file, '');
    for (const path of [file, join(file, 'data')]) {
      const running = installation.start([], { CDAAS_DATA_DIR: path });
      assert.equal(await running.ended(), 1);
      assert.match(running.output(), /a-file is a file; .*needs a folder[\s\S]*CDAAS_DATA_DIR=/);
    }
    if (process.platform !== 'linux') return;
    const nowhere = installation.start([], { CDAAS_DATA_DIR: '/proc/cdaas/data' });
    assert.equal(await nowhere.ended(), 1);
    assert.match(nowhere.output(), /data folder \/proc\/cdaas\/data cannot be written \(ENOENT\)/);
  });

  test('refuses to make another key than the one that the data was encrypted with', async () => {
    const other = newInstallation();
    const first = other.start(['--no-demo']);
    await first.url();
    first.process.kill('SIGTERM');
    assert.equal(await first.ended(), 0);
    rmSync(other.path('key'));
    const running = other.start(['--no-demo']);
    assert.equal(await running.ended(), 1);
    assert.match(running.output(), /key-encryption key .* is missing[\s\S]*backup/);
    assert.ok(!existsSync(other.path('key')));
    await other.remove();
  });

  test('says that the database of DATABASE_URL cannot be reached', async () => {
    const running = installation.start([], { DATABASE_URL: 'postgres://user:planted-secret@127.0.0.1:1/none' });
    assert.equal(await running.ended(), 1);
    assert.match(running.output(), /database cannot be reached[\s\S]*DATABASE_URL/);
    assert.doesNotMatch(running.output(), /planted-secret/);
  });
});
