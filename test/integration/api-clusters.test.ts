import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ClusterView } from '@cdaas/contract/clusters.ts';
import { identifyCluster } from '@cdaas/control-plane/clusters/identity.ts';
import { scoped } from '@cdaas/control-plane/database/db.ts';
import { startSandbox } from '@cdaas/sandbox/sandbox.ts';
import { type Answer, codesOf, createTestTenant, openTestApi, shopFile } from '../support/api.ts';
import { createClusterClient } from '../support/cluster-client.ts';
import {
  createAuthority,
  type Handler,
  type Identity,
  json,
  refusal,
  startFakeApiServer,
} from '../support/fake-api-server.ts';
import { type Attributes, answerAsKubernetes } from '../support/fake-kubernetes.ts';
import { allowing } from '../support/kube-outcomes.ts';

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
  const { version, createdAtIso8601, health, verification, ...rest } = shown.json as Record<string, unknown>;
  assert.match(String(version), /^v1\./);
  assert.ok(createdAtIso8601);
  const { state, checkedAtIso8601, lastSuccessAtIso8601, error, changes } = health as Record<string, unknown>;
  assert.deepEqual(
    [state, checkedAtIso8601, lastSuccessAtIso8601, error, changes],
    ['unknown', '', '', null, []],
    'no worker has looked yet',
  );
  const { missing, meshEvidence, trafficSplitVersions, ...times } = verification as Record<string, unknown>;
  assert.deepEqual(missing, []);
  assert.equal(meshEvidence, 'Deployment linkerd-smi/smi-adaptor is there');
  assert.deepEqual(trafficSplitVersions, ['split.smi-spec.io/v1alpha2', 'split.smi-spec.io/v1alpha1']);
  assert.match(String(times.serverCertificateUntilIso8601), /^20\d\d-/);
  assert.match(String(times.caUntilIso8601), /^20\d\d-/);
  assert.equal(times.credentialUntilIso8601, '', 'this token does not say when it ends');
  assert.deepEqual(rest, {
    name: 'sandbox',
    server,
    credential: 'token',
    namespaces: [],
    clusterScopedKinds: ['Namespace'],
    meshConfirmation: 'linkerd-smi',
    meshConfirmationSetting: 'detected',
    meshConfirmationDetected: 'linkerd-smi',
    state: 'unknown',
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
  const view = answer.json as Record<string, unknown>;
  assert.deepEqual(
    [view.meshConfirmation, view.meshConfirmationSetting, view.meshConfirmationDetected],
    ['stored', 'stored', 'linkerd-smi'],
    'what is detected stays in sight',
  );
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
    [(_request, response) => refusal(response, 404, 'NotFound'), 'cluster.unreachable', /answered 404/],
    [(_request, response) => refusal(response, 401, 'Unauthorized'), 'cluster.refused', /does not accept/],
    [
      versionThen((_request, response) => refusal(response, 403, 'Forbidden')),
      'cluster.permission',
      /may not get \/apis/,
    ],
    [
      (request, response) =>
        request.method === 'POST' ? refusal(response, 403, 'Forbidden') : answerAsKubernetes({})(request, response),
      'cluster.permission',
      /may not create selfsubjectaccessreviews/,
    ],
    [
      (request, response) =>
        request.method === 'POST' ? json(response, 201, { status: {} }) : answerAsKubernetes({})(request, response),
      'cluster.unreachable',
      /answered a SelfSubjectAccessReview with something else/,
    ],
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

test('what is wrong with a certificate chain is told in words that say what to mend', async () => {
  const past = new Date(Date.now() - 3_600_000);
  const other = await createAuthority('Other CA');
  const sameName = await createAuthority();
  const selfSigned = await createAuthority('alone');
  const plain = createServer().listen(0, '127.0.0.1');
  await once(plain, 'listening');
  const cases: [string, Identity, string, RegExp][] = [
    ['expired', await authority.issue('api', ['127.0.0.1'], past), authority.certificate, /certificate ended 20\d\d-/],
    ['other CA', await authority.issue('api', ['127.0.0.1']), other.certificate, /issued by CN=Test CA, .*CN=Other CA/],
    ['made anew', await sameName.issue('api', ['127.0.0.1']), authority.certificate, /another CA of the same name did/],
    ['self-signed', selfSigned, authority.certificate, /signed itself \(CN=alone\)/],
    [
      'other name',
      await authority.issue('api', ['api.example.org']),
      authority.certificate,
      /is for api\.example\.org, not for 127\.0\.0\.1/,
    ],
  ];
  for (const [what, identity, ca, words] of cases) {
    const server = await startFakeApiServer(identity);
    const answer = await register({ name: 'x', ...fakeAccess, server: server.url, caData: ca });
    await server.close();
    assert.deepEqual(codesOf(answer), ['cluster.unreachable'], `${what}: ${answer.text}`);
    assert.match(answer.text, words, what);
    assert.deepEqual(server.seen, [], 'no request is sent');
  }
  const { port } = plain.address() as AddressInfo;
  const http = await register({ name: 'x', ...fakeAccess, server: `https://127.0.0.1:${port}` });
  plain.close();
  assert.match(http.text, /does not speak TLS/);
});

test('a client certificate that is too weak for TLS is refused by name, and takes nothing else along', async () => {
  const { certificate, key } = await authority.issue('weak', [], undefined, 1024);
  const { token: _, ...reached } = fakeAccess;
  const given = { ...reached, clientCertificateData: certificate, clientKeyData: key };
  const answer = await register({ name: 'x', ...given });
  assert.deepEqual([answer.status, codesOf(answer)], [422, ['cluster.refused']], answer.text);
  assert.match(answer.text, /too weak for TLS: its key must be RSA of 2048 bits or EC/);
  assert.ok(answer.text.includes('"path":"/clientCertificateData"'), answer.text);
});

test('a CA of which a later block cannot be read is an answer, not an end of this process', async () => {
  fake.answer(answerAsKubernetes({ uid: 'u' }));
  const torn = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
  const access = { server: fake.url, caData: authority.certificate + torn, credential: { token: 'planted-token' } };
  assert.equal(await identifyCluster(access, allowing(fake.port)), undefined);
});

test('an address that the operator did not allow is refused before anything is sent', async () => {
  for (const address of ['https://169.254.169.254', 'https://10.0.0.1:6443', 'https://[::1]:6443']) {
    const answer = await register({ name: 'x', ...fakeAccess, server: address });
    assert.deepEqual(codesOf(answer), ['cluster.refused'], answer.text);
  }
});

test('what is allowed in all namespaces is not asked again for each, and the rest is, there only', async () => {
  const reviews: Attributes[] = [];
  const allowed = ({ resource, namespace }: Attributes) => resource !== 'services' || namespace !== undefined;
  fake.answer(answerAsKubernetes({ allowed }, reviews));
  const answer = await register({ name: 'narrow', ...fakeAccess, namespaces: ['a', 'b', 'a'] });
  assert.equal(answer.status, 201, answer.text);
  const places = (resource: string) =>
    new Set(reviews.filter((each) => each.resource === resource).map(({ namespace }) => namespace));
  assert.deepEqual([...places('services')], [undefined, 'a', 'b']);
  assert.deepEqual([...places('replicasets')], [undefined]);
  assert.match((await clusterRow('narrow')).clusterUid, /^sha256:/);
});

test('a credential for a hundred namespaces takes one question in each, and single ones only where rules are not all', async () => {
  const namespaces = Array.from({ length: 100 }, (_, index) => `n${index}`);
  const all = { verbs: ['*'], apiGroups: ['*'], resources: ['*'] };
  const narrow = [
    { ...all, verbs: ['get', 'list', 'watch', 'create', 'update', 'patch', 'delete'], resources: ['*'] },
    { ...all, resourceNames: ['one'], verbs: ['nothing'] },
  ];
  const allowed = ({ namespace, resource }: Attributes) => namespace !== undefined || resource === 'namespaces';
  const reviews: Attributes[] = [];
  const asked = new Map<string, number>();
  const rules = (namespace: string) => {
    asked.set(namespace, (asked.get(namespace) ?? 0) + 1);
    return { resourceRules: narrow, incomplete: namespace === 'n1' };
  };
  fake.answer(answerAsKubernetes({ uid: 'u', allowed, rules }, reviews));
  const answer = await register({ name: 'hundred', ...fakeAccess, namespaces });
  assert.equal(answer.status, 201, answer.text);
  const { missing } = (answer.json as { verification: { missing: object[] } }).verification;
  assert.deepEqual(missing, []);
  assert.deepEqual([asked.size, Math.max(...asked.values())], [100, 1]);
  assert.deepEqual(
    reviews.filter(({ namespace }) => namespace?.startsWith('n')),
    [],
    'rules say yes also where they are not all',
  );

  const partial = [
    { verbs: ['*'], apiGroups: ['*'], resources: ['services'], resourceNames: ['web'] },
    { verbs: ['get'], apiGroups: ['*'], resources: ['*'] },
  ];
  reviews.length = 0;
  const some = (namespace: string) => ({ resourceRules: partial, incomplete: namespace === 'b' });
  fake.answer(answerAsKubernetes({ uid: 'u', allowed, rules: some }, reviews));
  const refused = await register({ name: 'x', ...fakeAccess, namespaces: ['a', 'b'], clusterScopedKinds: [] });
  assert.match(refused.text, /may not list services in namespace a\./);
  assert.ok(!refused.text.includes('in namespace b'), 'which said yes when asked singly');
  assert.ok(!refused.text.includes('may not get services'));
  const places = new Set(reviews.map(({ namespace }) => namespace));
  assert.ok(places.has('b') && !places.has('a'), 'what rules settle is not asked');
});

test('every right that is missing is told at once, by verb, resource and namespace, with the RBAC to paste', async () => {
  const missing = ({ verb, resource, namespace }: Attributes) =>
    (resource === 'replicasets' && verb === 'patch' && namespace !== 'a') ||
    (resource === 'services' && verb === 'watch' && namespace !== 'b');
  fake.answer(answerAsKubernetes({ allowed: (attributes) => !missing(attributes) }));
  const answer = await register({ name: 'x', ...fakeAccess, namespaces: ['a', 'b'] });
  assert.equal(answer.status, 422, answer.text);
  const { errors } = answer.json as { errors: { code: string; message: string; metadata: Record<string, string> }[] };
  assert.deepEqual(
    errors.map(({ code, message, metadata: { verb, resource, namespace } }) => [
      code,
      message,
      verb,
      resource,
      namespace,
    ]),
    [
      ['cluster.permission', 'The credential may not watch services in namespace a.', 'watch', 'services', 'a'],
      [
        'cluster.permission',
        'The credential may not patch replicasets.apps in namespace b.',
        'patch',
        'replicasets.apps',
        'b',
      ],
    ],
  );
  const hint = errors[0]?.metadata.hint ?? '';
  const [, link = ''] = /kubectl apply -f '([^']+)'/.exec(hint) ?? [];
  assert.equal(link, 'http://127.0.0.1:8080/clusters/rbac.yaml?namespace=a&namespace=b');
  const rbac = await api.call(null, 'GET', link.slice('http://127.0.0.1:8080'.length));
  assert.equal(rbac.status, 200, rbac.text);
  assert.equal((await api.call(tenant.admin, 'GET', '/clusters/x')).status, 404, 'nothing is stored');

  fake.answer(answerAsKubernetes({ allowed: () => false }));
  const many = Array.from({ length: 100 }, (_, index) => `n${index}`);
  const all = codesOf(await register({ name: 'x', ...fakeAccess, namespaces: many }));
  assert.equal(all.length, 201, 'bounded');
});

