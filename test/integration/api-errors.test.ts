import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { after, test } from 'node:test';
import { startApi } from '@cdaas/api/server.ts';
import { ErrorBody } from '@cdaas/contract/errors.ts';
import { openDatabase } from '@cdaas/control-plane/database/db.ts';
import fc from 'fast-check';
import { type Answer, createTestTenant, insertCluster, openTestApi, shopFile } from '../support/api.ts';
import { cloneDatabase } from '../support/database.ts';

after(() => api.close());
const api = await openTestApi('api_errors', { bodyLimitBytes: 20_000 });
const tenant = await createTestTenant(api, 'acme');
await insertCluster(api, tenant, 'east');
const { admin } = tenant;

/** Every failure has the one shape, a known code, and its id in header and log. */
function assertError(answer: Answer, status: number, code?: string): void {
  assert.equal(answer.status, status, answer.text);
  const body = ErrorBody.parse(answer.json);
  if (code !== undefined) assert.equal(body.errors[0]?.code, code, answer.text);
  assert.equal(body.error_id, answer.headers['x-request-id']);
}

const post = (body: string, type: string, url = '/clusters') =>
  api.call(admin, 'POST', url, { body, headers: { 'content-type': type } });

test('each way of sending it wrong has its own answer', async () => {
  assertError(await post('{"name":', 'application/json'), 400, 'request.unreadable');
  assertError(await post('{', 'application/json', '/pipelines'), 400, 'file.syntax');
  assertError(await post('a: [', 'application/yaml', '/pipelines'), 400, 'file.syntax');
  assertError(await post('', 'application/yaml', '/pipelines'), 400, 'file.syntax');
  assertError(await post('"just text"', 'application/json'), 422);
  assertError(await post('<x/>', 'application/xml'), 415, 'media.unsupported');
  assertError(await post('name: x', 'application/yaml'), 415, 'media.unsupported');
  assertError(await post('a=b', 'application/x-www-form-urlencoded'), 415, 'media.unsupported');
  assertError(await post(JSON.stringify({ name: 'x'.repeat(20_000) }), 'application/json'), 413, 'body.tooLarge');
  assertError(await post('x'.repeat(20_001), 'application/yaml', '/pipelines'), 413, 'body.tooLarge');
  assertError(await post(`${'['.repeat(65)}${']'.repeat(65)}`, 'application/json'), 413, 'body.tooLarge');
  assertError(await api.call(admin, 'GET', '/nowhere?token=planted'), 404, 'not.found');
  assertError(await api.call(admin, 'PUT', '/clusters'), 404, 'not.found');
  assertError(await api.call(admin, 'GET', '/pipelines/%zz'), 400, 'request.unreadable');
  assertError(await api.call(admin, 'GET', '/pipelines?limit=many'), 422, 'request.invalid');
  assertError(await api.call(admin, 'GET', '/pipelines?status=DONE'), 422, 'request.invalid');
  assertError(await api.call(admin, 'GET', '/pipelines?cursor=x'), 422, 'request.invalid');
  assertError(await api.call(admin, 'GET', '/pipelines/x'), 404, 'not.found');
  assertError(await api.call(admin, 'GET', `/pipelines/${'x'.repeat(400)}`), 422);
});

test('what is wrong is told of the part of the request that it stands in', async () => {
  const file = shopFile();
  const long = 'x'.repeat(300);
  for (const [method, url, options, words] of [
    ['GET', '/pipelines?limit=many', {}, /^The query parameter limit is not valid/],
    ['GET', `/pipelines/${long}`, {}, /^The part of the path :id is not valid/],
    [
      'POST',
      '/pipelines',
      { body: file, headers: { 'idempotency-key': long } },
      /^The header idempotency-key is not valid/,
    ],
    ['POST', '/clusters', { body: { name: 7 } }, /^name: /],
    ['POST', '/clusters', {}, /^A JSON body is required/],
  ] as const) {
    const answer = await api.call(admin, method, url, options);
    assertError(answer, 422);
    const [error] = (answer.json as ErrorBody).errors;
    assert.match(error?.message ?? '', words);
    assert.equal(error?.metadata?.hint !== undefined, words.source.includes('required'));
  }
});

