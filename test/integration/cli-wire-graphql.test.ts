import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { ErrorBody } from '@cdaas/contract/errors.ts';
import { scoped } from '@cdaas/control-plane/database/db.ts';
import fc from 'fast-check';
import { createTestTenant, insertCluster, openTestApi, shopFile } from '../support/api.ts';
import * as cli from '../support/old-cli.ts';
import { withAdmin } from '../support/postgres.ts';

// The one GraphQL query of the client in use, byte for byte as spec/cli-wire-protocol.md has it, and what anybody else may
// send there. The numbers in titles are that document's sections.

after(() => api.close());
const api = await openTestApi('cli_wire_graphql');
await api.app.listen({ host: '127.0.0.1', port: 0 });
const { port } = api.app.server.address() as AddressInfo;
const tenant = await createTestTenant(api, 'acme');
await insertCluster(api, tenant, 'east');
const { token } = tenant.deployer;
const started = await api.call(tenant.deployer, 'POST', '/pipelines', { body: shopFile() });
const { pipelineId } = started.json as { pipelineId: string };
const requestId = '3f2c8a44-1b7e-4d52-9a10-6c0f5e7d8b91';
const nothing = '{"data":{"pipelineById":null}}';

async function ask(id: string, query = cli.graphqlQuery): Promise<cli.WireAnswer> {
  const [answer] = await cli.exchange(port, cli.graphql(token, id, requestId, query));
  assert.ok(answer);
  return answer;
}

test('1.3, 3.5: the query of the document, written out, is answered whole, with its request id, and closed', async () => {
  const body = `{"query":"query($pipelineID:uuid!){pipelineById(id: $pipelineID){id,status,blockedByPipeline{id},application{name}}}","variables":{"pipelineID":"${pipelineId}"}}\n`;
  const request = [
    'POST /v1/graphql HTTP/1.1',
    'Host: 127.0.0.1:8080',
    'User-Agent: Go-http-client/1.1',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Accept: application/json; charset=utf-8',
    `Authorization: Bearer ${token}`,
    'Content-Type: application/json; charset=utf-8',
    `X-Request-Id: ${requestId}`,
    'Accept-Encoding: gzip',
    'Connection: close',
    '',
    body,
  ].join('\r\n');
  assert.equal(
    request,
    cli.graphql(token, pipelineId, requestId),
    'the builder of the other tests writes the same bytes',
  );
  const [answer] = await cli.exchange(port, request);
  assert.ok(answer);
  assert.equal(answer.statusLine, '200 OK');
  assert.equal(
    answer.body,
    `{"data":{"pipelineById":{"id":"${pipelineId}","status":"RUNNING","blockedByPipeline":null,"application":{"name":"shop"}}}}`,
  );
  assert.equal(answer.headers['content-type'], 'application/json; charset=utf-8');
  assert.equal(answer.headers['x-request-id'], requestId);
  assert.equal(answer.closed, true);
  assert.equal(cli.afterGraphql(answer), 'started');
});

