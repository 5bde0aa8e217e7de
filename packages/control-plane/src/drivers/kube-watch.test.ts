import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import type { KubeRequest } from './kube-transport.ts';
import type { WatchSource } from './kube-watch.ts';
import { createLineReader, watchResource } from './kube-watch.ts';

describe('lines', () => {
  const text = '{"a":"é"}\n\n{"b":1}\n{"c":"';
  test('come out whole wherever the bytes were cut', () => {
    const bytes = Buffer.from(`${text}ü"}\n`);
    for (let size = 1; size <= bytes.length; size += 1) {
      const lines: string[] = [];
      const read = createLineReader(100, (line) => lines.push(line));
      for (let at = 0; at < bytes.length; at += size) assert.ok(read(bytes.subarray(at, at + size)));
      assert.deepEqual(lines, ['{"a":"é"}', '{"b":1}', '{"c":"ü"}']);
    }
  });
  test('longer than the limit are refused, in one chunk or many', () => {
    assert.equal(createLineReader(10, () => {})(Buffer.from(`${'x'.repeat(11)}\n`)), false);
    const read = createLineReader(10, () => {});
    assert.equal(read(Buffer.from('xxxxxxxx')), true);
    assert.equal(read(Buffer.from('xxxxxxxx')), false);
  });
  test('stop when the reader is over', () => {
    const lines: string[] = [];
    createLineReader(10, (line) => lines.push(line))(Buffer.from('a\nb\n'), () => true);
    assert.deepEqual(lines, ['a']);
  });
});

/** A cluster of the test's own making, a clock that it moves, and a record of what the watch told. */
function setUp({ lists = [] as unknown[] } = {}) {
  const time = { now: 1_000_000 };
  const timers = new Set<{ at: number; run: () => void }>();
  const clock = {
    now: () => time.now,
    after(ms: number, run: () => void) {
      const timer = { at: time.now + ms, run };
      timers.add(timer);
      return () => void timers.delete(timer);
    },
  };
  type Stream = {
    query: NonNullable<KubeRequest['query']>;
    send(...events: unknown[]): void;
    sendText(text: string): void;
    end(outcome?: unknown): void;
    over: boolean;
  };
  const streams: Stream[] = [];
  const told: string[] = [];
  let listed = 0;
  const source: WatchSource = {
    async list() {
      listed += 1;
      const answer = lists.shift();
      return (answer ?? { kind: 'listed', objects: [], resourceVersion: String(listed * 100) }) as never;
    },
    stream: ({ query = {}, signal }, sink) =>
      new Promise((done) => {
        let opened = false;
        const open = () => {
          if (!opened) sink.onOpen();
          opened = true;
        };
        const stream: Stream = {
          query,
          over: false,
          send: (...events) => stream.sendText(events.map((event) => `${JSON.stringify(event)}\n`).join('')),
          sendText(text) {
            open();
            sink.onData(Buffer.from(text));
          },
          end(outcome) {
            if (outcome === undefined) open();
            stream.over = true;
            done((outcome ?? { kind: 'ended' }) as never);
          },
        };
        signal?.addEventListener('abort', () =>
          stream.end({ kind: 'unreachable', code: 'aborted', reason: 'withdrawn', sent: true }),
        );
        streams.push(stream);
      }),
  };
  const stop = new AbortController();
  const done = watchResource(source, {
    apiVersion: 'v1',
    kind: 'Pod',
    plural: 'pods',
    labelSelector: 'cdaas/deployment',
    signal: stop.signal,
    clock,
    random: () => 0.5,
    onSnapshot: (objects) => told.push(`snapshot ${objects.map((object) => object.metadata.name).join(',')}`),
    onEvent: (type, object) => told.push(`${type} ${object.metadata.name}`),
    onState: (state, since, reason) => told.push(`${state} ${since - 1_000_000}${reason ? ` ${reason}` : ''}`),
  });
  const settle = async () => {
    for (let n = 0; n < 5; n += 1) await turn();
  };
  return {
    streams,
    told,
    stop,
    done,
    settle,
    listed: () => listed,
    /** Moves the clock, firing what is due on the way. */
    async pass(ms: number) {
      const until = time.now + ms;
      await settle();
      for (;;) {
        const [next] = [...timers].filter((timer) => timer.at <= until).toSorted((a, b) => a.at - b.at);
        if (!next) break;
        timers.delete(next);
        time.now = Math.max(time.now, next.at);
        next.run();
        await settle();
      }
      time.now = until;
      await settle();
    },
    async finish() {
      stop.abort();
      await done;
      assert.equal(timers.size, 0, 'timers are left');
    },
  };
}