test('a right that deployments work without is told in the verification, with what does not work', async () => {
  const optional = ['events', 'secrets'];
  fake.answer(answerAsKubernetes({ allowed: ({ resource }) => !optional.includes(resource) }));
  const answer = await register({ name: 'optional', ...fakeAccess, namespaces: ['shop'], clusterScopedKinds: [] });
  assert.equal(answer.status, 201, answer.text);
  const { missing } = ClusterView.parse(answer.json).verification ?? { missing: [] };
  assert.deepEqual(
    missing.map(({ verbs, resource, namespace }) => `${verbs.join(', ')} ${resource} ${namespace}`),
    ['create events shop', 'get, create, update, patch secrets shop'],
  );
  assert.match(missing[1]?.without ?? '', /a deployment file with a Secret fails before it changes anything/);
});

test('a right to what the cluster does not serve is not needed yet', async () => {
  const groups = { 'split.smi-spec.io': ['v1alpha4', 'v1alpha2', 'bad\0'] };
  const allowed = ({ group }: Attributes) => group !== 'keda.sh';
  fake.answer(answerAsKubernetes({ groups, allowed }));
  const answer = await register({ name: 'no-keda', ...fakeAccess });
  assert.equal(answer.status, 201, answer.text);
  const view = ClusterView.parse(answer.json);
  assert.equal(view.trafficSplitVersion, 'split.smi-spec.io/v1alpha2');
  assert.deepEqual(
    view.verification?.missing.map(({ verbs, resource }) => `${verbs} ${resource}`),
    ['list scaledobjects.keda.sh'],
  );
  fake.answer(answerAsKubernetes({ groups: { ...groups, 'keda.sh': ['v1alpha1'] }, allowed }));
  const refused = await register({ name: 'x', ...fakeAccess });
  assert.match(refused.text, /may not list scaledobjects.keda.sh in all namespaces/);
});

