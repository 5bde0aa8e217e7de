import assert from 'node:assert/strict';
import { after, beforeEach, test } from 'node:test';
import { createClusterLoader } from '@cdaas/control-plane/clusters/access.ts';
import { scoped } from '@cdaas/control-plane/database/db.ts';
import { type Answer, codesOf, createTestTenant, openTestApi, shopFile } from '../support/api.ts';
import { createAuthority, startFakeApiServer } from '../support/fake-api-server.ts';
import { type Attributes, answerAsKubernetes, type FakeKubernetes } from '../support/fake-kubernetes.ts';

after(async () => {
  await api.close();
  await fake.close();
});
const authority = await createAuthority();
const fake = await startFakeApiServer(await authority.issue('api', ['127.0.0.1']));
const api = await openTestApi('api_clusters_changes');
const tenant = await createTestTenant(api, 'acme');

const groups = { 'split.smi-spec.io': ['v1alpha2'] };
const honest: FakeKubernetes = { uid: 'the-uid', groups };
const first = 'planted-first-token';
const second = 'planted-second-token';
let count = 0;
let name = '';

beforeEach(async () => {
  count += 1;
  name = `east-${count}`;
  serve(honest);
  const body = { name, server: fake.url, caData: authority.certificate, token: first };
  const answer = await api.call(tenant.admin, 'POST', '/clusters', { body });
  assert.equal(answer.status, 201, answer.text);
});

function serve(kubernetes: FakeKubernetes, reviews?: Attributes[]): void {
  fake.answer(answerAsKubernetes(kubernetes, reviews));
}

const change = (body: object): Promise<Answer> => api.call(tenant.admin, 'PATCH', `/clusters/${name}`, { body });
const verify = (): Promise<Answer> => api.call(tenant.admin, 'POST', `/clusters/${name}/verify`);
const row = () => scoped(api.db, tenant, (tx) => tx.cluster.findFirstOrThrow({ where: { name } }));
const deploy = async (namespace: string, application: string) => {
  const body = shopFile({ application, targets: { prod: { account: name, namespace, strategy: 'slow' } } });
  const started = await api.call(tenant.deployer, 'POST', '/pipelines', { body });
  assert.equal(started.status, 202, started.text);
  return (started.json as { pipelineId: string }).pipelineId;
};

async function refused(answer: Answer, code: string, words: RegExp, before: unknown): Promise<void> {
  assert.deepEqual([answer.status, codesOf(answer)], [422, [code]], answer.text);
  assert.match(answer.text, words);
  assert.deepEqual(await row(), before, 'nothing is changed');
  assert.ok(!answer.text.includes('planted'));
}

test('a credential is replaced, after the cluster was asked with it, while a deployment runs', async () => {
  await deploy('shop', 'rotated');
  const before = await row();
  serve({ ...honest, token: second });
  const answer = await change({ token: second });
  assert.equal(answer.status, 200, answer.text);
  assert.ok(!answer.text.includes('planted'));
  const stored = await row();
  assert.equal(stored.clusterUid, before.clusterUid, 'claims on its objects stay');
  assert.equal(stored.id, before.id);
  const load = createClusterLoader({ db: api.db, vault: api.deps.vault });
  const key = { organisationId: tenant.organisationId, tenantId: tenant.tenantId, clusterId: stored.id };
  const loaded = await load(key, `${before.accessVersion} ${before.verifiedAt.toISOString()}`);
  assert.ok(loaded && loaded !== 'unchanged');
  assert.deepEqual(loaded.access.credential, { token: second });
});

test('a change that the cluster does not confirm changes nothing', async () => {
  const before = await row();
  serve({ ...honest, token: first });
  await refused(await change({ token: second }), 'cluster.refused', /does not accept this credential/, before);
  serve({ ...honest, allowed: ({ resource, verb }) => resource !== 'pods' || verb !== 'watch' });
  await refused(await change({ token: second }), 'cluster.permission', /may not watch pods/, before);
  await refused(await change({ kubeconfig: 'a: *b' }), 'cluster.refused', /kubeconfig/, before);
  await refused(await change({ caData: 'none', token: second }), 'cluster.refused', /PEM/, before);
});

