import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { scoped } from '@cdaas/control-plane/database/db.ts';
import type { DeploymentState } from '@cdaas/pipeline/deployment-state.ts';
import { decodeJwt, UnsecuredJWT } from 'jose';
import { createTestTenant, insertCluster, openTestApi, shopFile, type TestTenant } from '../support/api.ts';
import * as cli from '../support/old-cli.ts';

// Tokens, `deploy status` and `--watch` of the client in use, byte for byte as spec/cli-wire-protocol.md has them. The numbers
// in titles are that document's sections.

after(() => api.close());
const api = await openTestApi('cli_wire_status');
await api.app.listen({ host: '127.0.0.1', port: 0 });
const { port } = api.app.server.address() as AddressInfo;
const json = 'application/json; charset=utf-8';

async function send(request: string): Promise<cli.WireAnswer> {
  const [answer] = await cli.exchange(port, request);
  assert.ok(answer);
  return answer;
}

type Run = { tenant: TestTenant; token: string; pipelineId: string; deploymentId: string };

/** A pipeline of four steps in a tenant of its own: 10 %, approval, 50 %, a minute. */
async function started(name: string): Promise<Run> {
  const tenant = await createTestTenant(api, name);
  await insertCluster(api, tenant, 'east');
  const { token } = tenant.deployer;
  const file = shopFile({ description: 'first', context: { region: 'west' }, sourceControl: { sha: 'abc' } });
  const { body } = await send(cli.startFile(token, cli.goJson(file)));
  const { pipelineId, deployments } = JSON.parse(body) as { pipelineId: string; deployments: { id: string }[] };
  return { tenant, token, pipelineId, deploymentId: String(deployments[0]?.id) };
}

/** Puts the deployment into a status and its steps into theirs, as its driver would have. */
async function move({ tenant, deploymentId }: Run, status: DeploymentState['status'], steps: string[] = []) {
  await scoped(api.worker, tenant, async (tx) => {
    const row = await tx.deployment.findUniqueOrThrow({ where: { id: deploymentId } });
    const state = row.state as unknown as DeploymentState;
    const moved = state.steps.map((step, index) => ({ ...step, status: steps[index] ?? step.status }));
    const data = { status, state: { ...(row.state as object), status, steps: moved } };
    await tx.deployment.update({ where: { id: deploymentId }, data, select: { id: true } });
  });
}

async function end({ tenant, pipelineId }: Run, status: string, completedAt: Date): Promise<void> {
  await scoped(api.worker, tenant, (tx) =>
    tx.pipeline.update({ where: { id: pipelineId }, data: { status, completedAt }, select: { id: true } }),
  );
}

const status = ({ token, pipelineId }: Run) => send(cli.rest(token, 'GET', `/pipelines/${pipelineId}`));

test('2.1, 2.3: client credentials by a form are answered with a JWT of three parts and every claim that is read', async () => {
  const { credential, organisationId, tenantId } = await createTestTenant(api, 'acme');
  const { clientId, clientSecret } = credential;
  const body = `audience=https%3A%2F%2Fapi.example.org&client_id=${clientId}&client_secret=${clientSecret}&grant_type=client_credentials`;
  const request = [
    'POST /oauth/token HTTP/1.1',
    'Host: 127.0.0.1:8080',
    'User-Agent: Go-http-client/1.1',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Accept: application/json',
    'Content-Type: application/x-www-form-urlencoded',
    'Accept-Encoding: gzip',
    '',
    body,
  ].join('\r\n');
  assert.equal(request, cli.token(clientId, clientSecret));
  const answer = await send(request);
  assert.equal(answer.statusLine, '200 OK');
  assert.equal(answer.headers['content-type'], json);
  assert.equal(answer.headers['cache-control'], 'no-store');
  const { access_token: token } = JSON.parse(answer.body) as { access_token: string };
  assert.equal(answer.body, JSON.stringify({ access_token: token, token_type: 'Bearer', expires_in: 86_400 }));
  assert.match(token, /^[\w-]+\.[\w-]+\.[\w-]+$/);
  const claims = decodeJwt(token);
  assert.ok(Math.abs(Number(claims.exp) - Date.now() / 1000 - 86_400) < 60, 'far more than the 300 s of §2.2 ahead');
  assert.deepEqual(claims['https://cloud.armory.io/principal'], {
    orgId: organisationId,
    orgName: 'acme',
    envId: tenantId,
    name: 'admin',
    type: 'machine',
  });
});

