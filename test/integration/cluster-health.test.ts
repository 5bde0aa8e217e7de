import assert from 'node:assert/strict';
import { after, beforeEach, test } from 'node:test';
import { createClusterLoader } from '@cdaas/control-plane/clusters/access.ts';
import { type ClusterHealthDeps, checkCluster, judge, takeDueChecks } from '@cdaas/control-plane/clusters/health.ts';
import { scoped } from '@cdaas/control-plane/database/db.ts';
import { startHealthChecks } from '@cdaas/worker/health.ts';
import { createTestTenant, openTestApi } from '../support/api.ts';
import { createAuthority, json, refusal, startFakeApiServer } from '../support/fake-api-server.ts';
import { answerAsKubernetes } from '../support/fake-kubernetes.ts';
import { until } from '../support/until.ts';

after(async () => {
  await api.close();
  await fake.close();
});
const authority = await createAuthority();
const fake = await startFakeApiServer(await authority.issue('api', ['127.0.0.1']));
const api = await openTestApi('cluster_health');
const tenant = await createTestTenant(api, 'acme');
const token = 'planted-token';
// The worker's role: it sees which clusters are due, and their credentials one tenant at a time.
const deps: ClusterHealthDeps = {
  db: api.worker,
  loadCluster: createClusterLoader({ db: api.worker, vault: api.deps.vault }),
  outbound: api.deps.outbound,
  log: api.deps.log,
  everySeconds: 3600,
};
const never = new AbortController().signal;
let name = '';

beforeEach(async () => {
  await takeDueChecks(deps, 1000);
  name = `east-${Math.random().toString(36).slice(2, 8)}`;
  fake.answer(answerAsKubernetes({ uid: 'uid' }));
  const body = { name, server: fake.url, caData: authority.certificate, token };
  const answer = await api.call(tenant.admin, 'POST', '/clusters', { body });
  assert.equal(answer.status, 201, answer.text);
});

type Health = {
  state: string;
  sinceIso8601: string;
  checkedAtIso8601: string;
  lastSuccessAtIso8601: string;
  latencyMs: number | null;
  error: string | null;
  changes: { state: string; error: string | null }[];
};

async function health(): Promise<Health> {
  const { json: view } = await api.call(tenant.admin, 'GET', `/clusters/${name}`);
  return (view as { health: Health }).health;
}

/** Makes every check due, as time would. */
async function pass(): Promise<void> {
  await api.worker.prisma.clusterHealth.updateMany({ data: { nextCheckAt: new Date(0) } });
}

async function look(): Promise<number> {
  const due = await takeDueChecks(deps, 100);
  await Promise.all(due.map((taken) => checkCluster(deps, taken, never)));
  return due.length;
}

test('a cluster is looked at once it is registered, and again when its time has come', async () => {
  assert.equal(await look(), 1);
  const seen = await health();
  assert.deepEqual([seen.state, seen.error], ['healthy', null]);
  assert.ok(seen.latencyMs !== null && seen.latencyMs >= 0);
  assert.equal(seen.lastSuccessAtIso8601, seen.checkedAtIso8601);
  assert.equal(await look(), 0, 'its next time has not come');
});

test('since when it is away, what was wrong, and when it last answered are kept; so are the changes', async () => {
  await look();
  const before = await health();
  fake.answer((_request, response) => response.destroy());
  await pass();
  await look();
  const away = await health();
  assert.equal(away.state, 'unreachable');
  assert.match(away.error ?? '', /connection to the cluster was lost/);
  assert.equal(away.lastSuccessAtIso8601, before.lastSuccessAtIso8601);
  await pass();
  await look();
  const still = await health();
  assert.equal(still.sinceIso8601, away.sinceIso8601);
  assert.notEqual(still.checkedAtIso8601, away.checkedAtIso8601);
  fake.answer((_request, response) => refusal(response, 401, 'Unauthorized'));
  await pass();
  await look();
  assert.equal((await health()).state, 'refused');
  fake.answer(answerAsKubernetes({}));
  await pass();
  await look();
  const back = await health();
  assert.deepEqual([back.state, back.error], ['healthy', null]);
  assert.deepEqual(
    back.changes.map(({ state }) => state),
    ['healthy', 'refused', 'unreachable', 'healthy'],
    'one line a change, the newest first',
  );
  const list = await api.call(tenant.admin, 'GET', '/clusters');
  const { clusters } = list.json as { clusters: { name: string; state: string; health?: unknown }[] };
  const listed = clusters.find((cluster) => cluster.name === name);
  assert.deepEqual([listed?.state, listed?.health], ['healthy', undefined]);
  const shown = await api.call(tenant.deployer, 'GET', `/clusters/${name}`);
  assert.deepEqual(shown.json, { name }, 'who may only deploy sees the name');
});

