import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import { parseClusterAccess } from '@cdaas/control-plane/clusters/kubeconfig.ts';
import { createOutbound, type Resolve } from '@cdaas/control-plane/outbound.ts';
import { createAuthority, json, refusal, startFakeApiServer } from '../support/fake-api-server.ts';

import { useFakeCluster } from '../support/fake-cluster.ts';
import { allowing, answered, token, unreachable } from '../support/kube-outcomes.ts';

const path = '/api/v1/namespaces';

const fake = useFakeCluster(['127.0.0.1', 'localhost', 'api.test']);
const { clientOf } = fake;

/** A port on which nothing listens. */
async function closedPort(): Promise<number> {
  const spare = await startFakeApiServer(fake.authority);
  await spare.close();
  return spare.port;
}

describe('a request', () => {
  test('with a certificate that TLS finds too weak is an outcome, not an end of this process', async () => {
    const credential = await fake.authority.issue('weak', [], undefined, 1024);
    unreachable(await clientOf({ credential }).version(), 'tls', false);
    assert.deepEqual(fake.server.seen, []);
  });

  test('carries the token, asks for JSON, and goes over kept-alive connections', async () => {
    const got: (string | undefined)[] = [];
    fake.server.answer((request, response) => {
      got.push(request.headers.authorization, request.headers.accept);
      json(response, 200, { kind: 'NamespaceList' });
    });
    const client = clientOf();
    const before = fake.server.connections();
    for (let n = 0; n < 20; n += 1) {
      answered(await client.request({ method: 'GET', path }), 200);
      answered(await client.request({ method: 'DELETE', path, body: { kind: 'DeleteOptions' } }), 200);
    }
    assert.ok(fake.server.connections() - before <= 2);
    assert.deepEqual(got.slice(0, 2), [`Bearer ${token}`, 'application/json']);
  });

  test('is sent below the path of the registered server', async () => {
    await clientOf({ server: `${fake.server.url}/k8s/clusters/c-1` }).version();
    assert.deepEqual(fake.server.seen, ['GET /k8s/clusters/c-1/version']);
  });

  test('signs in with a client certificate where that was registered', async () => {
    const identity = await fake.authority.issue('deployer', []);
    const strict = await startFakeApiServer(await fake.authority.issue('api', ['127.0.0.1']), {
      clientCa: fake.authority.certificate,
    });
    try {
      const base64 = (pem: string) => Buffer.from(pem).toString('base64');
      const parsed = parseClusterAccess({
        server: strict.url,
        caData: base64(fake.authority.certificate),
        clientCertificateData: base64(identity.certificate),
        clientKeyData: base64(identity.key),
      });
      assert.ok(parsed.ok);
      const outbound = allowing(strict.port);
      answered(await clientOf({ ...parsed.access, outbound }).version(), 200);
      const outcome = await clientOf({ server: strict.url, outbound }).create({ apiVersion: 'v1', plural: 'pods' }, {});
      assert.equal(outcome.kind, 'unreachable');
      assert.equal(strict.seen.length, 1);
    } finally {
      await strict.close();
    }
  });

  test('passes errors of the API server up as answers, with Retry-After', async () => {
    fake.server.answer((_request, response) => json(response, 429, { message: 'slow down' }, { 'retry-after': '7' }));
    assert.deepEqual(await clientOf().request({ method: 'GET', path }), {
      kind: 'answered',
      status: 429,
      body: { message: 'slow down' },
      retryAfterMs: 7000,
    });
  });

  test('is not put off for longer than half a minute', async () => {
    for (const asked of ['300', new Date(Date.now() + 3_600_000).toUTCString()]) {
      fake.server.answer((_request, response) => json(response, 503, {}, { 'retry-after': asked }));
      const outcome = await clientOf().request({ method: 'GET', path });
      assert.equal('retryAfterMs' in outcome && outcome.retryAfterMs, 30_000);
    }
  });

  test('does not pass the token on when a server writes it into its error', async () => {
    fake.server.answer((request, response) => {
      const [, first, ...rest] = request.headers.authorization?.split(' ')[1] ?? '';
      const escaped = `"\\u00${token.charCodeAt(0).toString(16)}${first}${rest.join('')}"`;
      response.writeHead(403, { 'content-type': 'application/json' });
      response.end(`{"kind":"Status","message":${escaped},"details":{"causes":["${token} ${token}"]}}`);
    });
    const body = answered(await clientOf().request({ method: 'GET', path }), 403);
    assert.deepEqual(body, { kind: 'Status', message: '[redacted]', details: { causes: ['[redacted] [redacted]'] } });
  });

  test('never follows a redirect and never says where it led', async () => {
    fake.server.answer((_request, response) => {
      response.writeHead(302, { location: `${fake.server.url}/secret` });
      response.end();
    });
    const reason = unreachable(await clientOf().request({ method: 'GET', path }), 'answer.redirect', true);
    assert.equal(reason, 'the server answered with a redirect (302), which is not followed');
    assert.deepEqual(fake.server.seen, [`GET ${path}`]);
  });

  test('is cut off above 8 MiB', async () => {
    let written = 0;
    fake.server.answer((_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      const more = () => {
        while (!response.destroyed && response.write('x'.repeat(65_536))) written += 65_536;
      };
      response.on('drain', more);
      more();
    });
    const reason = unreachable(await clientOf().request({ method: 'PUT', path, body: {} }), 'answer.tooLarge', true);
    assert.match(reason, /larger than 8 MiB/);
    assert.ok(written < 16 * 1024 * 1024, `${written} bytes were read`);
  });

  test('is refused when its answer would cost more than it can be worth', async () => {
    const costly = ['[{"a":'.repeat(60), `[${'{},'.repeat(600_000)}1]`, `{"a":${'['.repeat(4_000_000)}`];
    for (const text of costly) {
      fake.server.answer((_request, response) => response.end(text));
      const began = performance.now();
      const reason = unreachable(await clientOf().version(), 'answer.tooLarge', true);
      assert.match(reason, /nested too deep or made of too many parts/);
      assert.ok(performance.now() - began < 500);
    }
  });

  test('does not wait for the end of a long error', async () => {
    fake.server.answer((_request, response) => {
      response.writeHead(503, { 'retry-after': '3' });
      response.write('['.repeat(100_000));
    });
    const outcome = await clientOf().version();
    assert.deepEqual(outcome, { kind: 'answered', status: 503, body: undefined, retryAfterMs: 3000 });
  });

  test('takes a definite no only from an API server', async () => {
    for (const status of [400, 404, 405, 409, 410, 413, 415, 422]) {
      for (const text of ['', '<html>not here</html>', '{"message":"no Route matched"}', '[]', 'null', '"Status"']) {
        fake.server.answer((_request, response) => {
          response.writeHead(status);
          response.end(text);
        });
        const outcome = await clientOf().request({ method: 'PATCH', path, body: {} });
        const reason = unreachable(outcome, 'answer.notKubernetes', true);
        assert.match(reason, new RegExp(`answered ${status}, not in the words of Kubernetes`));
      }
      fake.server.answer((_request, response) => refusal(response, status, 'Because'));
      answered(await clientOf().request({ method: 'PATCH', path, body: {} }), status);
    }
    for (const status of [401, 403, 429, 500, 503]) {
      fake.server.answer((_request, response) => {
        response.writeHead(status);
        response.end('<html>');
      });
      assert.equal(answered(await clientOf().version(), status), undefined);
    }
  });

  test('is refused by name when the answer is no JSON, and an error without JSON has no body', async () => {
    fake.server.answer((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/html' });
      response.end('<html>router login</html>');
    });
    const reason = unreachable(await clientOf().version(), 'answer.notJson', true);
    assert.match(reason, /is it a Kubernetes API server/);
    assert.doesNotMatch(reason, /router/);
    fake.server.answer((_request, response) => {
      response.writeHead(502);
      response.end('<html>bad gateway</html>');
    });
    assert.equal(answered(await clientOf().version(), 502), undefined);
  });
});

