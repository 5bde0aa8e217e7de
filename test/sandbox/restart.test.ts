import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startSandbox } from '@cdaas/sandbox/sandbox.ts';
import { until } from '../support/until.ts';
import {
  apps,
  type Client,
  core,
  createClient,
  merge,
  readyEndpoints,
  service,
  temporaryFolder,
  workload,
} from './client.ts';

const main = fileURLToPath(import.meta.resolve('@cdaas/sandbox/main.ts'));

type Running = { client: Client; process: ChildProcess; server: string };

/** The sandbox cluster as a process of its own. */
async function run(t: TestContext, dataDir: string): Promise<Running> {
  const child = spawn(process.execPath, [main, '--data', dataDir], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const [server] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  const { caCertificate, token } = JSON.parse(readFileSync(join(dataDir, 'access.json'), 'utf8'));
  const client = createClient({ server, caData: Buffer.from(caCertificate).toString('base64'), token });
  t.after(() => client.close());
  return { client, process: child, server };
}

async function kill({ process: child }: Running): Promise<void> {
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

test('after a kill the same cluster is there: address, token, objects, versions, pods and endpoints', async (t) => {
  const dataDir = temporaryFolder(t);
  const first = await run(t, dataDir);
  await first.client.call('POST', `${core}/services`, service('web', { app: 'web' }));
  await first.client.call('POST', `${apps}/replicasets`, workload('web', 2, { app: 'web' }));
  await until(async () => (await readyEndpoints(first.client, 'web')).length === 2, 'endpoints');
  const { body: before } = await first.client.call('GET', `${core}/services/web`);
  const list = await first.client.call('GET', `${core}/services`);
  const pods = (await readyEndpoints(first.client, 'web')).sort();
  await kill(first);

  const second = await run(t, dataDir);
  assert.equal(second.server, first.server);
  assert.deepEqual((await second.client.call('GET', `${core}/services/web`)).body, before);
  assert.deepEqual((await readyEndpoints(second.client, 'web')).sort(), pods);
  const again = await second.client.call('GET', `${core}/services`);
  assert.ok(Number(again.body.metadata.resourceVersion) >= Number(list.body.metadata.resourceVersion));
  const { resourceVersion } = before.metadata;
  const patch = { metadata: { resourceVersion, labels: { a: '1' } } };
  assert.equal((await second.client.call('PATCH', `${core}/services/web`, patch, merge)).code, 200);
  await second.client.call('PATCH', `${apps}/replicasets/web`, { spec: { replicas: 3 } }, merge);
  await until(async () => (await readyEndpoints(second.client, 'web')).length === 3, 'a third endpoint');
});

test('whatever was answered before a kill is there after it', async (t) => {
  const dataDir = temporaryFolder(t);
  const confirmed: string[] = [];
  for (let round = 0; round < 3; round++) {
    const running = await run(t, dataDir);
    const target = confirmed.length + 40;
    const writers = [0, 1, 2, 3].map(async (writer) => {
      for (let number = 0; ; number++) {
        const name = `c-${round}-${writer}-${number}`;
        const answer = await running.client
          .call('POST', `${core}/configmaps`, { metadata: { name } })
          .catch(() => null);
        if (!answer) return;
        assert.equal(answer.code, 201);
        confirmed.push(name);
      }
    });
    await until(() => confirmed.length >= target, 'some writes are confirmed');
    await kill(running);
    await Promise.all(writers);
  }
  const { client } = await run(t, dataDir);
  const { body } = await client.call('GET', `${core}/configmaps`);
  const there = new Set(body.items.map((item) => item.metadata.name));
  assert.deepEqual(
    confirmed.filter((name) => !there.has(name)),
    [],
  );
});

test('a watch goes on over a restart where its version is still in the log, else it is told 410', async (t) => {
  const dataDir = temporaryFolder(t);
  let sandbox = await startSandbox({ dataDir });
  let client = createClient(sandbox);
  await client.call('POST', `${core}/configmaps`, { metadata: { name: 'a' } });
  const { body } = await client.call('GET', `${core}/configmaps`);
  await client.call('POST', `${core}/configmaps`, { metadata: { name: 'b' } });
  const path = `${core}/configmaps?watch=true&resourceVersion=${body.metadata.resourceVersion}`;
  const restart = async () => {
    client.close();
    await sandbox.stop();
    sandbox = await startSandbox({ dataDir });
    client = createClient(sandbox);
  };
  await restart();
  const { events } = await client.watch(path);
  await until(() => events.length > 0, 'the missed event');
  assert.equal(events[0]!.object.metadata.name, 'b');
  await restart();
  const late = await client.watch(path);
  await late.ended;
  assert.deepEqual([late.events[0]!.type, late.events[0]!.object.code], ['ERROR', 410]);
  client.close();
  await sandbox.stop();
});

test('a torn last line of the log is dropped', async (t) => {
  const dataDir = temporaryFolder(t);
  const sandbox = await startSandbox({ dataDir });
  const client = createClient(sandbox);
  await client.call('POST', `${core}/configmaps`, { metadata: { name: 'whole' } });
  client.close();
  await sandbox.stop();
  appendFileSync(join(dataDir, 'changes.log'), 'put configmaps {"apiVersion":"v1","kind":"Config');
  const again = await startSandbox({ dataDir });
  const reader = createClient(again);
  const { body } = await reader.call('GET', `${core}/configmaps`);
  assert.deepEqual(
    body.items.map((item) => item.metadata.name),
    ['whole'],
  );
  reader.close();
  await again.stop();
});

test('only the owner can read what is on disk', async (t) => {
  const dataDir = temporaryFolder(t);
  const sandbox = await startSandbox({ dataDir });
  t.after(() => sandbox.stop());
  for (const name of ['access.json', 'snapshot.json', 'changes.log']) {
    assert.equal(statSync(join(dataDir, name)).mode & 0o777, 0o600, name);
  }
});

test('a port that is taken is named, with what to do', async (t) => {
  const blocker = createServer().listen(0, '127.0.0.1');
  await once(blocker, 'listening');
  t.after(() => blocker.close());
  const { port } = blocker.address() as { port: number };
  await assert.rejects(
    startSandbox({ dataDir: temporaryFolder(t), port }),
    new RegExp(`port ${port} on 127.0.0.1 is in use: .*Stop what listens there, or choose another port`),
  );
});