test('the history of a cluster that comes and goes is bounded', async () => {
  for (let round = 0; round < 60; round += 1) {
    fake.answer(
      round % 2 === 0 ? answerAsKubernetes({}) : (_request, response) => refusal(response, 401, 'Unauthorized'),
    );
    await pass();
    await look();
  }
  const { changes } = await health();
  assert.equal(changes.length, 20, 'shown');
  const { id } = await clusterRow();
  assert.equal(await api.worker.prisma.clusterHealthChange.count({ where: { clusterId: id } }), 50, 'kept');
});

test('of several workers one takes each check, and a result that comes late is dropped', async () => {
  await pass();
  const rounds = await Promise.all([takeDueChecks(deps, 100), takeDueChecks(deps, 100), takeDueChecks(deps, 100)]);
  const taken = rounds.flat();
  assert.equal(new Set(taken.map(({ clusterId }) => clusterId)).size, taken.length);
  const { id } = await clusterRow();
  const [late] = taken.filter(({ clusterId }) => clusterId === id);
  assert.ok(late);
  await pass();
  await look();
  fake.answer((_request, response) => response.destroy());
  await checkCluster(deps, late, never);
  assert.equal((await health()).state, 'healthy', 'the later check stands');
});

test('organisations have their turns: one with many clusters that are long due delays nobody else', async () => {
  const body = { server: fake.url, caData: authority.certificate, token };
  for (const each of ['a', 'b', 'c']) {
    assert.equal(
      (await api.call(tenant.admin, 'POST', '/clusters', { body: { ...body, name: `${name}-${each}` } })).status,
      201,
    );
  }
  const other = await createTestTenant(api, 'other');
  assert.equal((await api.call(other.admin, 'POST', '/clusters', { body: { ...body, name: 'theirs' } })).status, 201);
  await pass();
  const { organisationId } = other;
  const since = new Date(Date.now() - 1000);
  await api.worker.prisma.clusterHealth.updateMany({ where: { organisationId }, data: { nextCheckAt: since } });
  const taken = await takeDueChecks(deps, 2);
  assert.deepEqual(taken.map((each) => each.organisationId).sort(), [tenant.organisationId, organisationId].sort());
});

test('what a cluster says is cut, shown as text, and never holds the credential', () => {
  const body = { kind: 'Status', message: `\u001b[31m${token}\n${'x'.repeat(900)}` };
  const { error } = judge({ kind: 'answered', status: 500, body }, 1, [token]);
  assert.match(error ?? '', /^the cluster answered 500: \[31m\[redacted\] x+…$/);
  assert.ok((error ?? '').length <= 300);
});

test('a check writes nothing to any pipeline, and a cluster that was forgotten takes its health along', async () => {
  await look();
  const events = await api.worker.prisma.event.count();
  fake.answer((_request, response) => response.destroy());
  await pass();
  await look();
  assert.equal(await api.worker.prisma.event.count(), events);
  const { id } = await clusterRow();
  assert.equal((await api.call(tenant.admin, 'DELETE', `/clusters/${name}`)).status, 204);
  assert.equal(await api.worker.prisma.clusterHealth.count({ where: { clusterId: id } }), 0);
  assert.equal(await api.worker.prisma.clusterHealthChange.count({ where: { clusterId: id } }), 0);
});

test('a worker does it by itself, and one cluster that never answers holds up none of the others', async () => {
  const hanging = await startFakeApiServer(await authority.issue('slow', ['127.0.0.1']));
  hanging.answer(answerAsKubernetes({ uid: 'slow' }));
  for (let index = 0; index < 3; index += 1) {
    const body = { name: `${name}-slow-${index}`, server: hanging.url, caData: authority.certificate, token };
    assert.equal((await api.call(tenant.admin, 'POST', '/clusters', { body })).status, 201);
  }
  const asked = Promise.withResolvers<void>();
  hanging.answer(() => asked.resolve());
  const checks = startHealthChecks(deps);
  await asked.promise;
  await until(async () => (await health()).state === 'healthy', 'the cluster that answers is seen');
  const started = Date.now();
  await checks.close();
  assert.ok(Date.now() - started < 5_000, 'it does not wait for answers when it stops');
  await hanging.close();
  assert.ok(!api.logs.some((line) => line.includes('planted')));
});

function clusterRow() {
  return scoped(api.worker, tenant, (tx) => tx.cluster.findFirstOrThrow({ where: { name }, select: { id: true } }));
}

// A server that is slow to say a little must not be mistaken for one that is away: latency is told, not judged.
test('how long it took to answer is kept', async () => {
  fake.answer((_request, response) => {
    setTimeout(() => json(response, 200, { gitVersion: 'v1.35.4' }), 120);
  });
  await look();
  const { state, latencyMs } = await health();
  assert.equal(state, 'healthy');
  assert.ok((latencyMs ?? 0) >= 100, String(latencyMs));
});