test('2.1: a secret that is wrong is 401, of which the client reads no more than the status', async () => {
  const { credential } = await createTestTenant(api, 'wrong');
  const answer = await send(cli.token(credential.clientId, 'wrong'));
  assert.equal(answer.statusLine, '401 Unauthorized');
  assert.equal(
    answer.body,
    '{"error":"invalid_client","error_description":"The client does not exist, is disabled, or its secret is wrong."}',
  );
  assert.equal(answer.headers['content-type'], json);
});

test('2.2: under CI=true each use asks for a token of its own, and all of them hold', async () => {
  const run = await started('ci');
  const tokens: string[] = [];
  for (let use = 0; use < 3; use += 1) {
    const { clientId, clientSecret } = run.tenant.credential;
    const { body } = await send(cli.token(clientId, clientSecret));
    tokens.push((JSON.parse(body) as { access_token: string }).access_token);
  }
  assert.equal(new Set(tokens).size, 3);
  for (const token of tokens) assert.equal((await status({ ...run, token })).statusLine, '200 OK');
});

test('2.3: a JWT that the client takes although it is expired or unsigned is not taken here', async () => {
  const run = await started('unsigned');
  const claims = decodeJwt(run.token);
  for (const token of [
    new UnsecuredJWT({ ...claims }).encode(),
    new UnsecuredJWT({ ...claims, exp: 1 }).encode(),
    'x',
  ]) {
    const answer = await status({ ...run, token });
    assert.equal(answer.statusLine, '401 Unauthorized');
    assert.equal(
      answer.body,
      `{"error_id":"${answer.headers['x-request-id']}","errors":[{"code":"auth.missing","message":"no valid auth credentials","metadata":{"hint":"Send \`Authorization: Bearer <token>\` with a token from POST /oauth/token."}}]}`,
    );
  }
});

