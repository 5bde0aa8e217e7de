import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { scoped } from '@cdaas/control-plane/database/db.ts';
import { type EventHub, type EventsRead, followEvents } from '@cdaas/control-plane/events.ts';
import { appendNews } from '@cdaas/control-plane/news.ts';
import pg from 'pg';
import { type Caller, createTestTenant, insertCluster, openTestApi, shopFile } from '../support/api.ts';
import { until } from '../support/until.ts';

after(() => api.close());
const api = await openTestApi('api_events');
await api.app.listen({ host: '127.0.0.1', port: 0 });
const { port } = api.app.server.address() as AddressInfo;

async function startedPipeline(name: string) {
  const tenant = await createTestTenant(api, name);
  await insertCluster(api, tenant, 'east');
  const answer = await api.call(tenant.admin, 'POST', '/pipelines', { body: shopFile() });
  assert.equal(answer.status, 202, answer.text);
  const { pipelineId } = answer.json as { pipelineId: string };
  return { tenant, pipelineId };
}

type Started = Awaited<ReturnType<typeof startedPipeline>>;

const append = ({ tenant, pipelineId }: Started, count = 1) =>
  appendNews(
    api.db,
    tenant,
    Array.from({ length: count }, (_, index) => ({
      pipelineId,
      type: 'note',
      data: { index },
      message: `note ${index}`,
    })),
  );

/** Ends a pipeline as the worker would: status and final event in one transaction. */
async function end({ tenant, pipelineId }: Started): Promise<void> {
  const { organisationId, tenantId } = tenant;
  await scoped(api.worker, tenant, async (tx) => {
    const { lastEvent: number } = await tx.pipeline.update({
      where: { id: pipelineId },
      data: { status: 'SUCCEEDED', lastEvent: { increment: 1 } },
      select: { lastEvent: true },
    });
    const data = { pipelineId, number, organisationId, tenantId, type: 'ended', data: {}, at: api.db.clock.now() };
    await tx.event.createMany({ data: [data] });
    await tx.$executeRaw`notify cdaas_events`;
  });
}

/** Server-sent events of a pipeline over a real connection, as they come. */
async function* listen(caller: Caller, pipelineId: string, headers: Record<string, string> = {}) {
  const sent = request({
    host: '127.0.0.1',
    port,
    path: `/pipelines/${pipelineId}/events`,
    // The server answers for its public URL only, whatever port it listens on here.
    headers: {
      host: '127.0.0.1:8080',
      authorization: `Bearer ${caller.token}`,
      accept: 'text/event-stream',
      ...headers,
    },
  }).end();
  const [answer] = (await once(sent, 'response')) as [IncomingMessage];
  assert.equal(answer.statusCode, 200);
  assert.match(answer.headers['content-type'] ?? '', /^text\/event-stream/);
  let text = '';
  for await (const chunk of answer.setEncoding('utf8')) {
    text += chunk;
    const frames = text.split('\n\n');
    text = frames.pop() ?? '';
    for (const frame of frames) {
      const id = /^id: (\d+)$/m.exec(frame)?.[1];
      if (id !== undefined) yield { id: Number(id), data: JSON.parse(/^data: (.*)$/m.exec(frame)?.[1] ?? '{}') };
    }
  }
}

async function take(stream: AsyncGenerator<{ id: number }>, count: number): Promise<number[]> {
  const ids: number[] = [];
  while (ids.length < count) {
    const next = await stream.next();
    if (next.done) break;
    ids.push(next.value.id);
  }
  return ids;
}