test('a server that says the uid of another cluster is not taken for it', async () => {
  const client = createClusterClient(sandbox);
  const system = await client.get('Namespace', '', 'kube-system');
  client.close();
  fake.answer(answerAsKubernetes({ uid: system?.metadata.uid }));
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

test('a uid that is none is no failure of ours', async () => {
  for (const [index, uid] of ['a\0b', '\ud800', 'x'.repeat(300), 7].entries()) {
    fake.answer(answerAsKubernetes({ uid }));
    const answer = await register({ name: `odd-${index}`, ...fakeAccess });
    assert.equal(answer.status, 201, answer.text);
    assert.equal((await clusterRow(`odd-${index}`)).clusterUid, (await clusterRow('narrow')).clusterUid);
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

test('the RBAC to paste is for everybody, as YAML, and says which parameter is not right', async () => {
  const answer = await api.call(null, 'GET', '/clusters/rbac.yaml?namespace=shop&kind=Secret&serviceAccount=deployer');
  assert.equal(answer.status, 200, answer.text);
  assert.equal(answer.headers['content-type'], 'application/yaml; charset=utf-8');
  for (const words of ['kind: RoleBinding', 'namespace: "shop"', 'resources: ["secrets"]', 'name: "deployer"']) {
    assert.ok(answer.text.includes(words), words);
  }
  for (const [query, words] of [
    ['namespace=Not+A+Name', /query parameter namespace\S* is not valid: .*a namespace name/],
    ['namespace=a&namespace=b%0Ac', /query parameter namespace\S* is not valid/],
    ['serviceAccount=a%3A%20b', /query parameter serviceAccount is not valid: .*a name of a ServiceAccount/],
    ['serviceAccount=a..b', /query parameter serviceAccount is not valid: .*a name of a ServiceAccount/],
    ['serviceAccount=a.-b', /query parameter serviceAccount is not valid/],
    ['kind=certificates.cert-manager..io', /kind .* is not known/],
    ['serviceAccountNamespace=a..b', /query parameter serviceAccountNamespace is not valid: .*a namespace name/],
    ['serviceAccountNamespace=', /query parameter serviceAccountNamespace is not valid/],
    ['kind=Sekret', /kind \\"Sekret\\" is not known.*ConfigMap, Secret/],
    ['namespaces=shop', /Unknown query parameter: namespaces\./],
  ] as const) {
    const refused = await api.call(null, 'GET', `/clusters/rbac.yaml?${query}`);
    assert.deepEqual([refused.status, codesOf(refused)], [422, ['request.invalid']], refused.text);
    assert.match(refused.text, words);
  }
});

test('a tenant may register so many clusters and no more, however many come at once', async () => {
  const limited = await openTestApi('api_clusters_limit', { clustersPerTenant: 3 });
  try {
    fake.answer(answerAsKubernetes({ uid: 'the-uid' }));
    const { admin, neighbour } = await createTestTenant(limited, 'acme');
    const post = (caller: { token: string }, name: string) =>
      limited.call(caller, 'POST', '/clusters', { body: { name, ...fakeAccess } });
    const answers = await Promise.all(['a', 'b', 'c', 'd', 'e'].map((name) => post(admin, name)));
    assert.deepEqual(answers.map(({ status }) => status).sort(), [201, 201, 201, 409, 409]);
    const refused = await post(admin, 'f');
    assert.deepEqual([refused.status, codesOf(refused)], [409, ['cluster.limit']], refused.text);
    assert.match(refused.text, /This tenant has 3 clusters.*CLUSTERS_PER_TENANT/);
    assert.equal((await post(neighbour, 'a')).status, 201, 'each tenant for itself');
    const { clusters } = (await limited.call(admin, 'GET', '/clusters')).json as { clusters: { name: string }[] };
    assert.equal((await limited.call(admin, 'DELETE', `/clusters/${clusters[0]?.name}`)).status, 204);
    assert.equal((await post(admin, 'f')).status, 201);
  } finally {
    await limited.close();
  }
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