describe('whether a request was sent', () => {
  const write = { method: 'PATCH', path, body: { a: 1 }, contentType: 'application/merge-patch+json' } as const;

  test('a refused connection: certainly not', async () => {
    const port = await closedPort();
    const client = clientOf({ server: `https://127.0.0.1:${port}`, outbound: allowing(port) });
    assert.match(unreachable(await client.request(write), 'connect', false), /ECONNREFUSED/);
  });

  test('a name that does not resolve: certainly not', async () => {
    const outbound = createOutbound([], async () => {
      throw Object.assign(new Error('no'), { code: 'ENOTFOUND' });
    });
    const client = clientOf({ server: 'https://nowhere.test', outbound });
    assert.match(unreachable(await client.request(write), 'dns', false), /nowhere\.test does not resolve/);
  });

  test('another CA, another name, an expired certificate: certainly not, said in words', async () => {
    const other = await createAuthority('Test CA');
    assert.match(
      unreachable(await clientOf({ caData: other.certificate }).request(write), 'tls', false),
      /registered CA/,
    );

    const misnamed = await startFakeApiServer(await fake.authority.issue('api', ['elsewhere.test']));
    const old = await startFakeApiServer(
      await fake.authority.issue('api', ['127.0.0.1'], new Date(Date.now() - 60_000)),
    );
    try {
      for (const [fake, expected] of [
        [misnamed, /other names/],
        [old, /expired/],
      ] as const) {
        const client = clientOf({ server: fake.url, outbound: allowing(fake.port) });
        assert.match(unreachable(await client.request(write), 'tls', false), expected);
        assert.deepEqual(fake.seen, []);
      }
    } finally {
      await Promise.all([misnamed.close(), old.close()]);
    }
  });

  test('a server that accepts and never speaks TLS: certainly not', async () => {
    const sockets: Socket[] = [];
    const mute: Server = createServer((socket) => sockets.push(socket.on('error', () => {})));
    await new Promise<void>((done) => mute.listen(0, '127.0.0.1', done));
    const { port } = mute.address() as { port: number };
    const client = clientOf({ server: `https://127.0.0.1:${port}`, outbound: allowing(port) });
    const reason = unreachable(await client.request({ ...write, timeoutMs: 100 }), 'timeout', false);
    assert.match(reason, /did not accept a connection within 100 ms/);
    for (const socket of sockets) socket.destroy();
    mute.close();
  });

  test('no answer in time: unknown', async () => {
    fake.server.answer(() => {});
    const reason = unreachable(await clientOf().request({ ...write, timeoutMs: 100 }), 'timeout', true);
    assert.match(reason, /did not answer within \d+ ms/);
    assert.equal(fake.server.seen.length, 1);
  });

  test('an answer that trickles on for ever is cut by the same deadline', async () => {
    fake.server.answer((_request, response) => {
      response.writeHead(200);
      const timer = setInterval(() => response.write(' '), 10);
      response.on('close', () => clearInterval(timer));
    });
    unreachable(await clientOf().request({ ...write, timeoutMs: 150 }), 'timeout', true);
  });

  test('a connection that breaks: unknown, and the write is not repeated', async () => {
    fake.server.answer((_request, response) => response.socket?.destroy());
    unreachable(await clientOf().request(write), 'reset', true);
    assert.equal(fake.server.seen.length, 1);
  });

  test('a connection that breaks under a GET: it is asked once more', async () => {
    fake.server.answer((_request, response) => {
      if (fake.server.seen.length === 1) response.socket?.destroy();
      else json(response, 200, { ok: true });
    });
    assert.deepEqual(answered(await clientOf().request({ method: 'GET', path }), 200), { ok: true });
    assert.equal(fake.server.seen.length, 2);
  });

  test('withdrawn before and after it was sent', async () => {
    const client = clientOf();
    unreachable(await client.request({ ...write, signal: AbortSignal.abort() }), 'aborted', false);
    const stop = new AbortController();
    fake.server.answer(() => stop.abort());
    unreachable(await client.request({ ...write, signal: stop.signal }), 'aborted', true);
  });
});