test('a key that appears twice in a JSON deployment file is refused by name and place', async () => {
  const json = JSON.stringify(shopFile(), null, 2).replace(
    '"kind": "kubernetes",',
    '"kind": "kubernetes",\n  "version": "v1",',
  );
  const answer = await post(json, 'application/json', '/pipelines');
  assertError(answer, 400, 'file.syntax');
  const [error] = (answer.json as ErrorBody).errors;
  assert.match(error?.message ?? '', /the key 'version' appears twice in one mapping \(line 4, column 3\)/);
  assert.deepEqual(error?.metadata, { path: '/version', line: '4', column: '3' });
});

test('bytes that are not UTF-8, and other charsets, are refused instead of altered', async () => {
  const send = async (url: string, type: string, payload: Buffer) => {
    const headers = { host: '127.0.0.1:8080', authorization: `Bearer ${admin.token}`, 'content-type': type };
    const answer = await api.app.inject({ method: 'POST', url, headers, payload });
    return { status: answer.statusCode, headers: answer.headers, text: answer.body, json: answer.json() };
  };
  const utf8 = Buffer.from(JSON.stringify(shopFile({ description: 'für' })), 'utf8');
  const latin1 = Buffer.from(utf8.toString('utf8'), 'latin1');
  for (const [url, type] of [
    ['/pipelines?dryRun=true', 'application/json'],
    ['/pipelines?dryRun=true', 'application/yaml'],
    ['/clusters', 'application/json'],
  ] as const) {
    assertError(await send(url, type, latin1), 400, 'request.unreadable');
    assertError(await send(url, `${type}; charset=iso-8859-1`, latin1), 415, 'media.unsupported');
    assertError(await send(url, `${type}; charset="UTF-16"`, utf8), 415, 'media.unsupported');
  }
  for (const type of ['application/json; charset=utf-8', 'application/yaml; charset="UTF-8"', 'application/json']) {
    assert.equal((await send('/pipelines?dryRun=true', type, utf8)).status, 200, type);
  }
});

test('what was sent is not repeated from where a parser choked on it', async () => {
  const answer = await post('{"token": "planted" planted}', 'application/json');
  assertError(answer, 400);
  assert.match(answer.text, /position \d+/);
  assert.ok(!answer.text.includes('planted'));
});

test('text that cannot be stored is refused wherever it comes in', async () => {
  for (const url of ['/pipelines?application=%00', '/clusters/%00', '/pipelines?cursor=%00']) {
    assertError(await api.call(admin, 'GET', url), 422, 'request.invalid');
  }
  assertError(await api.call(admin, 'DELETE', '/clusters/a%00'), 422, 'request.invalid');
  for (const url of ['/pipelines/%00', '/deployments/%00', '/pipelines/%00/events', '/pipelines/%00/config']) {
    assertError(await api.call(admin, 'GET', url), 422, 'request.invalid');
  }
  assertError(await api.call(admin, 'POST', '/deployments/x/steps/%00/approve'), 422, 'request.invalid');
  const credential = { grant_type: 'client_credentials', client_id: 'a\u0000', client_secret: 'x' };
  assert.equal((await api.call(null, 'POST', '/oauth/token', { body: credential })).status, 400);
  for (const odd of ['a\u0000b', 'a\ud800b']) {
    for (const more of [{ description: odd }, { context: { [odd]: odd } }, { sourceControl: { a: { b: odd } } }]) {
      assertError(await api.call(admin, 'POST', '/pipelines', { body: shopFile(more) }), 400, 'file.syntax');
    }
    const kinds = { name: 'x', server: 'https://x', caData: odd, token: odd, clusterScopedKinds: [odd] };
    assertError(await api.call(admin, 'POST', '/clusters', { body: kinds }), 422);
  }
});

test('numbers beyond what is stored find nothing and fail nothing', async () => {
  assertError(await api.call(admin, 'GET', '/pipelines/x/events?after=99999999999'), 422, 'request.invalid');
  const started = await api.call(admin, 'POST', '/pipelines', { body: shopFile() });
  const { pipelineId } = started.json as { pipelineId: string };
  for (const id of ['99999999999', 'x', '-1']) {
    const headers = { 'last-event-id': id };
    assert.equal((await api.call(admin, 'GET', `/pipelines/${pipelineId}/events`, { headers })).status, 200);
  }
});

test('more requests than allowed are told when to come back, counted by caller', async () => {
  const limited = await openTestApi('api_limited', { requestsPerMinute: 5 });
  try {
    const first = await createTestTenant(limited, 'first').catch(() => null);
    // Signing in counts too: by address, since nobody is signed in yet.
    assert.ok(first);
    for (let left = 5; left > 0; left -= 1)
      assert.equal((await limited.call(first.admin, 'GET', '/clusters')).status, 200);
    const refused = await limited.call(first.admin, 'GET', '/clusters');
    assertError(refused, 429, 'rate.limited');
    assert.ok(Number(refused.headers['retry-after']) >= 1);
    assert.equal((await limited.call(first.deployer, 'GET', '/clusters')).status, 200, 'another caller has its own');
    assert.equal((await limited.call(null, 'GET', '/healthz')).status, 200, 'probes are never limited');
  } finally {
    await limited.close();
  }
});

