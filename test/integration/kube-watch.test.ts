import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { after, before, beforeEach, describe, test } from 'node:test';
import { createKubeClient, type KubeClient } from '@cdaas/control-plane/drivers/kube.ts';
import type { KubeLimits } from '@cdaas/control-plane/drivers/kube-transport.ts';
import { watchResource } from '@cdaas/control-plane/drivers/kube-watch.ts';
import { createOutbound } from '@cdaas/control-plane/outbound.ts';
import {
  type Authority,
  createAuthority,
  type FakeApiServer,
  json,
  startFakeApiServer,
} from '../support/fake-api-server.ts';
import { until } from '../support/until.ts';

let authority: Authority;
let server: FakeApiServer;

before(async () => {
  authority = await createAuthority();
  server = await startFakeApiServer(await authority.issue('api', ['127.0.0.1']));
});
after(() => server.close());
beforeEach(() => {
  server.cut();
  server.seen.length = 0;
});

function clientOf(limits: Partial<KubeLimits> = {}): KubeClient {
  return createKubeClient({
    server: server.url,
    caData: authority.certificate,
    credential: { token: 'token' },
    outbound: createOutbound([{ purpose: 'cluster', network: '127.0.0.1', prefix: 32, port: server.port }]),
    limits,
  });
}

const pod = (name: string, resourceVersion: string, padding = '') => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, resourceVersion, managedFields: [{ manager: 'x' }], annotations: { padding } },
});
const line = (type: string, object: unknown) => `${JSON.stringify({ type, object })}\n`;