describe('where a client connects', () => {
  test('an address that is not allowed is refused before a byte is sent', async () => {
    const before = fake.server.connections();
    for (const host of ['127.0.0.1', 'localhost', '[::1]', '[::ffff:127.0.0.1]', '2130706433', '0x7f.1', '0.0.0.0']) {
      const client = clientOf({
        server: new URL(`https://${host}:${fake.server.port}`).origin,
        outbound: createOutbound([]),
      });
      assert.match(unreachable(await client.version(), 'outbound.refused', false), /OUTBOUND_ALLOW=cluster:/);
    }
    assert.equal(fake.server.connections(), before);
  });

  test('a name is dialled at the address that was checked, under its own name in TLS', async () => {
    const client = clientOf({
      server: `https://api.test:${fake.server.port}`,
      outbound: allowing(fake.server.port, async () => [{ address: '127.0.0.1' }]),
    });
    answered(await client.version(), 200);
  });

  test('a name that changes after the check (rebinding) is never resolved a second time for one connection', async () => {
    let asked = 0;
    const resolve: Resolve = async () => {
      asked += 1;
      return [{ address: asked === 1 ? '127.0.0.1' : '169.254.169.254' }];
    };
    const client = clientOf({
      server: `https://api.test:${fake.server.port}`,
      outbound: allowing(fake.server.port, resolve),
    });
    answered(await client.version(), 200);
    assert.equal(asked, 1);
    fake.server.cut();
    const outcomes: string[] = [];
    for (let n = 0; n < 3; n += 1) {
      const outcome = await client.version();
      outcomes.push(outcome.kind === 'unreachable' ? outcome.code : outcome.kind);
    }
    assert.ok(outcomes.includes('outbound.refused') && !outcomes.includes('answered'), outcomes.join());
  });

  test('one forbidden address among a name’s addresses refuses it', async () => {
    const outbound = allowing(fake.server.port, async () => [{ address: '127.0.0.1' }, { address: '10.0.0.1' }]);
    const client = clientOf({ server: `https://api.test:${fake.server.port}`, outbound });
    assert.match(unreachable(await client.version(), 'outbound.refused', false), /10\.0\.0\.1/);
  });
});