test('who polls too much can still roll back, approve, resume and cancel, up to the same number a minute', async () => {
  const limited = await openTestApi('api_limited_people', { requestsPerMinute: 4 });
  try {
    const { admin, deployer } = await createTestTenant(limited, 'first');
    const ask = (method: 'GET' | 'POST', url: string, as = admin) => limited.call(as, method, url);
    for (let left = 4; left > 0; left -= 1) await ask('GET', '/pipelines');
    assertError(await ask('GET', '/pipelines'), 429, 'rate.limited');
    const some = 'deployments/01900000-0000-7000-8000-000000000000';
    for (const url of [
      `/${some}/rollback`,
      `/${some}/resume`,
      `/${some}/steps/canary-step-1/approve`,
      '/pipelines/01900000-0000-7000-8000-000000000000/cancel',
    ]) {
      assertError(await ask('POST', url), 404, 'not.found');
    }
    assertError(await ask('POST', `/${some}/rollback`), 429, 'rate.limited');
    assertError(await ask('POST', '/clusters/x/verify'), 429, 'rate.limited');
    for (let left = 4; left > 0; left -= 1) await ask('POST', `/${some}/rollback`, deployer);
    assert.equal((await ask('GET', '/pipelines', deployer)).status, 200, 'nor do these take from the others');
    for (let left = 8; left > 0; left -= 1) await limited.call(null, 'POST', `/${some}/rollback`);
    assertError(await limited.call(null, 'POST', `/${some}/rollback`), 429, 'rate.limited');
  } finally {
    await limited.close();
  }
});

test('a foreign Host or Origin is refused, whatever the credentials; probes may come by address', async () => {
  for (const headers of [
    { host: 'evil.example.org' },
    { host: '127.0.0.1:9999' },
    { origin: 'https://evil.example.org' },
    { origin: 'null' },
  ]) {
    assertError(await api.call(admin, 'GET', '/clusters', { headers }), 421, 'request.host');
  }
  for (const headers of [{ host: 'localhost:8080' }, { origin: 'http://127.0.0.1:8080' }]) {
    assert.equal((await api.call(admin, 'GET', '/clusters', { headers })).status, 200);
  }
  assert.equal((await api.call(null, 'GET', '/readyz', { headers: { host: '10.1.2.3' } })).status, 200);
});

test('answers carry the security headers and the request id', async () => {
  const sane = await api.call(admin, 'GET', '/clusters', { headers: { 'x-request-id': 'build-17.attempt_2' } });
  assert.equal(sane.headers['x-request-id'], 'build-17.attempt_2');
  const odd = await api.call(admin, 'GET', '/clusters', { headers: { 'x-request-id': 'a b"c' } });
  assert.match(String(odd.headers['x-request-id']), /^[0-9a-f-]{36}$/);
  assert.match(String(sane.headers['content-security-policy']), /default-src 'none'/);
  assert.equal(sane.headers['x-content-type-options'], 'nosniff');
  assert.equal(sane.headers['cache-control'], 'no-store');
  assert.equal(sane.headers['x-powered-by'], undefined);
  assert.ok(api.logs.some((line) => line.includes('build-17.attempt_2')));
});

test('what is not HTTP at all is answered in the same shape', async () => {
  await api.app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = api.app.server.address() as AddressInfo;
  const socket = connect(port, '127.0.0.1');
  socket.write('NONSENSE\r\n\r\n');
  const answer = await text(socket);
  assert.match(answer, /^HTTP\/1\.1 400 /);
  ErrorBody.parse(JSON.parse(answer.split('\r\n\r\n')[1] ?? ''));
});

