import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { createTestTenant, insertCluster, openTestApi, type TestTenant } from '../support/api.ts';
import * as cli from '../support/old-cli.ts';

// `deploy start` of the client in use against this server: each request as spec/cli-wire-protocol.md shows it, byte for
// byte over a socket, each answer compared whole. The numbers in titles are that document's sections.

after(() => api.close());
const api = await openTestApi('cli_wire_start');
await api.app.listen({ host: '127.0.0.1', port: 0 });
const port = (api.app.server.address() as AddressInfo).port;
const send = async (request: string) => only(await cli.exchange(port, request));

function only<Item>([item]: Item[]): Item {
  assert.ok(item);
  return item;
}

/** A tenant with the clusters of the document's examples, for each test its own: one application runs at a time. */
async function withClusters(name: string): Promise<TestTenant> {
  const tenant = await createTestTenant(api, name);
  for (const account of ['agent-1', 'agent-2']) await insertCluster(api, tenant, account);
  return tenant;
}

const deployment =
  'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 2\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: web, image: "registry.example.org/web:1"}]}\n';
const service =
  'apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n';
const configMap = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {a: "<b> & ü"}\n';

/** The file of §3.3 as the client turns it into a body. What that example leaves to pod ratios is split by SMI here. */
const documented = {
  application: 'shop',
  context: { region: 'west' },
  files: { '': null, manifests: [deployment, service] },
  kind: 'kubernetes',
  manifests: [{ path: 'manifests' }, { inline: configMap }],
  sourceControl: {},
  strategies: { fast: { canary: { steps: [{ setWeight: { weight: 100 } }] } } },
  targetFilters: [{ includeTarget: 'dev' }],
  targets: { dev: { account: 'agent-1', namespace: 'shop-dev', strategy: 'fast' } },
  trafficManagement: [{ smi: [{ rootServiceName: 'web' }] }],
  version: 'v1',
};
const bodyOf = (more: object = {}) => cli.goJson({ ...documented, ...more });

type Started = { pipelineId: string; deployments: { target: string; id: string }[] };