const pod = (name: string, resourceVersion: string): KubernetesObject => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, resourceVersion },
});
const bookmark = (resourceVersion: string) => ({
  type: 'BOOKMARK',
  object: { kind: 'Pod', apiVersion: 'v1', metadata: { resourceVersion } },
});
const unreachable = { kind: 'unreachable', code: 'connect', reason: 'no connection', sent: false };

describe('a watch', () => {
  test('lists, tells the snapshot, then watches from the list’s version with bookmarks', async () => {
    const lists = [{ kind: 'listed', objects: [pod('a', '7')], resourceVersion: '42' }];
    const { streams, told, settle, finish } = setUp({ lists });
    await settle();
    assert.deepEqual(told, ['snapshot a', 'synced 0']);
    assert.deepEqual(streams[0]?.query, {
      watch: true,
      allowWatchBookmarks: true,
      resourceVersion: '42',
      timeoutSeconds: 23,
      labelSelector: 'cdaas/deployment',
    });
    streams[0]?.send({ type: 'ADDED', object: pod('b', '43') }, { type: 'DELETED', object: pod('a', '44') });
    assert.deepEqual(told.slice(2), ['ADDED b', 'DELETED a']);
    await finish();
  });

  test('that the server ends goes on from the last bookmark without a list', async () => {
    const { streams, told, pass, listed, finish } = setUp();
    await pass(21_000);
    streams[0]?.send(bookmark('150'));
    await pass(2000);
    streams[0]?.end();
    await pass(0);
    assert.equal(streams[1]?.query.resourceVersion, '150');
    assert.equal(listed(), 1);
    assert.deepEqual(told, ['snapshot ', 'synced 0']);
    await finish();
  });

  test('lists again after 30 s without event or bookmark, and not before', async () => {
    const { streams, listed, pass, finish } = setUp();
    await pass(29_999);
    assert.equal(listed(), 1);
    await pass(1);
    assert.equal(streams[0]?.over, true);
    await pass(200);
    assert.equal(listed(), 2);
    assert.equal(streams[1]?.query.resourceVersion, '200');
    await finish();
  });

  test('counts silence over the end of a watch: a server without bookmarks is listed every 30 s', async () => {
    const { streams, listed, pass, finish } = setUp();
    await pass(23_000);
    streams[0]?.end();
    await pass(6999);
    assert.equal(listed(), 1);
    await pass(300);
    assert.equal(listed(), 2);
    await finish();
  });

  test('an event or a bookmark starts the 30 s again', async () => {
    const { streams, listed, pass, finish } = setUp();
    await pass(20_000);
    streams[0]?.send(bookmark('101'));
    await pass(29_000);
    streams[0]?.send({ type: 'MODIFIED', object: pod('a', '102') });
    await pass(29_000);
    assert.equal(listed(), 1);
    await finish();
  });

  test('lists again on 410, as a status and as an event', async () => {
    const { streams, told, listed, pass, finish } = setUp();
    await pass(0);
    streams[0]?.end({ kind: 'answered', status: 410, body: {} });
    await pass(250);
    assert.equal(listed(), 2);
    streams[1]?.send({ type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired' } });
    await pass(500);
    assert.equal(listed(), 3);
    assert.deepEqual(told, ['snapshot ', 'synced 0', 'snapshot ', 'snapshot ']);
    await finish();
  });

  test('that is cut goes on from its last version; only if that fails is it broken, since the last sign of life', async () => {
    const lists = [undefined, unreachable, unreachable];
    const { streams, told, listed, pass, finish } = setUp({ lists });
    await pass(5000);
    streams[0]?.send({ type: 'ADDED', object: pod('a', '101') });
    await pass(3000);
    streams[0]?.end({ kind: 'unreachable', code: 'reset', reason: 'lost', sent: true });
    await pass(250);
    assert.equal(streams[1]?.query.resourceVersion, '101');
    assert.equal(told.length, 3);
    streams[1]?.end(unreachable);
    await pass(30_000);
    assert.equal(listed(), 4);
    assert.deepEqual(told.slice(3, 5), ['broken 5000 no connection', 'snapshot ']);
    assert.match(told[5] ?? '', /^synced /);
    await finish();
  });

  test('backs off from a server that ends every watch at once, and lists between, so that nothing gets old', async () => {
    const { streams, listed, pass, finish } = setUp();
    await pass(0);
    for (let n = 0; n < 4; n += 1) {
      streams.at(-1)?.end();
      await pass(0);
    }
    assert.equal(streams.length, 1);
    await pass(60_000);
    let ends = 0;
    for (let second = 0; second < 600; second += 1) {
      if (streams.at(-1)?.over === false) {
        streams.at(-1)?.end();
        ends += 1;
      }
      await pass(100);
    }
    assert.ok(ends >= 11 && ends < 30, `${ends} watches in a minute`);
    assert.ok(listed() >= ends - 2, `${listed()} lists, ${ends} watches`);
    await finish();
  });

  test('says why it is broken, capped and in words, and waits as long as it was told to', async () => {
    const lists = [{ kind: 'answered', status: 429, body: { message: 'slow\ndown' }, retryAfterMs: 20_000 }];
    const { told, listed, pass, finish } = setUp({ lists });
    await pass(19_000);
    assert.deepEqual(told, ['broken 0 the cluster answered 429: slow down']);
    assert.equal(listed(), 1);
    await pass(1000);
    assert.equal(listed(), 2);
    await finish();
  });

  const nonsense: [string, string, RegExp][] = [
    ['no JSON', '<html>\n', /not JSON/],
    ['no object', '{"type":"ADDED"}\n', /without an object/],
    ['an unknown type', `${JSON.stringify({ type: 'RENAMED', object: pod('a', '1') })}\n`, /unknown type/],
    ['an object without a name', '{"type":"ADDED","object":{"metadata":{"resourceVersion":"1"}}}\n', /malformed/],
    ['no version', '{"type":"BOOKMARK","object":{"metadata":{}}}\n', /resourceVersion/],
    [
      'a version like a book',
      `${JSON.stringify({ type: 'BOOKMARK', object: bookmark('1'.repeat(129)).object })}\n`,
      /usable/,
    ],
    [
      'another kind',
      `${JSON.stringify({ type: 'ADDED', object: { ...pod('a', '1'), kind: 'Secret' } })}\n`,
      /another kind/,
    ],
    [
      'a pod that is none',
      `${JSON.stringify({ type: 'ADDED', object: { ...pod('a', '1'), status: 5 } })}\n`,
      /malformed/,
    ],
    ['depth', `{"type":"ADDED","object":${'['.repeat(5000)}\n`, /nested too deep/],
    ['an error', '{"type":"ERROR","object":{"code":500,"message":"Bearer abc"}}\n', /with an error \(500\)$/],
    ['a line without an end', 'x'.repeat(8 * 1024 * 1024 + 1), /larger than 8 MiB/],
  ];
  for (const [what, text, expected] of nonsense) {
    test(`that brings ${what} is broken and listed again`, async () => {
      const { streams, told, listed, pass, finish } = setUp();
      await pass(0);
      streams[0]?.sendText(text);
      await pass(1000);
      assert.match(told[2] ?? '', expected);
      assert.equal(listed(), 2);
      await finish();
    });
  }

  test('fails with what a callback threw', async () => {
    const stop = new AbortController();
    const source = {
      list: async () => ({ kind: 'listed', objects: [], resourceVersion: '1' }),
      stream: async () => unreachable,
    };
    const watching = watchResource(source as unknown as WatchSource, {
      apiVersion: 'v1',
      plural: 'pods',
      signal: stop.signal,
      onSnapshot: () => {
        throw new Error('a bug');
      },
      onEvent: () => {},
      onState: () => {},
    });
    await assert.rejects(watching, /a bug/);
  });

  test('asks for its cluster before each list, and is broken while there is none', async () => {
    const stop = new AbortController();
    const told: string[] = [];
    let asked = 0;
    const watching = watchResource(
      async () => {
        asked += 1;
        if (asked === 2) stop.abort();
        if (asked === 1) throw new Error('no database');
        return undefined;
      },
      {
        apiVersion: 'v1',
        plural: 'pods',
        signal: stop.signal,
        random: () => 0,
        onSnapshot: () => {},
        onEvent: () => {},
        onState: (state, _since, reason) => told.push(`${state} ${reason}`),
      },
    );
    await watching;
    assert.deepEqual(told, ['broken the cluster’s credentials are not available']);
  });
});