test('without a database every route says so and none fails: 503 with Retry-After', async () => {
  const clone = await cloneDatabase('api_down');
  const wire = await cuttable(clone.url);
  const db = await openDatabase({ url: wire.url, role: 'cdaas_api' });
  const { events: _events, signingKeys: _signingKeys, metrics: _metrics, ...rest } = api.deps;
  const running = await startApi({ ...rest, db }, { host: '127.0.0.1', port: 0, metricsPort: 0, drainSeconds: 1 });
  try {
    const get = async (path: string, port = running.port) => {
      const headers = { host: '127.0.0.1:8080', authorization: `Bearer ${admin.token}`, connection: 'close' };
      const [answer] = await once(request({ host: '127.0.0.1', port, path, headers }).end(), 'response');
      return { status: answer.statusCode, retryAfter: answer.headers['retry-after'], body: await text(answer) };
    };
    assert.equal((await get('/readyz')).status, 200);
    await wire.cut();
    for (const path of ['/readyz', '/pipelines', '/.well-known/jwks.json']) {
      const answer = await get(path);
      assert.equal(answer.status, 503, `${path} ${answer.body}`);
      assert.equal(ErrorBody.parse(JSON.parse(answer.body)).errors[0]?.code, 'dependency.unavailable');
      assert.equal(answer.retryAfter, '5');
    }
    assert.equal((await get('/healthz')).status, 200);
    const metrics = await get('/metrics', Number(running.metricsPort));
    assert.match(metrics.body, /cdaas_api_requests_total\{method="GET",route="\/readyz",status="503"\} 1/);
    assert.equal((await get('/metrics')).status, 404, 'only on its own port');
  } finally {
    await running.close();
    await db.close();
    await clone.drop();
  }
});

test('no request that a client can send fails the server', async () => {
  const path = fc.oneof(
    fc.constantFrom('/clusters', '/pipelines', '/pipelines/kubernetes', '/v1/graphql', '/oauth/token', '/openapi.json'),
    fc
      .tuple(
        fc.constantFrom('/clusters/', '/pipelines/', '/deployments/'),
        fc.string({ unit: 'binary', maxLength: 30 }),
        fc.constantFrom('', '/config', '/events', '/cancel', '/redeploy', '/rollback', '/steps/x/approve'),
      )
      .map(([head, id, tail]) => `${head}${encodeURIComponent(id.toWellFormed())}${tail}`),
  );
  const query = fc.oneof(
    fc.constant(''),
    fc
      .dictionary(
        fc.constantFrom('limit', 'cursor', 'status', 'application', 'dryRun', 'after'),
        fc.string({ unit: 'binary' }),
      )
      .map(
        (fields) =>
          `?${new URLSearchParams(Object.entries(fields).map(([key, value]): [string, string] => [key, value.toWellFormed()]))}`,
      ),
  );
  const headers = fc.record(
    {
      'content-type': fc.constantFrom(
        'application/json',
        'application/yaml',
        'text/plain',
        'application/x-www-form-urlencoded',
        ';;',
        'application/vnd.start.kubernetes.pipeline.v2+json',
        'application/vnd.start.kubernetes.pipeline.v2.link+json',
      ),
      'x-armory-config-location': fc.oneof(
        fc.string(),
        fc.webUrl(),
        fc.webPath().map((path) => `armory::http://x${path}/pipelines/${path}/config`),
      ),
      'idempotency-key': fc.string(),
      'last-event-id': fc.string(),
      accept: fc.constantFrom('*/*', 'application/json', 'x'),
      'x-armory-client': fc.string(),
    },
    { requiredKeys: [] },
  );
  const body = fc.oneof(fc.constant(undefined), fc.json(), fc.string(), fc.string({ unit: 'binary' }));
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('GET', 'POST', 'DELETE', 'PUT', 'PATCH'),
      path,
      query,
      headers,
      body,
      async (method, at, asked, sent, payload) => {
        const options = { headers: printable(sent), ...(payload === undefined ? {} : { body: payload }) };
        const answer = await api.call(admin, method as 'GET', at + asked, options);
        assert.ok(answer.status < 500, `${method} ${at}${asked} -> ${answer.status} ${answer.text}`);
        if (answer.status >= 400 && at !== '/oauth/token') assertError(answer, answer.status);
      },
    ),
    { numRuns: 400 },
  );
});

test('no deployment file that a client can send fails the server', async () => {
  const places = pathsOf(shopFile());
  const value = fc.oneof(
    fc.json().map((json) => JSON.parse(json)),
    fc.constantFrom(null, '', 'prod', 'web', -1, 1e9, [], {}),
    fc.string({ unit: 'binary' }),
  );
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...places), value, fc.boolean(), async (place, replacement, asYaml) => {
      const file = structuredClone(shopFile());
      put(file, place, replacement);
      const options = {
        body: JSON.stringify(file),
        headers: { 'content-type': asYaml ? 'application/yaml' : 'application/json' },
      };
      const answer = await api.call(admin, 'POST', '/pipelines?dryRun=true', options);
      assert.ok([200, 400, 413, 422].includes(answer.status), `${place.join('.')}: ${answer.text}`);
      if (answer.status !== 200) assertError(answer, answer.status);
    }),
    { numRuns: 400 },
  );
});