/** The whole answer to a start that is taken. */
function assertStarted(
  answer: cli.WireAnswer,
  contentType = `${startType}; charset=utf-8`,
  warnings: string[] = [],
): Started {
  assert.equal(answer.statusLine, '202 Accepted', answer.body);
  const { pipelineId, deployments } = JSON.parse(answer.body) as Started;
  assert.match(pipelineId, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(answer.body, JSON.stringify({ pipelineId, deployments, warnings }));
  assert.equal(answer.headers['content-type'], contentType);
  assert.equal(answer.headers.location, `/pipelines/${pipelineId}`);
  assert.equal(cli.afterStart(answer).id, pipelineId);
  return { pipelineId, deployments };
}

/** The whole answer to a start that is refused, and how the client exits. */
function assertRefused(answer: cli.WireAnswer, statusLine: string, errors: object[], exit: 1 | 3 = 1): void {
  assert.equal(answer.statusLine, statusLine, answer.body);
  const errorId = answer.headers['x-request-id'];
  assert.equal(answer.body, JSON.stringify({ error_id: errorId, errors }));
  assert.equal(answer.headers['content-type'], 'application/json; charset=utf-8');
  assert.equal(cli.afterStart(answer).exit, exit);
}

const startType = 'application/vnd.start.kubernetes.pipeline.v2+json';
const json = 'application/json; charset=utf-8';

async function configOf({ deployer }: TestTenant, pipelineId: string): Promise<unknown> {
  return JSON.parse((await send(cli.rest(deployer.token, 'GET', `/pipelines/${pipelineId}/config`))).body);
}

test('3.2, 3.3, 3.5: the request of the document, written out, is answered 202 in the media type it asks for', async () => {
  const { deployer } = await withClusters('documented');
  const body = `{"application":"shop","context":{"region":"west"},"files":{"":null,"manifests":["${deployment.replaceAll('\n', '\\n').replaceAll('"', '\\"')}","${service.replaceAll('\n', '\\n')}"]},"kind":"kubernetes","manifests":[{"path":"manifests"},{"inline":"apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: web}\\ndata: {a: \\"\\u003cb\\u003e \\u0026 ü\\"}\\n"}],"sourceControl":{},"strategies":{"fast":{"canary":{"steps":[{"setWeight":{"weight":100}}]}}},"targetFilters":[{"includeTarget":"dev"}],"targets":{"dev":{"account":"agent-1","namespace":"shop-dev","strategy":"fast"}},"trafficManagement":[{"smi":[{"rootServiceName":"web"}]}],"version":"v1"}`;
  const request = [
    'POST /pipelines/kubernetes HTTP/1.1',
    'Host: 127.0.0.1:8080',
    'User-Agent: armory-cli/1.2.3',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Accept: application/vnd.start.kubernetes.pipeline.v2+json',
    `Authorization: Bearer ${deployer.token}`,
    'Content-Type: application/vnd.start.kubernetes.pipeline.v2+json',
    'X-Armory-Client: armory-cli/1.2.3',
    'Accept-Encoding: gzip',
    '',
    body,
  ].join('\r\n');
  assert.equal(
    request,
    cli.startFile(deployer.token, bodyOf()),
    'the builder of the other tests writes the same bytes',
  );
  const answer = await send(request);
  const { deployments } = assertStarted(answer);
  assert.deepEqual(
    deployments.map(({ target }) => target),
    ['dev'],
  );
  assert.deepEqual(cli.afterStart(answer), { exit: 0, id: cli.afterStart(answer).id, stderr: '' });
  assert.ok(!('content-encoding' in answer.headers) && !('transfer-encoding' in answer.headers));
});

test('3.3: what was sent is kept whole and comes back from /config, escapes of Go read as the text they mean', async () => {
  const tenant = await withClusters('kept');
  const more = {
    sourceControl: { type: 'push', sha: 'abc', 'github.runId': 17, nested: { a: [null, true, 1.5] } },
    deploymentConfig: { ifDeploymentInProgress: { strategy: 'reject' }, timeout: { duration: 10, unit: 'MINUTES' } },
  };
  const started = assertStarted(await send(cli.startFile(tenant.deployer.token, bodyOf(more))));
  assert.deepEqual(await configOf(tenant, started.pipelineId), { ...documented, ...more });
});

test('3.2: reject and an absent kind go one way, enqueueOne and other kinds the other; each has its answer', async () => {
  const { kind: _kind, ...kindless } = documented;
  const config = (strategy: string) => ({ deploymentConfig: { ifDeploymentInProgress: { strategy } } });
  for (const [index, sent] of [config('reject'), { kind: null }].entries()) {
    const { deployer } = await withClusters(`rows-${index}`);
    assertStarted(await send(cli.startFile(deployer.token, bodyOf(sent))));
  }
  const { deployer } = await withClusters('rows');
  assertStarted(await send(cli.startFile(deployer.token, cli.goJson(kindless))));
  assertStarted(await send(cli.startOther(deployer.token, bodyOf({ application: 'other-path' }))), json);

  const enqueue = {
    code: 'step.unsupported',
    message: 'not supported yet: ifDeploymentInProgress: enqueueOne',
    metadata: { path: '/deploymentConfig/ifDeploymentInProgress/strategy', hint: 'use reject' },
  };
  const unprocessable = '422 Unprocessable Entity';
  assertRefused(await send(cli.startOther(deployer.token, bodyOf(config('enqueueOne')))), unprocessable, [enqueue]);
  assertRefused(
    await send(cli.startFile(deployer.token, cli.goJson({ ...kindless, ...config('enqueueOne') }))),
    unprocessable,
    [enqueue],
  );
  assertRefused(await send(cli.startOther(deployer.token, bodyOf({ kind: 'lambda' }))), unprocessable, [
    { code: 'step.unsupported', message: 'not supported yet: kind lambda', metadata: { path: '/kind' } },
  ]);
  assertRefused(await send(cli.startOther(deployer.token, bodyOf({ kind: 'Kubernetes' }))), unprocessable, [
    {
      code: 'field.enum',
      message: "kind must be kubernetes or lambda, not 'Kubernetes'",
      metadata: { path: '/kind', hint: "did you mean 'kubernetes'?" },
    },
  ]);
});

test('3.3: no context, no -t, one file under two paths and a key that is not known are taken as they are', async () => {
  const { deployer } = await withClusters('variants');
  const variants = [
    { context: {}, targetFilters: null },
    { sourceControl: null },
    { manifests: [{ path: 'a' }, { path: 'b' }], files: { a: [deployment], b: [service] } },
  ];
  for (const [index, more] of variants.entries()) {
    const body = bodyOf({ application: `shop-${index}`, ...more });
    assertStarted(await send(cli.startFile(deployer.token, body)));
  }
  const unknown = await send(cli.startFile(deployer.token, bodyOf({ application: 'shop-unknown', verion: 'v1' })));
  const warning = "'verion' is not a known field and is ignored; did you mean 'version'?";
  assertStarted(unknown, undefined, [warning]);
  assert.equal(cli.afterStart(unknown).stderr, `Warning: ${warning}\n`);
});

test('3.2, 3.4: -i starts the pipeline again from its location, as it was', async () => {
  const tenant = await withClusters('again');
  const { token } = tenant.deployer;
  const first = assertStarted(await send(cli.startFile(token, bodyOf())));
  await end(tenant, first.pipelineId);
  const body = '{"account":"","targetFilters":null}';
  assert.equal(cli.linkBody(), body);
  const request = [
    'POST /pipelines/kubernetes HTTP/1.1',
    'Host: 127.0.0.1:8080',
    'User-Agent: armory-cli/1.2.3',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Accept: application/vnd.start.kubernetes.pipeline.v2+json',
    `Authorization: Bearer ${token}`,
    'Content-Type: application/vnd.start.kubernetes.pipeline.v2.link+json',
    'X-Armory-Client: armory-cli/1.2.3',
    `X-Armory-Config-Location: armory::http://127.0.0.1:8080/pipelines/${first.pipelineId}/config`,
    'Accept-Encoding: gzip',
    '',
    body,
  ].join('\r\n');
  assert.equal(request, cli.startLocation(token, cli.locationOf(first.pipelineId), body));
  const again = assertStarted(await send(request));
  await end(tenant, again.pipelineId);
  const upper = cli.locationOf(first.pipelineId.toUpperCase());
  assertStarted(await send(cli.startLocation(token, upper, body)));
  assert.notEqual(again.pipelineId, first.pipelineId);
  assert.deepEqual(await configOf(tenant, again.pipelineId), documented);
});

test('3.4: the account of a redeploy replaces that of every target, its targets those of the file', async () => {
  const tenant = await withClusters('changed');
  const { token } = tenant.deployer;
  const targets = {
    dev: { account: 'agent-1', namespace: 'shop-dev', strategy: 'fast' },
    prod: { account: 'agent-1', namespace: 'shop-prod', strategy: 'fast' },
  };
  const sent = { targets, targetFilters: [{ includeTarget: 'prod' }] };
  const first = assertStarted(await send(cli.startFile(token, bodyOf(sent))));
  await end(tenant, first.pipelineId);

  const body = '{"account":"agent-2","targetFilters":[{"includeTarget":"dev"}]}';
  assert.equal(cli.linkBody({ account: 'agent-2', targets: ['dev'] }), body);
  const changed = assertStarted(await send(cli.startLocation(token, cli.locationOf(first.pipelineId), body)));
  const view = JSON.parse((await send(cli.rest(token, 'GET', `/pipelines/${changed.pipelineId}`))).body);
  assert.deepEqual(view.environments, [{ name: 'dev', namespace: 'shop-dev', account: 'agent-2' }]);
  assert.deepEqual(view.context, { region: 'west' });
  await end(tenant, changed.pipelineId);

  // Nothing given: no further than the start that is repeated.
  const kept = assertStarted(await send(cli.startLocation(token, cli.locationOf(first.pipelineId), cli.linkBody())));
  assert.deepEqual(
    kept.deployments.map(({ target }) => target),
    ['prod'],
  );
});

test('3.2, 3.5: a location that leads nowhere is refused, each in its words; a URL is not supported yet', async () => {
  const tenant = await withClusters('nowhere');
  const { token } = tenant.deployer;
  const start = (location: string, body = cli.linkBody()) => send(cli.startLocation(token, location, body));
  const id = '0199f6f0-3c5e-7000-8000-000000000001';
  assertRefused(await start(cli.locationOf(id)), '404 Not Found', [
    { code: 'not.found', message: `There is no pipeline ${id}.` },
  ]);
  assertRefused(await start(cli.locationOf('x')), '404 Not Found', [
    { code: 'not.found', message: 'There is no pipeline x.' },
  ]);
  assertRefused(await start('https://user:pass@example.org/shop.yaml?token=t'), '422 Unprocessable Entity', [
    {
      code: 'step.unsupported',
      message: 'not supported yet: starting from a URL (https://example.org/shop.yaml)',
      metadata: { hint: 'Send the deployment file itself.' },
    },
  ]);
  assertRefused(await start('armory::nowhere'), '422 Unprocessable Entity', [
    {
      code: 'request.invalid',
      message: 'The header X-Armory-Config-Location is not a location of a configuration.',
      metadata: { hint: 'It has the form armory::<address of this server>/pipelines/<id>/config.' },
    },
  ]);
  const first = assertStarted(await send(cli.startFile(token, bodyOf())));
  const location = cli.locationOf(first.pipelineId);
  assertRefused(await start(location, '{"account":7,"targetFilters":null}'), '422 Unprocessable Entity', [
    {
      code: 'field.type',
      message: 'account: Invalid input: expected string, received number.',
      metadata: { path: '/account' },
    },
  ]);
  assertRefused(await start(location, '{"acount":"agent-2"}'), '422 Unprocessable Entity', [
    { code: 'field.unknown', message: 'Unknown field: acount.', metadata: { path: '/acount' } },
  ]);
  assertRefused(await start(location, cli.linkBody({ account: 'agent-3' })), '422 Unprocessable Entity', [
    {
      code: 'account.unknown',
      message: "account 'agent-3' does not exist",
      metadata: { path: '/account', hint: "did you mean 'agent-1'?" },
    },
  ]);
  assertRefused(await start(location, cli.linkBody({ targets: ['qa'] })), '422 Unprocessable Entity', [
    {
      code: 'ref.target',
      message: "target 'qa' is not in targets",
      metadata: { path: '/targetFilters/0/includeTarget' },
    },
  ]);
});

test('1.4, 1.5, 3.5: a second start is a conflict with the link of the first, printed, and exit code 3', async () => {
  const { deployer } = await withClusters('conflict');
  const { token } = deployer;
  const { pipelineId } = assertStarted(await send(cli.startFile(token, bodyOf())));
  const link = `http://127.0.0.1:8080/pipelines/${pipelineId}`;
  const message = `cannot start deployment for application "shop" because there is an in-progress deployment: ${link}`;
  const conflict = {
    code: 'deployment.conflict',
    message,
    metadata: { hint: 'Wait until it has ended, or cancel it.', link },
  };
  for (const request of [
    cli.startFile(token, bodyOf()),
    cli.startOther(token, bodyOf()),
    cli.startLocation(token, cli.locationOf(pipelineId), cli.linkBody()),
  ]) {
    const answer = await send(request);
    assertRefused(answer, '409 Conflict', [conflict], 3);
    assert.equal(
      cli.afterStart(answer).stderr,
      `Failed to start deployment\nError Id: ${answer.headers['x-request-id']}\nHTTP Status Code: 409\nError Message: ${message}\nError Metadata: \n  hint=Wait until it has ended, or cancel it.\n  link=${link}\n`,
    );
  }
});

test('1.4, 3.5: every other refusal has a body that the client can print, and exits 1', async () => {
  const tenant = await withClusters('refusals');
  const { token } = tenant.deployer;
  const broken = (body: string, type = startType) =>
    cli.rest(token, 'POST', '/pipelines/kubernetes', body, { 'Content-Type': type, Accept: startType });
  const cases: [string, string, string][] = [
    ['400 Bad Request', 'file.syntax', broken('{')],
    ['400 Bad Request', 'file.syntax', broken('')],
    ['401 Unauthorized', 'auth.missing', cli.startFile('a.b.c', bodyOf())],
    ['401 Unauthorized', 'auth.missing', cli.startFile('opaque', bodyOf())],
    ['403 Forbidden', 'auth.forbidden', cli.startFile(tenant.agent.token, bodyOf())],
    ['404 Not Found', 'not.found', cli.rest(token, 'POST', '/pipelines/other', bodyOf())],
    ['413 Payload Too Large', 'body.tooLarge', broken(JSON.stringify('x'.repeat(1_048_577)))],
    ['413 Payload Too Large', 'body.tooLarge', broken('['.repeat(65))],
    ['415 Unsupported Media Type', 'media.unsupported', broken('{}', 'text/plain')],
    ['422 Unprocessable Entity', 'field.required', broken('{}')],
  ];
  for (const [statusLine, code, request] of cases) {
    const answer = await send(request);
    assert.equal(answer.statusLine, statusLine, answer.body);
    const { error_id, errors } = JSON.parse(answer.body) as { error_id: string; errors: Record<string, unknown>[] };
    assert.equal(error_id, answer.headers['x-request-id']);
    assert.equal(errors[0]?.code, code, answer.body);
    for (const error of errors) {
      assert.deepEqual(Object.keys(error), 'metadata' in error ? ['code', 'message', 'metadata'] : ['code', 'message']);
      for (const value of Object.values(error.metadata ?? {})) assert.equal(typeof value, 'string');
    }
    const { exit, stderr } = cli.afterStart(answer);
    assert.equal(exit, 1);
    assert.match(stderr, /^Failed to start deployment\nError Id: \S+\nHTTP Status Code: \d+\nError Message: \S/);
  }
});

test('1.3, 3.5: the account that a target lacks or that does not exist is told in the words that are printed', async () => {
  const { deployer } = await withClusters('accounts');
  const targets = { dev: { namespace: 'shop-dev', strategy: 'fast' } };
  assertRefused(await send(cli.startFile(deployer.token, bodyOf({ targets }))), '422 Unprocessable Entity', [
    {
      code: 'field.required',
      message: 'targets.dev.account is required: the name of a cluster account',
      metadata: { path: '/targets/dev/account' },
    },
  ]);
  const west = { dev: { ...targets.dev, account: 'west' } };
  assertRefused(await send(cli.startFile(deployer.token, bodyOf({ targets: west }))), '422 Unprocessable Entity', [
    {
      code: 'account.unknown',
      message: "account 'west' does not exist",
      metadata: { path: '/targets/dev/account' },
    },
  ]);
});

test('1.3: what the client calls itself is shown, under whatever name a CI action goes by', async () => {
  const { deployer } = await withClusters('origin');
  const { token } = deployer;
  const origin = { 'User-Agent': 'github-action/4.5.6', 'X-Armory-Client': 'github-action/4.5.6' };
  const more = { 'Content-Type': startType, Accept: startType, ...origin };
  const { pipelineId } = assertStarted(await send(cli.rest(token, 'POST', '/pipelines/kubernetes', bodyOf(), more)));
  const view = JSON.parse((await send(cli.rest(token, 'GET', `/pipelines/${pipelineId}`))).body);
  assert.deepEqual(view.source, { product: 'github-action', version: '4.5.6' });
});

test('1.3: several requests go over one connection, GET and DELETE with a content type and no body among them', async () => {
  const { admin } = await withClusters('keep-alive');
  const { token } = admin;
  const answers = await cli.exchange(
    port,
    cli.rest(token, 'GET', '/pipelines/0199f6f0-3c5e-7000-8000-000000000001'),
    cli.rest(token, 'DELETE', '/clusters/agent-2'),
    cli.startFile(token, bodyOf()),
    cli.rest(token, 'GET', '/clusters'),
  );
  assert.deepEqual(
    answers.map(({ statusLine, closed }) => [statusLine, closed]),
    [
      ['404 Not Found', false],
      ['204 No Content', false],
      ['202 Accepted', false],
      ['200 OK', false],
    ],
  );
});

test('5: temporary clusters are refused by name, for which the client needs no more than the status', async () => {
  const { admin } = await withClusters('sandbox');
  const body = '{"agentIdentifier":"x7k2q9-sandbox-rna","clientId":"id","clientSecret":"secret"}';
  for (const request of [
    cli.rest(admin.token, 'POST', '/sandbox/clusters', body),
    cli.rest(admin.token, 'GET', '/sandbox/clusters/cl-1'),
  ]) {
    assertRefused(await send(request), '501 Not Implemented', [
      {
        code: 'not.implemented',
        message: 'This server lends no temporary clusters.',
        metadata: { hint: 'Register a cluster of your own with POST /clusters.' },
      },
    ]);
  }
});

/** Ends a pipeline, as its driver would have, so that its application is free. */
async function end(tenant: TestTenant, pipelineId: string): Promise<void> {
  const data = { status: 'SUCCEEDED', completedAt: api.db.clock.now() };
  const where = { id: pipelineId, tenantId: tenant.tenantId };
  await api.worker.prisma.pipeline.update({ where, data, select: { id: true } });
}