test('a credential that leads to another cluster is refused, and so is one that cannot show that it does not', async () => {
  const before = await row();
  serve({ ...honest, uid: 'another-uid' });
  await refused(await change({ token: second }), 'cluster.refused', /leads to another cluster/, before);
  serve({ ...honest, uid: undefined });
  await refused(await change({ token: second }), 'cluster.permission', /may not get namespaces kube-system/, before);

  const others = await createAuthority('Other CA');
  const other = await startFakeApiServer(await others.issue('api', ['127.0.0.1']));
  other.answer(answerAsKubernetes(honest));
  const elsewhere = { server: other.url, caData: others.certificate, token: second };
  await refused(await change(elsewhere), 'cluster.refused', /leads to another cluster/, before);
  await other.close();
});

/** Registers a cluster whose credential may not read the uid of kube-system. */
async function registerByAddress(): Promise<string> {
  serve({ groups });
  const body = { name: `${name}-b`, server: fake.url, caData: authority.certificate, token: first };
  assert.equal((await api.call(tenant.admin, 'POST', '/clusters', { body })).status, 201);
  const { clusterUid } = await row();
  name = `${name}-b`;
  return clusterUid;
}

test('one that was registered without its uid goes by it once the credential may read it', async () => {
  const byUid = await registerByAddress();
  const before = await row();
  assert.notEqual(before.clusterUid, byUid);
  assert.equal((await verify()).status, 200);
  assert.equal((await row()).clusterUid, before.clusterUid, 'not before');
  serve(honest);
  const answer = await verify();
  assert.equal(answer.status, 200, answer.text);
  const after = await row();
  assert.equal(after.clusterUid, byUid, 'as all who register that cluster');
  assert.equal(after.accessVersion, before.accessVersion + 1, 'workers load it again');
  serve({ ...honest, uid: undefined });
  await refused(await verify(), 'cluster.permission', /may not get namespaces kube-system/, after);
});

test('the id of a cluster stays while a deployment is in progress, whose claims are under it', async () => {
  const byUid = await registerByAddress();
  const before = await row();
  await deploy('shop', 'claimed');
  serve(honest);
  const answer = await change({ token: second });
  assert.equal(answer.status, 200, answer.text);
  assert.equal((await row()).clusterUid, before.clusterUid);
  await scoped(api.worker, tenant, (tx) =>
    tx.deployment.updateMany({ where: { clusterId: before.id }, data: { done: true } }),
  );
  assert.equal((await verify()).status, 200);
  assert.equal((await row()).clusterUid, byUid);
});

test('the stored credential is never sent to another address, nor where another CA vouches', async () => {
  const before = await row();
  const other = await startFakeApiServer(await authority.issue('api', ['127.0.0.1']));
  const thieves: [object, string][] = [
    [{ server: other.url }, '/server'],
    [{ caData: authority.certificate }, '/caData'],
    [{ server: other.url, caData: authority.certificate }, '/server'],
    [{ server: other.url, namespaces: ['shop'] }, '/server'],
  ];
  for (const [body, path] of thieves) {
    const answer = await change(body);
    await refused(answer, 'cluster.refused', /stored credential is not sent to another address/, before);
    assert.ok(answer.text.includes(`"path":"${path}"`), answer.text);
  }
  assert.deepEqual(other.seen, []);
  // With the credential the address may change: the same cluster is reached in another way.
  other.answer(answerAsKubernetes(honest));
  const moved = await change({ server: other.url, token: second });
  assert.equal(moved.status, 200, moved.text);
  assert.equal((moved.json as { server: string }).server, other.url);
  await other.close();
});