/** A server of pods: lists what it is told to, and hands out the open watches. */
function serve(names: () => string[]) {
  const watches: ServerResponse[] = [];
  server.answer((request, response) => {
    if (!request.url?.includes('watch=true')) {
      const items = names().map((name) => pod(name, '10'));
      return json(response, 200, { kind: 'PodList', apiVersion: 'v1', metadata: { resourceVersion: '10' }, items });
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    watches.push(response);
  });
  return watches;
}

function startWatch(client: KubeClient) {
  const told: string[] = [];
  const objects: unknown[] = [];
  const stop = new AbortController();
  const done = watchResource(client, {
    apiVersion: 'v1',
    plural: 'pods',
    namespace: 'shop',
    labelSelector: 'cdaas/deployment',
    signal: stop.signal,
    random: () => 0,
    onSnapshot: (found) => told.push(`snapshot ${found.map((object) => object.metadata.name).join(',')}`),
    onEvent: (type, object) => {
      told.push(`${type} ${object.metadata.name}`);
      objects.push(object);
    },
    onState: (state) => told.push(state),
  });
  const finish = async () => {
    stop.abort();
    await done;
    await client.close();
  };
  return { told, objects, finish };
}

describe('a watch over HTTPS', () => {
  test('reads events that arrive in pieces, without their managedFields', async () => {
    const watches = serve(() => ['a']);
    const { told, objects, finish } = startWatch(clientOf());
    await until(() => watches.length === 1, 'watch 1');
    const text = line('ADDED', pod('bé', '11')) + line('MODIFIED', pod('a', '12'));
    for (const byte of Buffer.from(text)) watches[0]?.write(Buffer.of(byte));
    await until(() => told.length === 4, '4 events');
    assert.deepEqual(told, ['snapshot a', 'synced', 'ADDED bé', 'MODIFIED a']);
    assert.deepEqual(objects[1], {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'a', resourceVersion: '12', annotations: { padding: '' } },
    });
    assert.match(
      server.seen[0] ?? '',
      /^GET \/api\/v1\/namespaces\/shop\/pods\?labelSelector=cdaas%2Fdeployment&limit=250$/,
    );
    assert.match(server.seen[1] ?? '', /watch=true&allowWatchBookmarks=true&resourceVersion=10&timeoutSeconds=20/);
    await finish();
  });

  test('goes on from its last version when the connection breaks', async () => {
    const watches = serve(() => ['a']);
    const { told, finish } = startWatch(clientOf());
    await until(() => watches.length === 1, 'watch 1');
    watches[0]?.write(line('BOOKMARK', { kind: 'Pod', apiVersion: 'v1', metadata: { resourceVersion: '15' } }));
    watches[0]?.write(line('ADDED', pod('b', '16')));
    await until(() => told.length === 3, '3 events');
    server.cut();
    await until(() => watches.length === 2, 'watch 2');
    watches[1]?.write(line('DELETED', pod('b', '17')));
    await until(() => told.length === 4, '4 events');
    assert.match(server.seen.at(-1) ?? '', /resourceVersion=16&/);
    assert.deepEqual(told, ['snapshot a', 'synced', 'ADDED b', 'DELETED b']);
    await finish();
  });

  test('is broken while the server is away, then lists again', async () => {
    let names = ['a'];
    const watches = serve(() => names);
    const { told, finish } = startWatch(clientOf());
    await until(() => watches.length === 1, 'watch 1');
    const serving = server;
    const identity = await authority.issue('api', ['127.0.0.1']);
    await serving.close();
    await until(() => told.includes('broken'), 'the watch to break');
    names = ['a', 'c'];
    server = await startFakeApiServer(identity, { port: serving.port });
    serve(() => names);
    await until(() => told.at(-1) === 'synced' && told.length >= 5, 'another list');
    assert.deepEqual(told, ['snapshot a', 'synced', 'broken', 'snapshot a,c', 'synced']);
    await finish();
  });

  test('does not take a request’s place: many watches leave all 16 to requests', async () => {
    const watches = serve(() => []);
    const client = clientOf({ inFlight: 2 });
    const stop = new AbortController();
    const sink = { onOpen: () => {}, onData: () => {} };
    const path = '/api/v1/pods';
    const open = Array.from({ length: 20 }, () =>
      client.stream({ path, query: { watch: true }, signal: stop.signal }, sink),
    );
    await until(() => watches.length === 20, 'watch 20');
    assert.equal((await client.list({ apiVersion: 'v1', plural: 'pods' })).kind, 'listed');
    stop.abort();
    const ends = await Promise.all(open);
    assert.ok(ends.every((end) => end.kind === 'unreachable' && end.code === 'aborted'));
    await client.close();
  });

  test('more watches than allowed are refused, and a closed client ends its watches', async () => {
    const watches = serve(() => []);
    const client = clientOf({ watches: 1 });
    const request = { path: '/api/v1/pods', query: { watch: true } };
    const sink = { onOpen: () => {}, onData: () => {} };
    const first = client.stream(request, sink);
    await until(() => watches.length === 1, 'watch 1');
    const refused = await client.stream(request, sink);
    assert.ok(refused.kind === 'unreachable' && refused.code === 'busy' && !refused.sent);
    await client.close();
    const end = await first;
    assert.ok(end.kind === 'unreachable' && end.code === 'client.closed');
  });

  test('a server that floods it is read slowly', async () => {
    const watches = serve(() => []);
    const client = clientOf({ watchBytesPerSecond: 16 * 1024 });
    let received = 0;
    const stop = new AbortController();
    const sink = {
      onOpen: () => {},
      onData: (chunk: Buffer) => {
        received += chunk.length;
      },
    };
    const done = client.stream({ path: '/api/v1/pods', query: { watch: true }, signal: stop.signal }, sink);
    await until(() => watches.length === 1, 'watch 1');
    let sent = 0;
    while (watches[0]?.write('x'.repeat(65_536))) sent += 65_536;
    for (let n = 0; n < 200; n += 1) {
      watches[0]?.write('x'.repeat(65_536));
      sent += 65_536;
    }
    await until(() => received > 64 * 1024, 'the first 64 KiB');
    const early = received;
    await until(() => received > early, 'more to be read');
    assert.ok(received < 1024 * 1024, `${received} of ${sent} bytes were taken in`);
    stop.abort();
    await done;
    await client.close();
  });
});
