import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { scoped } from '@cdaas/control-plane/db.ts';
import { startSandbox } from '@cdaas/sandbox/sandbox.ts';
import { type Answer, codesOf, createTestTenant, openTestApi, shopFile } from '../support/api.ts';
import { createClusterClient } from '../support/cluster-client.ts';
import { createAuthority, type Handler, json, startFakeApiServer } from '../support/fake-api-server.ts';

after(async () => {
  await api.close();
  await sandbox.stop();
  await fake.close();
  rmSync(folder, { recursive: true, force: true });
});
const folder = mkdtempSync(join(tmpdir(), 'cdaas-api-clusters-'));
const sandbox = await startSandbox({ dataDir: folder });
const authority = await createAuthority();
const fake = await startFakeApiServer(await authority.issue('fake', ['127.0.0.1']));
const api = await openTestApi('api_clusters');
const tenant = await createTestTenant(api, 'acme');

const { server, caData, token } = sandbox;
const register = (body: object): Promise<Answer> => api.call(tenant.admin, 'POST', '/clusters', { body });
const fakeAccess = { server: fake.url, caData: authority.certificate, token: 'planted-token' };

test('a cluster is asked who it is, registered, shown without its credential, and forgotten', async () => {
  const answer = await register({ name: 'sandbox', server, caData, token });
  assert.equal(answer.status, 201, answer.text);
  assert.equal(answer.headers.location, '/clusters/sandbox');
  const shown = await api.call(tenant.admin, 'GET', '/clusters/sandbox');
  const { version, createdAtIso8601, ...rest } = shown.json as Record<string, unknown>;
  assert.match(String(version), /^v1\./);
  assert.ok(createdAtIso8601);
  assert.deepEqual(rest, {
    name: 'sandbox',
    server,
    namespaces: [],
    clusterScopedKinds: ['Namespace'],
    meshConfirmation: 'linkerd-smi',
    trafficSplitVersion: 'split.smi-spec.io/v1alpha2',
  });
  const list = await api.call(tenant.admin, 'GET', '/clusters');
  for (const { text } of [answer, shown, list]) assert.ok(!text.includes(token));

  const row = await scoped(api.db, tenant, (tx) => tx.cluster.findFirstOrThrow({ where: { name: 'sandbox' } }));
  assert.ok(!Buffer.from(row.credential).toString('latin1').includes(token), 'stored encrypted');
  assert.match(row.clusterUid, /^sha256:[0-9a-f]{64}$/);
  const at = { table: 'cluster', row: row.id, field: 'credential' };
  assert.deepEqual(await api.deps.vault.decryptJson(tenant.organisationId, at, row.credential), { token });

  assert.equal((await api.call(tenant.admin, 'DELETE', '/clusters/sandbox')).status, 204);
  assert.equal((await api.call(tenant.admin, 'GET', '/clusters/sandbox')).status, 404);
});

test('a kubeconfig does as well, and its mesh confirmation can be overruled', async () => {
  const answer = await register({ name: 'by-kubeconfig', kubeconfig: sandbox.kubeconfig, meshConfirmation: 'stored' });
  assert.equal(answer.status, 201, answer.text);
  assert.equal((answer.json as { meshConfirmation: string }).meshConfirmation, 'stored');
});

test('who may only deploy sees the names of clusters, and may not register or forget one', async () => {
  const list = await api.call(tenant.deployer, 'GET', '/clusters');
  assert.deepEqual(list.json, { clusters: [{ name: 'by-kubeconfig' }] });
  assert.deepEqual((await api.call(tenant.deployer, 'GET', '/clusters/by-kubeconfig')).json, { name: 'by-kubeconfig' });
  assert.equal((await api.call(tenant.deployer, 'DELETE', '/clusters/by-kubeconfig')).status, 403);
  const refused = await api.call(tenant.deployer, 'POST', '/clusters', { body: { name: 'x', server, caData, token } });
  assert.equal(refused.status, 403);
});

test('a name that is taken is refused, and taken in one tenant only', async () => {
  const twice = await register({ name: 'by-kubeconfig', server, caData, token });
  assert.equal(twice.status, 409);
  assert.deepEqual(codesOf(twice), ['name.duplicate']);
  const body = { name: 'by-kubeconfig', server, caData, token };
  assert.equal((await api.call(tenant.neighbour, 'POST', '/clusters', { body })).status, 201);
});