test('namespaces and cluster-scoped kinds are changed, and asked for before', async () => {
  const reviews: Attributes[] = [];
  serve({ ...honest, allowed: ({ namespace }) => namespace !== undefined }, reviews);
  const refusedAll = await change({ namespaces: [] });
  assert.equal(refusedAll.status, 422);
  const answer = await change({ namespaces: ['shop', 'shop'], clusterScopedKinds: ['PriorityClass'] });
  assert.equal(answer.status, 200, answer.text);
  const { namespaces, clusterScopedKinds, verification } = answer.json as Record<string, unknown>;
  assert.deepEqual([namespaces, clusterScopedKinds], [['shop'], ['PriorityClass']]);
  const { missing } = verification as { missing: { verb: string; resource: string }[] };
  assert.ok(missing.some(({ resource }) => resource === 'priorityclasses.scheduling.k8s.io'));
  assert.ok(reviews.some(({ namespace, resource }) => namespace === 'shop' && resource === 'services'));
});

test('a namespace is not closed under a deployment in progress', async () => {
  const pipelineId = await deploy('shop', 'closed');
  const before = await row();
  const answer = await change({ namespaces: ['other'] });
  assert.equal(answer.status, 409, answer.text);
  assert.deepEqual(codesOf(answer), ['cluster.inUse']);
  assert.ok(answer.text.includes(`/pipelines/${pipelineId}`));
  assert.deepEqual(await row(), before);
  assert.equal((await change({ namespaces: ['other', 'shop'] })).status, 200);
});

test('mesh confirmation follows what is detected, or overrules it; both are shown', async () => {
  const mesh = ({ json }: Answer) => {
    const view = json as Record<string, unknown>;
    return [view.meshConfirmation, view.meshConfirmationSetting, view.meshConfirmationDetected];
  };
  assert.deepEqual(mesh(await verify()), ['stored', 'detected', 'stored']);
  // Needs no word with the cluster: it may be away just then.
  fake.answer((_request, response) => response.destroy());
  assert.deepEqual(mesh(await change({ meshConfirmation: 'linkerd-smi' })), ['linkerd-smi', 'linkerd-smi', 'stored']);
  serve(honest);
  assert.deepEqual(mesh(await verify()), ['linkerd-smi', 'linkerd-smi', 'stored'], 'an overruling stays');
  assert.deepEqual(mesh(await change({ meshConfirmation: 'detected' })), ['stored', 'detected', 'stored']);
});

test('verifying asks again and stores what it finds; where it fails it answers as registration and stores nothing', async () => {
  serve({ ...honest, version: 'v1.36.0', groups: { 'split.smi-spec.io': ['v1alpha1', 'v1alpha4'] } });
  const answer = await verify();
  assert.equal(answer.status, 200, answer.text);
  const view = answer.json as { version: string; trafficSplitVersion: string };
  assert.deepEqual([view.version, view.trafficSplitVersion], ['v1.36.0', 'split.smi-spec.io/v1alpha1']);
  const before = await row();
  serve({ ...honest, uid: 'rebuilt' });
  await refused(await verify(), 'cluster.refused', /leads to another cluster/, before);
  serve({ ...honest, token: second });
  await refused(await verify(), 'cluster.refused', /does not accept this credential/, before);
});

test('a token that says when it ends is shown with that', async () => {
  const claims = Buffer.from(JSON.stringify({ exp: 1_900_000_000 })).toString('base64url');
  const answer = await change({ token: `e30.${claims}.c2ln` });
  assert.equal(answer.status, 200, answer.text);
  const { verification } = answer.json as { verification: { credentialUntilIso8601: string } };
  assert.equal(verification.credentialUntilIso8601, '2030-03-17T17:46:40.000Z');
});

test('of changes at the same time none is lost', async () => {
  const answers = await Promise.all([
    change({ namespaces: ['shop'] }),
    change({ clusterScopedKinds: [] }),
    change({ meshConfirmation: 'linkerd-smi' }),
  ]);
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 200],
  );
  const { namespaces, clusterScopedKinds, meshConfirmation, accessVersion } = await row();
  assert.deepEqual([namespaces, clusterScopedKinds, meshConfirmation], [['shop'], [], 'linkerd-smi']);
  assert.equal(accessVersion, 3);
});

