import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startApi } from '@cdaas/api/server.ts';
import { createTestTenant, insertCluster, openTestApi, shopFile } from '../support/api.ts';
import { cloneDatabase } from '../support/database.ts';

after(async () => {
  await api.close();
  await clone.drop();
  rmSync(folder, { recursive: true, force: true });
});
const folder = mkdtempSync(join(tmpdir(), 'cdaas-api-process-'));
const keyFile = join(folder, 'key');
writeFileSync(keyFile, randomBytes(32).toString('base64'), { mode: 0o600 });
const api = await openTestApi('api_process');
const clone = await cloneDatabase('api_process_main');

function run(environment: Record<string, string>): ChildProcess {
  const main = fileURLToPath(new URL('../../apps/api/src/main.ts', import.meta.url));
  const { PATH = '' } = process.env;
  return spawn(process.execPath, [main], { env: { PATH, ...environment }, stdio: ['ignore', 'pipe', 'pipe'] });
}

test('without its environment the process says all that is missing, and exits 2', async () => {
  const child = run({ PORT: 'x' });
  assert.ok(child.stderr);
  const [printed, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  assert.equal(code, 2);
  for (const name of ['DATABASE_URL', 'PUBLIC_URL', 'ENCRYPTION_KEY_FILE', 'PORT'])
    assert.ok(printed.includes(name), name);
});

test('a process that cannot start says why in a sentence, and exits 1', async () => {
  const child = run({
    DATABASE_URL: clone.url,
    PUBLIC_URL: 'http://127.0.0.1:8080',
    ENCRYPTION_KEY_FILE: join(folder, 'none'),
    PORT: '0',
  });
  assert.ok(child.stderr);
  const [printed, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  assert.equal(code, 1);
  assert.match(printed, /^The API cannot start: .*none.*\n$/);
});

test('the process serves, logs JSON, and stops in order when it is told to', async () => {
  const child = run({
    DATABASE_URL: clone.url,
    PUBLIC_URL: 'http://127.0.0.1:8080',
    ENCRYPTION_KEY_FILE: keyFile,
    PORT: '0',
    METRICS_PORT: '0',
  });
  assert.ok(child.stdout);
  const exit = once(child, 'exit');
  let port = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    const entry = JSON.parse(line) as { msg: string; port?: number };
    if (entry.msg !== 'API serves') continue;
    port = Number(entry.port);
    break;
  }
  assert.equal((await fetch(`http://127.0.0.1:${port}/readyz`)).status, 200);
  child.kill('SIGTERM');
  assert.deepEqual(await exit, [0, null]);
});

test('closing ends live streams, answers what is in flight and lets go of the port', async () => {
  const tenant = await createTestTenant(api, 'closing');
  await insertCluster(api, tenant, 'east');
  const started = await api.call(tenant.admin, 'POST', '/pipelines', { body: shopFile() });
  const { pipelineId } = started.json as { pipelineId: string };
  const { events: _events, signingKeys: _keys, metrics: _metrics, ...deps } = api.deps;
  const settings = { ...deps.settings, allowedHosts: ['127.0.0.1:8080'] };
  const running = await startApi(
    { ...deps, settings },
    { host: '127.0.0.1', port: 0, metricsPort: null, drainSeconds: 20 },
  );
  settings.allowedHosts.push(`127.0.0.1:${running.port}`);
  const url = `http://127.0.0.1:${running.port}/pipelines/${pipelineId}/events`;
  const authorization = `Bearer ${tenant.admin.token}`;
  const stream = await fetch(url, { headers: { authorization, accept: 'text/event-stream' } });
  const inFlight = fetch(url, { headers: { authorization } });
  const began = performance.now();
  await Promise.all([inFlight, running.close()]);
  assert.equal((await inFlight).status, 200);
  assert.match(await stream.text(), /event: started/);
  assert.ok(performance.now() - began < 5_000, 'closing did not wait for the stream');
  await assert.rejects(fetch(url));
});