test('events come as a page by number, and the page says what is still to come', async () => {
  const started = await startedPipeline('page');
  await append(started, 5);
  const read = async (query: string) =>
    (await api.call(started.tenant.admin, 'GET', `/pipelines/${started.pipelineId}/events${query}`)).json as {
      events: { number: number; message: string }[];
      last: number;
      final: boolean;
    };
  const all = await read('');
  assert.deepEqual(
    all.events.map(({ number }) => number),
    [1, 2, 3, 4, 5, 6, 7],
  );
  assert.equal(all.final, false);
  const part = await read('?after=2&limit=2');
  assert.deepEqual(
    part.events.map(({ number }) => number),
    [3, 4],
  );
  assert.equal(part.last, 7);
  await end(started);
  assert.equal((await read('?after=6&limit=1')).final, false);
  assert.equal((await read('?after=6')).final, true);
});

test('a live stream brings what is stored, then what happens, and ends after the final event', async () => {
  const started = await startedPipeline('live');
  const stream = listen(started.tenant.admin, started.pipelineId);
  assert.deepEqual(await take(stream, 2), [1, 2]);
  await append(started, 3);
  assert.deepEqual(await take(stream, 3), [3, 4, 5]);
  await end(started);
  assert.deepEqual(await take(stream, 10), [6]);
});

test('a stream resumes after Last-Event-ID without a gap or a repetition', async () => {
  const started = await startedPipeline('resume');
  const first = listen(started.tenant.admin, started.pipelineId);
  const seen = await take(first, 2);
  await first.return(undefined);
  await append(started, 4);
  const second = listen(started.tenant.admin, started.pipelineId, { 'last-event-id': String(seen.at(-1)) });
  assert.deepEqual([...seen, ...(await take(second, 4))], [1, 2, 3, 4, 5, 6]);
  await second.return(undefined);
});

test('a hundred streams of several tenants each get exactly their own events, in order', async () => {
  const started = await Promise.all(['many-1', 'many-2', 'many-3', 'many-4'].map(startedPipeline));
  const streams = Array.from({ length: 100 }, (_, index) => {
    const of = started[index % started.length]!;
    return { of, stream: listen(of.tenant.admin, of.pipelineId) };
  });
  const taken = Promise.all(streams.map(({ stream }) => take(stream, 1_000)));
  for (let round = 0; round < 5; round += 1) await Promise.all(started.map((of) => append(of, 10)));
  await Promise.all(started.map(end));
  const expected = Array.from({ length: 2 + 50 + 1 }, (_, index) => index + 1);
  for (const ids of await taken) assert.deepEqual(ids, expected);
});

test('a stream of another tenant’s pipeline is not found', async () => {
  const started = await startedPipeline('hidden');
  const stranger = await createTestTenant(api, 'peeping');
  const answer = await api.call(stranger.admin, 'GET', `/pipelines/${started.pipelineId}/events`, {
    headers: { accept: 'text/event-stream' },
  });
  assert.equal(answer.status, 404);
});

test('a stranger who watches a pipeline first takes no news from those whose it is', async (t) => {
  const started = await startedPipeline('watched-by-others');
  const stranger = await createTestTenant(api, 'waiting-stranger');
  let strangerTold = 0;
  const early = api.deps.events.watch(stranger, started.pipelineId, () => void strangerTold++);
  t.after(() => early.stop());
  const told = Promise.withResolvers<void>();
  const own = api.deps.events.watch(started.tenant, started.pipelineId, told.resolve);
  t.after(() => own.stop());
  await append(started);
  await Promise.race([told.promise, once(AbortSignal.timeout(5_000), 'abort').then(() => assert.fail('not told'))]);
  assert.equal(strangerTold, 0);
  assert.equal(early.isAhead({ cursor: 0, final: false }), false);
});

test('a stream ends when its holder may no longer see it', async () => {
  const started = await startedPipeline('revoked');
  const gone = new AbortController();
  let allowed = true;
  const follow = followEvents({ scope: started.tenant }, api.deps.events, {
    pipelineId: started.pipelineId,
    after: 0,
    signal: gone.signal,
    stillAllowed: async () => allowed,
    recheckMs: 10,
    idleMs: 5,
  });
  const kinds: (number | null)[] = [];
  for await (const event of follow) {
    kinds.push(event?.number ?? null);
    if (event === null) allowed = false;
  }
  assert.deepEqual(kinds.slice(0, 2), [1, 2]);
  assert.ok(kinds.includes(null), 'silence is filled with comments');
});