test('five verifications at once all succeed, and workers have nothing to load again', async () => {
  const { accessVersion } = await row();
  const answers = await Promise.all(Array.from({ length: 5 }, verify));
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 200, 200, 200],
  );
  assert.equal((await row()).accessVersion, accessVersion);
  serve({ ...honest, groups: { ...groups, 'linkerd.io': ['v1alpha2'] } });
  await scoped(api.db, tenant, (tx) =>
    tx.cluster.updateMany({ where: { name }, data: { meshConfirmation: 'linkerd-smi' } }),
  );
  assert.equal((await verify()).status, 200);
  const { meshConfirmation, accessVersion: later } = await row();
  assert.deepEqual([meshConfirmation, later], ['stored', accessVersion + 1], 'but what they load counts');
});

test('of five changes at once each is made, or told to come again later', async () => {
  const answers = await Promise.all(Array.from({ length: 5 }, (_, index) => change({ namespaces: [`shop-${index}`] })));
  const made = answers.filter(({ status }) => status === 200);
  assert.ok(made.length > 0);
  for (const answer of answers.filter(({ status }) => status !== 200)) {
    assert.deepEqual([answer.status, codesOf(answer)], [409, ['cluster.changing']], answer.text);
  }
});

test('a change that others always come before is told to come again later', async () => {
  const answer = answerAsKubernetes(honest);
  fake.answer((request, response) => {
    const bump = () =>
      scoped(api.db, tenant, (tx) =>
        tx.cluster.updateMany({ where: { name }, data: { accessVersion: { increment: 1 } } }),
      );
    (request.url === '/version' ? bump() : Promise.resolve()).then(() => answer(request, response));
  });
  const told = await change({ namespaces: ['shop'] });
  assert.deepEqual([told.status, codesOf(told)], [409, ['cluster.changing']], told.text);
  assert.equal(told.headers['retry-after'], '5');
  assert.deepEqual((await row()).namespaces, []);
});

test('a mesh setting that is not known fails by name, and never means that stored weights are trusted', async () => {
  const before = await row();
  await scoped(api.db, tenant, (tx) => tx.cluster.updateMany({ where: { name }, data: { meshConfirmation: 'istio' } }));
  const load = createClusterLoader({ db: api.db, vault: api.deps.vault });
  const key = { organisationId: tenant.organisationId, tenantId: tenant.tenantId, clusterId: before.id };
  await assert.rejects(load(key), /Invalid option/);
  await scoped(api.db, tenant, (tx) => tx.cluster.updateMany({ where: { name }, data: { meshSetting: 'istio' } }));
  assert.equal((await verify()).status, 500);
  assert.equal((await row()).meshConfirmation, 'istio', 'nothing is changed');
});

test('a change that changes nothing, or something unknown, is told', async () => {
  for (const [body, code] of [
    [{}, 'request.invalid'],
    [{ name: 'west', namespaces: [] }, 'field.unknown'],
    [{ meshConfirmation: 'maybe' }, 'field.enum'],
    [{ namespaces: ['Not A Name'] }, 'request.invalid'],
  ] as const) {
    const answer = await change(body);
    assert.deepEqual([answer.status, codesOf(answer)], [422, [code]], answer.text);
  }
});

test('verifying takes no fields, and names those that it is sent', async () => {
  const post = (body: unknown) => api.call(tenant.admin, 'POST', `/clusters/${name}/verify`, { body });
  const answer = await post({ deep: true });
  assert.deepEqual([answer.status, codesOf(answer)], [422, ['field.unknown']], answer.text);
  assert.match(answer.text, /Unknown field: deep\./);
  assert.deepEqual([(await post([])).status, (await post('')).status, (await post({})).status], [422, 200, 200]);
});

test('no log line of all this holds a credential', () => {
  for (const line of api.logs) assert.ok(!line.includes('planted'), line);
});