test('two tenants that register one cluster get the same cluster uid', async () => {
  const uidFor = (scope: { organisationId: string; tenantId: string }) =>
    scoped(api.db, scope, (tx) => tx.cluster.findFirstOrThrow({ where: { name: 'by-kubeconfig' } }));
  const mine = await uidFor(tenant);
  const theirs = await uidFor({ organisationId: tenant.organisationId, tenantId: tenant.otherTenantId });
  assert.equal(mine.clusterUid, theirs.clusterUid);
  assert.notEqual(mine.id, theirs.id);
});

test('of two registrations of one name at once, one is taken', async () => {
  const body = { name: 'racing', server, caData, token };
  const answers = await Promise.all([register(body), register(body)]);
  assert.deepEqual(answers.map(({ status }) => status).sort(), [201, 409]);
});

test('fields that are missing, unknown or of the wrong type are all told by name', async () => {
  const cases: [object, string[]][] = [
    [{ name: 'x', server, caData, token, insecure: true }, ['field.unknown']],
    [{ name: 'Not A Name', kubeconfig: 5 }, ['request.invalid', 'field.type']],
    [{ name: 'x', kubeconfig: sandbox.kubeconfig, meshConfirmation: 'maybe' }, ['field.enum']],
  ];
  for (const [body, codes] of cases) {
    const answer = await register(body);
    assert.equal(answer.status, 422, answer.text);
    assert.deepEqual(codesOf(answer), codes, answer.text);
  }
  const nothing = await api.call(tenant.admin, 'POST', '/clusters');
  assert.equal(nothing.status, 422);
  assert.match(nothing.text, /body is required/);
});

test('a kubeconfig that runs programs, reads files or trusts anybody is refused by name', async () => {
  const kubeconfig = (user: object, cluster: object = {}) =>
    JSON.stringify({
      'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'k', user: 'u' } }],
      clusters: [{ name: 'k', cluster: { server, 'certificate-authority-data': caData, ...cluster } }],
      users: [{ name: 'u', user }],
    });
  const cases: [string, string][] = [
    [kubeconfig({ exec: { command: 'sh' } }), 'exec'],
    [kubeconfig({ 'auth-provider': { name: 'oidc' } }), 'auth-provider'],
    [kubeconfig({ tokenFile: '/etc/passwd' }), 'tokenFile'],
    [kubeconfig({ token: 'planted' }, { 'insecure-skip-tls-verify': true }), 'insecure-skip-tls-verify'],
    [kubeconfig({ token: 'planted' }, { 'proxy-url': 'http://127.0.0.1' }), 'proxy-url'],
  ];
  for (const [text, word] of cases) {
    const answer = await register({ name: 'x', kubeconfig: text });
    assert.equal(answer.status, 422, answer.text);
    assert.ok(codesOf(answer).every((code) => code === 'cluster.refused'));
    assert.ok(answer.text.includes(word), word);
    assert.ok(!answer.text.includes('planted'));
  }
});

test('what the cluster answers decides: not there, not Kubernetes, not accepted, not allowed', async () => {
  const dead = await startFakeApiServer(await authority.issue('dead', ['127.0.0.1']));
  await dead.close();
  const cases: [Handler | null, string, RegExp][] = [
    [null, 'cluster.unreachable', /could not be reached/],
    [(_request, response) => json(response, 200, { hello: 'world' }), 'cluster.unreachable', /not a Kubernetes API/],
    [(_request, response) => json(response, 404, {}), 'cluster.unreachable', /answered 404/],
    [(_request, response) => json(response, 401, {}), 'cluster.refused', /does not accept this credential/],
    [versionThen((_request, response) => json(response, 403, {})), 'cluster.permission', /may not list services/],
  ];
  for (const [handler, code, words] of cases) {
    if (handler !== null) fake.answer(handler);
    const access = handler === null ? { ...fakeAccess, server: dead.url } : fakeAccess;
    const answer = await register({ name: 'x', ...access, namespaces: ['shop'] });
    assert.equal(answer.status, 422, answer.text);
    assert.deepEqual(codesOf(answer), [code], answer.text);
    assert.match(answer.text, words);
    assert.ok(!answer.text.includes('planted-token'));
  }
  assert.equal((await api.call(tenant.admin, 'GET', '/clusters/x')).status, 404, 'nothing is stored');
});

test('a server with another CA is not trusted', async () => {
  const other = await createAuthority('Other CA');
  const answer = await register({ name: 'x', ...fakeAccess, caData: other.certificate });
  assert.deepEqual(codesOf(answer), ['cluster.unreachable'], answer.text);
});

test('an address that the operator did not allow is refused before anything is sent', async () => {
  for (const address of ['https://169.254.169.254', 'https://10.0.0.1:6443', 'https://[::1]:6443']) {
    const answer = await register({ name: 'x', ...fakeAccess, server: address });
    assert.deepEqual(codesOf(answer), ['cluster.refused'], answer.text);
  }
});