test('3.5: however a client spells the query, it is the same query', async () => {
  for (const query of [
    'query ($pipelineID: uuid!) {\n\tpipelineById(id: $pipelineID) {\n\t\tid\n\t\tstatus\n\t\tblockedByPipeline {\n\t\t\tid\n\t\t}\n\t\tapplication {\n\t\t\tname\n\t\t}\n\t}\n}\n',
    'query($pipelineID:uuid!){pipelineById(id:$pipelineID){id status blockedByPipeline{id} application{name}}}',
    'query named($pipelineID: uuid!) { pipelineById(id: $pipelineID) { ...f } } fragment f on Pipeline { id status blockedByPipeline { id } application { name } }',
  ]) {
    const { body } = await ask(pipelineId, query);
    assert.match(body, /^\{"data":\{"pipelineById":\{"id":"[^"]+","status":"RUNNING","blockedByPipeline":null,"app/);
  }
  const all = '{id status blockedByPipeline{id} replacedByPipeline{id} application{name} __typename}';
  assert.equal(
    (await ask(pipelineId, `query($pipelineID:uuid!){pipelineById(id:$pipelineID)${all}}`)).body,
    `{"data":{"pipelineById":{"id":"${pipelineId}","status":"RUNNING","blockedByPipeline":null,"replacedByPipeline":null,"application":{"name":"shop"},"__typename":"Pipeline"}}}`,
  );
});

test('3.5: an id that is not there is null, one that is no UUID too, which the client takes for started', async () => {
  for (const id of [
    '0199f6f0-3c5e-7000-8000-000000000001',
    '00000000-0000-0000-0000-000000000000',
    'ffffffff-ffff-ffff-ffff-ffffffffffff',
    pipelineId.replaceAll('-', ''),
    `{${pipelineId}}`,
    `urn:uuid:${pipelineId}`,
    ` ${pipelineId}`,
    `${pipelineId}\n`,
    `${pipelineId}\u0000`,
    '\ud800',
    'x'.repeat(10_000),
    "' or 1=1 --",
    '',
  ]) {
    const answer = await ask(id);
    assert.equal(answer.body, nothing, id);
    assert.equal(cli.afterGraphql(answer), 'started');
  }
  assert.match((await ask(pipelineId.toUpperCase())).body, new RegExp(`"id":"${pipelineId}"`));
});

test('3.5: no status of ours lets the client wait: each ends its wait as started', async () => {
  const deployment = await scoped(api.worker, tenant, (tx) =>
    tx.deployment.findFirstOrThrow({ where: { pipelineId } }),
  );
  const seen: string[] = [];
  for (const [status, pipelineStatus] of [
    ['NOT_STARTED', 'RUNNING'],
    ['WAITING', 'RUNNING'],
    ['RUNNING', 'RUNNING'],
    ['PAUSED', 'RUNNING'],
    ['AWAITING_APPROVAL', 'RUNNING'],
    ['FINISHING', 'RUNNING'],
    ['ROLLING_BACK', 'RUNNING'],
    ['FAILED', 'FAILED'],
    ['CANCELLED', 'CANCELLED'],
    ['SUCCEEDED', 'SUCCEEDED'],
  ] as const) {
    await scoped(api.worker, tenant, async (tx) => {
      await tx.deployment.update({ where: { id: deployment.id }, data: { status }, select: { id: true } });
      await tx.pipeline.update({ where: { id: pipelineId }, data: { status: pipelineStatus }, select: { id: true } });
    });
    const answer = await ask(pipelineId);
    assert.equal(cli.afterGraphql(answer), 'started', status);
    seen.push((JSON.parse(answer.body) as { data: { pipelineById: { status: string } } }).data.pipelineById.status);
  }
  assert.deepEqual(seen, [
    'RUNNING',
    'RUNNING',
    'RUNNING',
    'PAUSED',
    'AWAITING_APPROVAL',
    'RUNNING',
    'RUNNING',
    'FAILED',
    'CANCELLED',
    'SUCCEEDED',
  ]);
});

/** A query as anybody might send it. */
const post = (body: unknown, headers: Record<string, string> = {}) =>
  api.call(tenant.deployer, 'POST', '/v1/graphql', { body, headers });

type Errors = { data?: unknown; errors: { message: string; locations?: object[]; path?: string[] }[] };

test('3.5: what is wrong with a query is told in the shape of GraphQL, with 200', async () => {
  const ofId = (selection: string) => `query($id: uuid!) { pipelineById(id: $id) ${selection} }`;
  const cases: [object, RegExp][] = [
    [{ query: '' }, /Unexpected <EOF>/],
    [{ query: '{' }, /Expected Name, found <EOF>/],
    [{ query: 'query { pipelineById(id: "' }, /Unterminated string/],
    [{ query: '{ secrets }' }, /Cannot query field "secrets" on type "query_root"/],
    [{ query: ofId('{ config }'), variables: { id: pipelineId } }, /Cannot query field "config"/],
    [{ query: ofId('{ id }') }, /Variable "\$id" has invalid value: .* to be provided/],
    [{ query: ofId('{ id }'), variables: { id: null } }, /must not be null|Expected .*non-null/i],
    [{ query: ofId('{ id }'), variables: { id: 5 } }, /The id of a pipeline is a string/],
    [{ query: ofId('{ id }'), variables: { id: { a: [] } } }, /The id of a pipeline is a string/],
    [{ query: '{ pipelineById(id: 5) { id } }' }, /The id of a pipeline is a string/],
    [{ query: 'mutation { pipelineById(id: "x") { id } }' }, /mutation/i],
    [{ query: 'subscription { pipelineById(id: "x") { id } }' }, /subscription/i],
    [{ query: '{ a: __typename } { b: __typename }' }, /anonymous operation/],
    [{ query: 'query a { __typename }', operationName: 'b' }, /Unknown operation named "b"/],
    [{ query: 'query a { ...f } fragment f on query_root { ...f }' }, /Cannot spread fragment "f" within itself/],
    [{ query: 'type query_root { x: Int }' }, /not executable/],
    [{ query: `{ ${'x'.repeat(9_000)} }` }, /^Cannot query field "x{100}/],
  ];
  for (const [body, words] of cases) {
    const answer = await post(body);
    assert.equal(answer.status, 200, answer.text);
    const { errors, data, ...rest } = answer.json as Errors;
    assert.deepEqual(rest, {});
    assert.ok(data === undefined || JSON.stringify(data) === '{"pipelineById":null}', answer.text);
    assert.match(errors[0]?.message ?? '', words);
    for (const { message, ...place } of errors) {
      assert.ok(message.length <= 500);
      for (const key of Object.keys(place)) assert.ok(['locations', 'path'].includes(key), key);
    }
    assert.equal(cli.afterGraphql({ status: answer.status, body: answer.text }), 'again');
  }
});

test('1.4: what never reaches the query has the error body of every other route', async () => {
  const query = { query: '{ __typename }' };
  const cases: [unknown, Record<string, string>, number, string][] = [
    ['{"query":', { 'content-type': 'application/json' }, 400, 'request.unreadable'],
    [[query], {}, 422, 'field.type'],
    [{}, {}, 422, 'field.required'],
    [{ query: 5 }, {}, 422, 'field.type'],
    [{ ...query, variables: [] }, {}, 422, 'field.type'],
    [{ ...query, variables: 'x' }, {}, 422, 'field.type'],
    ['{ __typename }', { 'content-type': 'application/graphql' }, 415, 'media.unsupported'],
    ['query=x', { 'content-type': 'application/x-www-form-urlencoded' }, 415, 'media.unsupported'],
    ['{ __typename }', { 'content-type': 'text/plain' }, 415, 'media.unsupported'],
    [{ query: 'x'.repeat(17_000) }, {}, 413, 'body.tooLarge'],
    [
      `{"query":"","variables":{"a":${'['.repeat(70)}${']'.repeat(70)}}}`,
      { 'content-type': 'application/json' },
      413,
      'body.tooLarge',
    ],
  ];
  for (const [body, headers, status, code] of cases) {
    const answer = await post(body, headers);
    assert.equal(answer.status, status, answer.text);
    assert.equal(ErrorBody.parse(answer.json).errors[0]?.code, code, answer.text);
  }
  const get = await api.call(tenant.deployer, 'GET', '/v1/graphql?query={__typename}');
  assert.equal(get.status, 404);
});

test('of a header that comes twice the first counts, of a length none; a body may come in pieces', async () => {
  const body = JSON.stringify({ query: cli.graphqlQuery, variables: { pipelineID: pipelineId } });
  const head = (lines: string[]) =>
    [
      'POST /v1/graphql HTTP/1.1',
      `Host: ${cli.host}`,
      `Authorization: Bearer ${token}`,
      'Content-Type: application/json',
      'Connection: close',
      ...lines,
      '',
      '',
    ].join('\r\n');
  const length = `Content-Length: ${body.length}`;
  const pieces = `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
  for (const [request, status] of [
    [head([length, 'Content-Type: text/plain']) + body, 200],
    [head([length, 'Authorization: Bearer x']) + body, 200],
    [head([length, 'X-Request-Id: first-one', 'X-Request-Id: other-one']) + body, 200],
    [head(['Transfer-Encoding: chunked']) + pieces, 200],
    [head(['Transfer-Encoding: chunked', length]) + pieces, 400],
    [head([length, 'Content-Length: 5']) + body, 400],
    [
      head([length, 'Content-Type: application/json; charset=utf-16']).replace(
        'Content-Type: application/json\r\n',
        '',
      ) + body,
      415,
    ],
  ] as const) {
    const [answer] = await cli.exchange(port, request);
    assert.equal(answer?.status, status, `${request}\n${answer?.body}`);
    if (status !== 200) ErrorBody.parse(JSON.parse(answer?.body ?? ''));
  }
});

test('a query is bounded: in words, in pipelines, in depth; and the schema cannot be asked for', async () => {
  const alias = (count: number, as: (index: number) => string) =>
    `{ ${Array.from({ length: count }, (_, index) => as(index)).join(' ')} }`;
  const lookUp = (index: number) => `a${index}: pipelineById(id: "${pipelineId}") { id }`;
  const five = await post({ query: alias(5, lookUp) });
  assert.equal(Object.keys((five.json as { data: object }).data).length, 5);
  assert.equal((await post({ query: alias(1_000, lookUp) })).status, 413);
  const nested = `${'{a'.repeat(90)}${'}'.repeat(90)}`;
  for (const [query, words] of [
    [alias(6, lookUp), /at most 5 pipelines/],
    [`{ ...f } fragment f on query_root ${alias(6, lookUp)}`, /at most 5 pipelines/],
    [
      `{ ${'... { '.repeat(6)} ${lookUp(0)} ${'}'.repeat(6)} ${alias(5, (n) => lookUp(n + 1)).slice(1)}`,
      /at most 5 pipelines/,
    ],
    [alias(1_000, (index) => `a${index}:x`), /more than 300/],
    [alias(1_000, lookUp).slice(0, 14_000), /more than 300/],
    [nested, /Cannot query field "a"/],
    [`{ a(x: ${'['.repeat(280)}`, /Expected|Unexpected/],
    [`${'#\n'.repeat(5_000)}{ __typename }`, /comments|more than/i],
    ['{ __schema { types { name fields { name } } } }', /introspection/i],
    ['{ __type(name: "Pipeline") { fields { name type { name } } } }', /introspection/i],
  ] as const) {
    const began = performance.now();
    const answer = await post({ query });
    assert.equal(answer.status, 200, answer.text);
    assert.match((answer.json as Errors).errors[0]?.message ?? '', words, query.slice(0, 60));
    assert.ok(performance.now() - began < 1_000, `${query.slice(0, 60)} took ${performance.now() - began} ms`);
  }
});

test('no GraphQL request that a client can send fails the server', async () => {
  const words = fc.constantFrom(
    ...['{', '}', '(', ')', '[', ']', ':', '!', '$id', '=', '@', '...', '|', '&', '"', '"""', '#', '\n', '5', '1e999'],
    ...[
      'query',
      'mutation',
      'fragment f on Pipeline',
      '...f',
      'pipelineById',
      '(id: $id)',
      '($id: uuid!)',
      '($id: [uuid]!)',
    ],
    ...[
      'id',
      'status',
      'application',
      'name',
      '__typename',
      '__schema',
      '@include(if: $id)',
      '@skip(if: true)',
      '@defer',
    ],
    ...['"x"', `"${pipelineId}"`, 'true', 'null', '{a: 1}', '__proto__', 'constructor', 'toString'],
  );
  const query = fc.oneof(
    fc.array(words, { maxLength: 40 }).map((list) => list.join(' ')),
    fc
      .array(words, { maxLength: 12 })
      .map((list) => `query($id: uuid!) { pipelineById(id: $id) { id ${list.join(' ')} } }`),
    fc.string({ unit: 'binary' }),
  );
  const variables = fc.oneof(
    fc.record({
      id: fc.oneof(fc.constant(pipelineId), fc.string({ unit: 'binary' }), fc.json(), fc.double(), fc.constant(null)),
    }),
    fc.constantFrom(null, undefined, JSON.parse('{"__proto__": {"id": "x"}, "constructor": 1, "id": "x"}')),
    fc.dictionary(fc.string(), fc.jsonValue()),
  );
  const operationName = fc.option(fc.oneof(fc.string(), fc.constantFrom('__proto__', 'constructor')), {
    nil: undefined,
  });
  await fc.assert(
    fc.asyncProperty(query, variables, operationName, async (sent, given, name) => {
      const answer = await post({ query: sent, variables: given, operationName: name });
      assert.ok([200, 413, 422].includes(answer.status), `${sent} -> ${answer.status} ${answer.text}`);
      if (answer.status !== 200) return void ErrorBody.parse(answer.json);
      const { data, errors } = answer.json as Errors;
      assert.ok(data !== undefined || errors.length > 0, answer.text);
    }),
    { numRuns: 500 },
  );
});

test('no answer and no log line has been an internal failure', () => {
  assert.ok(
    !api.logs.some((line) => line.includes('"level":50')),
    api.logs.find((line) => line.includes('"level":50')),
  );
});

test('a failure of the database is never told in a 200, whatever else is wrong with the query', async () => {
  const rename = (from: string, to: string) =>
    withAdmin(api.db.url, async (admin) => {
      await admin.query('set role none');
      await admin.query(`alter table ${from} rename to ${to}`);
    });
  await rename('pipeline', 'pipeline_away');
  const lookUp = `pipelineById(id: "${pipelineId}") { id }`;
  try {
    for (const query of [`{ ${lookUp} }`, `{ a: pipelineById(id: 5) { id } b: ${lookUp} }`]) {
      const answer = await post({ query });
      assert.equal(answer.status, 500, answer.text);
      assert.equal(ErrorBody.parse(answer.json).errors[0]?.code, 'server.error');
      assert.doesNotMatch(answer.text, /prisma|pipeline_away|relation/i);
    }
  } finally {
    await rename('pipeline_away', 'pipeline');
  }
});