describe('many requests', () => {
  /** Holds every request until let go. */
  function hold() {
    const held: ServerResponse[] = [];
    let most = 0;
    fake.server.answer((_request, response) => {
      held.push(response);
      most = Math.max(most, held.length);
    });
    return {
      held,
      most: () => most,
      release: () => {
        for (const response of held.splice(0)) json(response, 200, {});
      },
    };
  }
  async function until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise((done) => setImmediate(done));
  }

  test('never more than 16 are under way, and all get their turn', async () => {
    const { held, most, release } = hold();
    const client = clientOf();
    let done = 0;
    const all = Promise.all(
      Array.from({ length: 50 }, async () => {
        answered(await client.request({ method: 'POST', path, body: {} }), 200);
        done += 1;
      }),
    );
    while (done < 50) {
      await until(() => held.length === Math.min(16, 50 - done));
      release();
      const expected = fake.server.seen.length;
      await until(() => done === expected);
    }
    await all;
    assert.equal(most(), 16);
  });

  test('a full queue and a long wait are refused as busy, unsent', async () => {
    const { held, release } = hold();
    const client = clientOf({ limits: { inFlight: 1, queueLength: 1 } });
    const first = client.request({ method: 'POST', path, body: {} });
    await until(() => held.length === 1);
    const second = client.request({ method: 'POST', path, body: {}, timeoutMs: 100 });
    unreachable(await client.request({ method: 'POST', path, body: {} }), 'busy', false);
    unreachable(await second, 'busy', false);
    release();
    answered(await first, 200);
    assert.equal(fake.server.seen.length, 1);
  });
});