test('1.3, 4: the request of `deploy status`, written out, is answered with every key of the document', async () => {
  const run = await started('status');
  const { token, pipelineId, deploymentId } = run;
  const request = [
    `GET /pipelines/${pipelineId} HTTP/1.1`,
    'Host: 127.0.0.1:8080',
    'User-Agent: armory-cli/1.2.3',
    `Authorization: Bearer ${token}`,
    'Content-Type: application/json',
    'X-Armory-Client: armory-cli/1.2.3',
    'Accept-Encoding: gzip',
    '',
    '',
  ].join('\r\n');
  assert.equal(request, cli.rest(token, 'GET', `/pipelines/${pipelineId}`));
  const answer = await send(request);
  assert.equal(answer.statusLine, '200 OK');
  assert.equal(answer.headers['content-type'], json);
  const { startedAtIso8601 } = JSON.parse(answer.body) as { startedAtIso8601: string };
  assert.match(startedAtIso8601, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
  const step = {
    type: 'deployment',
    ref: 'deploy-prod',
    status: 'NOT_STARTED',
    dependsOn: [],
    constraintFor: '',
    deployment: { id: deploymentId, environment: 'prod', step: 0, totalSteps: 4 },
  };
  const view = {
    id: pipelineId,
    application: 'shop',
    description: 'first',
    context: { region: 'west' },
    sourceControl: { sha: 'abc' },
    source: { product: 'armory-cli', version: '1.2.3' },
    environments: [{ name: 'prod', namespace: 'shop', account: 'east' }],
    status: 'RUNNING',
    initiatedBy: 'Deployments Full Access',
    startedAtIso8601,
    completedAtIso8601: '',
    steps: [step],
  };
  assert.equal(answer.body, JSON.stringify(view));
  assert.deepEqual(cli.statusText(answer), [`application: shop, started: ${startedAtIso8601}`, 'status: RUNNING']);

  await move(run, 'SUCCEEDED', ['SUCCEEDED', 'SUCCEEDED', 'SUCCEEDED', 'SUCCEEDED']);
  await end(run, 'SUCCEEDED', new Date('2031-01-02T03:04:05Z'));
  const ended = {
    ...view,
    status: 'SUCCEEDED',
    completedAtIso8601: '2031-01-02T03:04:05.000Z',
    steps: [{ ...step, status: 'SUCCEEDED', deployment: { ...step.deployment, step: 4 } }],
  };
  assert.equal((await status(run)).body, JSON.stringify(ended));
});

test('4: a timed pause is shown as a pause step with its pause, which is what the client prints', async () => {
  const run = await started('paused');
  await move(run, 'PAUSED', ['SUCCEEDED', 'SUCCEEDED', 'SUCCEEDED', 'PAUSED']);
  const answer = await status(run);
  const { steps } = JSON.parse(answer.body) as { steps: object[] };
  assert.deepEqual(steps[1], {
    type: 'pause',
    ref: 'deploy-prod/canary-step-4',
    status: 'PAUSED',
    dependsOn: [],
    constraintFor: '',
    pause: { duration: 1, unit: 'MINUTES' },
  });
  assert.equal(steps.length, 2);
  assert.equal(cli.statusText(answer)[1], 'status: [PAUSED] msg: Paused for 1 MINUTES.');
});

test('4: a pause for approval is told by the status alone', async () => {
  const run = await started('approval');
  await move(run, 'AWAITING_APPROVAL', ['SUCCEEDED', 'AWAITING_APPROVAL']);
  const answer = await status(run);
  assert.equal((JSON.parse(answer.body) as { steps: object[] }).steps.length, 1);
  assert.equal(cli.statusText(answer)[1], 'status: [AWAITING_APPROVAL] msg: Paused for Manual Judgment.');
});

test('3.6, 4: whatever a deployment is at, the client is told a word that it knows, and waits until the end', async () => {
  const run = await started('words');
  for (const [phase, word, shown] of [
    ['NOT_STARTED', 'RUNNING', 'NOT_STARTED'],
    ['WAITING', 'RUNNING', 'NOT_STARTED'],
    ['RUNNING', 'RUNNING', 'RUNNING'],
    ['PAUSED', 'PAUSED', 'PAUSED'],
    ['AWAITING_APPROVAL', 'AWAITING_APPROVAL', 'AWAITING_APPROVAL'],
    ['FINISHING', 'RUNNING', 'RUNNING'],
    ['ROLLING_BACK', 'RUNNING', 'RUNNING'],
  ] as const) {
    await move(run, phase);
    const answer = await status(run);
    assert.deepEqual(cli.afterPoll(answer), { status: word, exit: null }, phase);
    const { steps } = JSON.parse(answer.body) as { steps: { status: string }[] };
    assert.equal(steps[0]?.status, shown);
    for (const path of ['/deployments/', '/deploy-engine/deployments/']) {
      const { body } = await send(cli.rest(run.token, 'GET', `${path}${run.deploymentId}`));
      const view = JSON.parse(body) as { status: string; phase: string };
      assert.deepEqual([view.status, view.phase], [shown, phase]);
    }
  }
  for (const [word, exit] of [
    ['SUCCEEDED', 0],
    ['FAILED', 1],
    ['CANCELLED', 1],
  ] as const) {
    await move(run, word);
    await end(run, word, api.db.clock.now());
    assert.deepEqual(cli.afterPoll(await status(run)), { status: word, exit });
  }
});

test('4: an id is one whatever the case of its letters, under every path that it is part of', async () => {
  const { token, pipelineId, deploymentId } = await started('case');
  const paths = [
    ...['', '/config', '/events'].map((tail) => [`/pipelines/${pipelineId}`, tail]),
    ...['/deployments', '/deploy-engine/deployments'].map((head) => [`${head}/${deploymentId}`, '']),
  ] as [string, string][];
  for (const [path, tail] of paths) {
    const [asStored, upper] = [path, path.replace(/[^/]+$/, (id) => id.toUpperCase())];
    const answer = await send(cli.rest(token, 'GET', upper + tail));
    assert.equal(answer.statusLine, '200 OK', upper + tail);
    assert.equal(answer.body, (await send(cli.rest(token, 'GET', asStored + tail))).body);
  }
});

test('4: a pipeline that is not there, however its id is escaped, is 404 with a body that can be printed raw', async () => {
  const { token, tenant } = await started('missing');
  for (const [path, message] of [
    ['/pipelines/x', 'There is no pipeline x.'],
    ['/pipelines/a%20b', 'There is no pipeline a b.'],
    ['/pipelines/a/b', 'There is no GET /pipelines/a/b.'],
    ['/pipelines/0199f6f0-3c5e-7000-8000-000000000001', 'There is no pipeline 0199f6f0-3c5e-7000-8000-000000000001.'],
  ] as const) {
    const answer = await send(cli.rest(token, 'GET', path));
    assert.equal(answer.statusLine, '404 Not Found');
    const { error_id, errors } = JSON.parse(answer.body) as { error_id: string; errors: object[] };
    assert.equal(error_id, answer.headers['x-request-id']);
    const hint = path === '/pipelines/a/b' ? { metadata: { hint: 'GET /openapi.json lists every route.' } } : {};
    assert.deepEqual(errors, [{ code: 'not.found', message, ...hint }]);
    assert.deepEqual(cli.afterPoll(answer), { status: 'UNKNOWN', exit: 1 });
  }
  const forbidden = await send(cli.rest(tenant.agent.token, 'GET', '/pipelines/x'));
  assert.equal(forbidden.statusLine, '403 Forbidden');
});