test('no manifest text that a client can send fails the server', async () => {
  const lines = fc.constantFrom(
    'kind: Secret',
    'apiVersion: v1',
    '---',
    'data: {',
    '}',
    '&a [*a, *a]',
    '<<: *a',
    '- x',
    '  y: 1',
    '? [a]',
    '!!js/function x',
    '\t',
    '"\\u0000"',
    'kind: &a {b: *a}',
  );
  await fc.assert(
    fc.asyncProperty(fc.array(fc.oneof(lines, fc.string({ unit: 'binary' })), { maxLength: 12 }), async (text) => {
      const file = shopFile({ manifests: [{ inline: text.join('\n') }] });
      const answer = await api.call(admin, 'POST', '/pipelines?dryRun=true', { body: file });
      assert.ok([200, 400, 413, 422].includes(answer.status), answer.text);
    }),
    { numRuns: 200 },
  );
});

test('the description of the API is OpenAPI 3.1 and gives every error the one shape', async () => {
  const { json } = await api.call(null, 'GET', '/openapi.json');
  const document = json as {
    openapi: string;
    paths: Record<
      string,
      Record<string, { responses: Record<string, { content?: Record<string, { schema: { $ref?: string } }> }> }>
    >;
    components: { schemas: Record<string, unknown> };
  };
  assert.equal(document.openapi, '3.1.0');
  for (const name of ['Error', 'Pipeline', 'Deployment', 'Cluster', 'Event'])
    assert.ok(document.components.schemas[name], name);
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, { responses }] of Object.entries(methods)) {
      for (const [status, { content }] of Object.entries(responses)) {
        if (Number(status) < 400 || path === '/oauth/token') continue;
        assert.equal(
          content?.['application/json']?.schema.$ref,
          '#/components/schemas/Error',
          `${method} ${path} ${status}`,
        );
      }
    }
  }
  const text = JSON.stringify(document);
  for (const [, name] of text.matchAll(/"#\/components\/schemas\/([^"]+)"/g)) {
    assert.ok(document.components.schemas[String(name)], `${name} is referred to and defined`);
  }
});

test('every path of the API is in its documentation', async () => {
  const { json } = await api.call(null, 'GET', '/openapi.json');
  const documented = readFileSync(new URL('../../docs/api.md', import.meta.url), 'utf8');
  const literal = (text: string) => text.replaceAll(/[.*+?^$()|[\]\\]/g, '\\$&');
  const missing = Object.keys((json as { paths: object }).paths).filter((path) => {
    const written = path
      .split(/\{[^}]+\}/)
      .map(literal)
      .join('[^\\s/?`]+');
    return !new RegExp(`(?:\\$URL|\`|POST |GET )${written}(?![\\w/-])`).test(documented);
  });
  assert.deepEqual(missing, [], 'describe them in docs/api.md');
});

test('no answer and no log line has been an internal failure', () => {
  assert.ok(
    !api.logs.some((line) => line.includes('"level":50')),
    api.logs.find((line) => line.includes('"level":50')),
  );
});

function printable(headers: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([key, value = '']) => [key, value.replaceAll(/[^\x20-\x7e]/g, '').trim() || 'x']),
  );
}

/** A way to a Postgres that can be cut, as when its host goes away. */
async function cuttable(databaseUrl: string): Promise<{ url: string; cut(): Promise<void> }> {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(Number(target.port), target.hostname);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => {});
    }
    near.pipe(far).pipe(near);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const url = new URL(databaseUrl);
  url.hostname = '127.0.0.1';
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    async cut() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

type Place = (string | number)[];

function pathsOf(value: unknown, at: Place = []): Place[] {
  if (typeof value !== 'object' || value === null) return [at];
  const inner = Object.entries(value).flatMap(([key, item]) =>
    pathsOf(item, [...at, Array.isArray(value) ? Number(key) : key]),
  );
  return at.length === 0 ? inner : [at, ...inner];
}

function put(target: object, place: Place, value: unknown): void {
  const key = place.at(-1);
  let at: unknown = target;
  for (const step of place.slice(0, -1)) at = Reflect.get(at as object, step);
  if (key !== undefined) Reflect.set(at as object, key, value);
}