test('lists are asked for in the named namespaces only', async () => {
  fake.seen.length = 0;
  fake.answer(versionThen((_request, response) => json(response, 200, { items: [], metadata: {} })));
  const answer = await register({ name: 'narrow', ...fakeAccess, namespaces: ['a', 'b'] });
  assert.equal(answer.status, 201, answer.text);
  const lists = fake.seen.filter((line) => /services|replicasets/.test(line));
  assert.equal(lists.length, 4);
  assert.ok(lists.every((line) => line.includes('/namespaces/')));
  assert.match((await clusterRow('narrow')).clusterUid, /^sha256:/);
});

test('a server that says the uid of another cluster is not taken for it', async () => {
  const client = createClusterClient(sandbox);
  const system = await client.get('Namespace', '', 'kube-system');
  client.close();
  const lying: Handler = (request, response) => {
    if (request.url?.startsWith('/version')) return json(response, 200, { gitVersion: 'v1.35.0' });
    if (request.url === '/api/v1/namespaces/kube-system') return json(response, 200, system);
    json(response, 200, { items: [], metadata: {} });
  };
  fake.answer(lying);
  // Whose CA is registered beside his own does not matter: it is the one that the server's certificate leads to.
  const sandboxCa = Buffer.from(caData, 'base64').toString();
  const bundle = `${authority.certificate}\n${sandboxCa}`;
  for (const [name, ca] of [
    ['lying', authority.certificate],
    ['lying-with-both', bundle],
  ] as const) {
    const answer = await register({ name, ...fakeAccess, caData: ca });
    assert.equal(answer.status, 201, answer.text);
  }
  const honest = (await clusterRow('by-kubeconfig')).clusterUid;
  assert.notEqual((await clusterRow('lying')).clusterUid, honest);
  assert.equal((await clusterRow('lying')).clusterUid, (await clusterRow('lying-with-both')).clusterUid);
  const both = await register({ name: 'with-both', server, token, caData: bundle });
  assert.equal(both.status, 201, both.text);
  assert.equal((await clusterRow('with-both')).clusterUid, honest);
});

test('a uid that is none, and lists that are none, are no failures of ours', async () => {
  const answering = (uid: unknown, list: unknown): Handler =>
    versionThen((request, response) => {
      if (request.url === '/api/v1/namespaces/kube-system') return json(response, 200, { metadata: { uid } });
      json(response, 200, list);
    });
  for (const [index, uid] of ['a\0b', '\ud800', 'x'.repeat(300), 7].entries()) {
    fake.answer(answering(uid, { items: [] }));
    const answer = await register({ name: `odd-${index}`, ...fakeAccess });
    assert.equal(answer.status, 201, answer.text);
    assert.equal((await clusterRow(`odd-${index}`)).clusterUid, (await clusterRow('narrow')).clusterUid);
  }
  for (const list of [{ items: 'x' }, { items: { length: 1 } }, [], 'x', null]) {
    fake.answer(answering('uid', list));
    const answer = await register({ name: 'x', ...fakeAccess });
    assert.equal(answer.status, 422, answer.text);
    assert.deepEqual(codesOf(answer), ['cluster.unreachable'], answer.text);
    assert.match(answer.text, /answered with no list/);
  }
});

test('a cluster with deployments in progress stays, and the answer links to them', async () => {
  const body = shopFile({ targets: { prod: { account: 'by-kubeconfig', namespace: 'shop', strategy: 'slow' } } });
  const started = await api.call(tenant.deployer, 'POST', '/pipelines', { body });
  assert.equal(started.status, 202, started.text);
  const { pipelineId } = started.json as { pipelineId: string };
  const refused = await api.call(tenant.admin, 'DELETE', '/clusters/by-kubeconfig');
  assert.equal(refused.status, 409);
  assert.deepEqual(codesOf(refused), ['cluster.inUse']);
  assert.ok(refused.text.includes(`/pipelines/${pipelineId}`));
});

test('no log line of all this holds a credential', () => {
  for (const secret of [token, 'planted', tenant.credential.clientSecret, tenant.admin.token]) {
    assert.ok(!api.logs.some((line) => line.includes(secret)));
  }
});

function versionThen(rest: Handler): Handler {
  return (request, response) =>
    request.url === '/version' ? json(response, 200, { gitVersion: 'v1.35.4' }) : rest(request, response);
}

function clusterRow(name: string) {
  return scoped(api.db, tenant, (tx) => tx.cluster.findFirstOrThrow({ where: { name } }));
}
