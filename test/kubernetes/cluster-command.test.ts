import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(new URL('./cluster.ts', import.meta.url));

test('npm run cluster leaves a kubeconfig that is there already as it is, and names it', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'cdaas-cluster-command-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'config');
  writeFileSync(file, 'of somebody else');
  const { status, stderr } = spawnSync(process.execPath, [script, '--kubeconfig', file], {
    encoding: 'utf8',
    timeout: 20_000,
  });
  assert.equal(status, 2, stderr);
  assert.ok(stderr.startsWith(`${file} is there already.`), stderr);
  assert.equal(readFileSync(file, 'utf8'), 'of somebody else');
});
