import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { lockDataDir, openDataDir } from './data-dir.ts';
import { identityOf } from './processes.ts';

describe('the lock of a data folder', () => {
  const folder = mkdtempSync(join(tmpdir(), 'cdaas-data-dir-'));
  after(() => rmSync(folder, { recursive: true }));
  const dir = openDataDir(join(folder, 'data'));
  const turn = `${dir.lock}.turn`;
  const gone = JSON.stringify({ pid: 2 ** 22 + 1, identity: 'gone', url: null });
  // Another process that lives: the one that started this one.
  const alive = JSON.stringify({ pid: process.ppid, identity: identityOf(process.ppid), url: null });
  const holder = () => (JSON.parse(readFileSync(dir.lock, 'utf8')) as { pid: number }).pid;

  test('left by a process that is gone is taken over', async () => {
    writeFileSync(dir.lock, gone);
    const lock = await lockDataDir(dir);
    assert.equal(holder(), process.pid);
    assert.ok(!existsSync(turn));
    lock.release();
  });

  test('is not taken over by two that found it at once', async () => {
    writeFileSync(dir.lock, gone);
    writeFileSync(turn, alive);
    await assert.rejects(lockDataDir(dir), /is running on .* already/);
    assert.equal(readFileSync(dir.lock, 'utf8'), gone, 'the other one replaces it');
    rmSync(turn);
  });

  test('can be taken over after somebody was killed while taking it over', async () => {
    writeFileSync(dir.lock, gone);
    writeFileSync(turn, gone);
    const lock = await lockDataDir(dir);
    assert.equal(holder(), process.pid);
    lock.release();
  });

  test('of a process that lives stays', async () => {
    writeFileSync(dir.lock, alive);
    await assert.rejects(lockDataDir(dir), /is running on .* already/);
    assert.equal(readFileSync(dir.lock, 'utf8'), alive);
  });
});