test('a page that is older than the news does not put its reader to sleep', async () => {
  const scope = { organisationId: '', tenantId: '' };
  const event = (number: number) => ({
    number,
    deploymentId: null,
    target: null,
    type: 'note',
    data: {},
    message: null,
    at: new Date(0),
  });
  const pages: EventsRead[] = [
    { events: [event(1)], last: 1, final: false },
    { events: [event(2)], last: 2, final: true },
  ];
  // A hub that knows of event 2 already when it answers with a page that was read before.
  const hub: EventHub = {
    watch: () => ({ isAhead: ({ cursor }) => cursor < 2, stop() {} }),
    read: async () => pages.shift() ?? assert.fail('read once too often'),
    closing: new AbortController().signal,
    async close() {},
  };
  const numbers: (number | undefined)[] = [];
  const signal = AbortSignal.timeout(2_000);
  const follow = {
    pipelineId: '',
    after: 0,
    signal,
    stillAllowed: async () => true,
    idleMs: 3_600_000,
    recheckMs: 3_600_000,
  };
  for await (const next of followEvents({ scope }, hub, follow)) numbers.push(next?.number);
  assert.deepEqual(numbers, [1, 2]);
});

test('a client that goes away is forgotten', async () => {
  const started = await startedPipeline('leaving');
  const stream = listen(started.tenant.admin, started.pipelineId);
  await take(stream, 1);
  const open = async () => (await api.deps.metrics.liveStreams.get()).values[0]?.value ?? 0;
  const before = await open();
  assert.ok(before >= 1);
  await stream.return(undefined);
  await until(async () => (await open()) < before, 'the stream to be counted no more');
});

test('a client that goes away before its stream begins leaves nothing behind', async (t) => {
  const started = await startedPipeline('hasty');
  const open = async () => (await api.deps.metrics.liveStreams.get()).values[0]?.value ?? 0;
  const before = await open();
  // All connections to Postgres wait, and with them the request.
  const holder = new pg.Client({ connectionString: api.db.url });
  await holder.connect();
  t.after(() => holder.end());
  await holder.query('select pg_advisory_lock(424242)');
  const held = Promise.all(
    Array.from({ length: 10 }, () => api.db.sql('held', 'select pg_advisory_xact_lock(424242)', [])),
  );
  await until(async () => {
    const { rows } = await holder.query<{ waiting: number }>(
      'select count(*)::int as waiting from pg_locks where objid = 424242 and not granted',
    );
    return rows[0]?.waiting === 10;
  }, 'all connections to wait');
  const arrived = once(api.app.server, 'request');
  const sent = request({
    host: '127.0.0.1',
    port,
    path: `/pipelines/${started.pipelineId}/events`,
    headers: {
      host: '127.0.0.1:8080',
      authorization: `Bearer ${started.tenant.admin.token}`,
      accept: 'text/event-stream',
    },
  }).end();
  sent.on('error', () => {});
  const [{ socket }] = (await arrived) as [IncomingMessage];
  const closed = once(socket, 'close');
  sent.destroy();
  await closed;
  await holder.query('select pg_advisory_unlock(424242)');
  await held;
  // Whatever comes of it has come once others that asked later are answered.
  for (let count = 0; count < 5; count += 1)
    await api.call(started.tenant.admin, 'GET', `/pipelines/${started.pipelineId}/events`);
  assert.equal(await open(), before);
});

test('streams end when the process shuts down', async () => {
  const started = await startedPipeline('closing');
  const stream = listen(started.tenant.admin, started.pipelineId);
  await take(stream, 2);
  await api.deps.events.close();
  assert.deepEqual(await take(stream, 1), []);
});
