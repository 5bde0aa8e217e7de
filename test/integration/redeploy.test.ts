import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import {
  codesOf,
  createTestTenant,
  insertCluster,
  openTestApi,
  plantedSecret,
  shopFile,
  type TestTenant,
} from '../support/api.ts';

after(() => api.close());
const api = await openTestApi('redeploy');

/** A tenant with two clusters and a pipeline that has ended. */
async function ended(name: string, more: Record<string, unknown> = {}): Promise<TestTenant & { pipelineId: string }> {
  const tenant = await createTestTenant(api, name);
  for (const cluster of ['east', 'west']) await insertCluster(api, tenant, cluster);
  const answer = await api.call(tenant.deployer, 'POST', '/pipelines', { body: shopFile(more) });
  const { pipelineId } = answer.json as { pipelineId: string };
  await end(pipelineId);
  return { ...tenant, pipelineId };
}

async function end(id: string): Promise<void> {
  await api.worker.prisma.pipeline.update({ where: { id }, data: { status: 'FAILED' }, select: { id: true } });
}

type Options = Parameters<typeof api.call>[3];
const redeploy = (tenant: TestTenant & { pipelineId: string }, options: Options = {}, query = '') =>
  api.call(tenant.deployer, 'POST', `/pipelines/${tenant.pipelineId}/redeploy${query}`, options);

const configOf = async ({ deployer }: TestTenant, id: string) =>
  (await api.call(deployer, 'GET', `/pipelines/${id}/config`)).json as Record<string, unknown>;

test('a pipeline is started again from all that was sent then, Secrets included', async () => {
  const tenant = await ended('again', { sourceControl: { sha: 'abc' } });
  const headers = { 'content-type': 'application/json' };
  for (const options of [
    {},
    { headers },
    { body: {} },
    { body: { account: '', targetFilters: null, context: null } },
  ]) {
    const answer = await redeploy(tenant, options);
    assert.equal(answer.status, 202, answer.text);
    const { pipelineId, deployments, warnings } = answer.json as Record<string, string> & { deployments: object[] };
    assert.equal(answer.headers.location, `/pipelines/${pipelineId}`);
    assert.deepEqual([deployments.length, warnings], [1, []]);
    const config = await configOf(tenant, String(pipelineId));
    assert.deepEqual(config, shopFile({ sourceControl: { sha: 'abc' } }));
    assert.ok(JSON.stringify(config).includes(plantedSecret));
    await end(String(pipelineId));
  }
});

test('what is given takes the place of what was sent, and holds for a redeploy of the redeploy', async () => {
  const tenant = await ended('changed', { context: { region: 'west', ring: '1' } });
  const body = { account: 'west', targetFilters: [{ includeTarget: 'prod' }], context: { ring: '2', colour: 'blue' } };
  const first = (await redeploy(tenant, { body })).json as { pipelineId: string };
  await end(first.pipelineId);
  const second = (await redeploy({ ...tenant, ...first })).json as { pipelineId: string };
  for (const { pipelineId } of [first, second]) {
    const config = await configOf(tenant, pipelineId);
    const context = { region: 'west', ring: '2', colour: 'blue' };
    assert.deepEqual(config, { ...shopFile(), ...body, context });
    const { environments } = (await api.call(tenant.deployer, 'GET', `/pipelines/${pipelineId}`)).json as {
      environments: object[];
    };
    assert.deepEqual(environments, [{ name: 'prod', namespace: 'shop', account: 'west' }]);
  }
});

test('a dry run of a redeploy stores nothing, and one Idempotency-Key starts one', async () => {
  const tenant = await ended('once');
  const dry = await redeploy(tenant, { body: { account: 'west' } }, '?dryRun=true');
  assert.equal(dry.status, 200, dry.text);
  assert.equal((dry.json as { targets: { account: string }[] }).targets[0]?.account, 'west');

  const headers = { 'idempotency-key': 'again' };
  const first = await redeploy(tenant, { headers });
  assert.equal(first.status, 202, first.text);
  assert.deepEqual((await redeploy(tenant, { headers })).json, first.json);
  assert.deepEqual(codesOf(await redeploy(tenant, { headers, body: { account: 'west' } })), ['idempotency.mismatch']);
  const { json } = await api.call(tenant.deployer, 'GET', '/pipelines');
  assert.equal((json as { pipelines: object[] }).pipelines.length, 2);
});

test('while the application is in progress, or with what does not fit, nothing starts', async () => {
  const tenant = await ended('refused');
  const cases: [object, number, string][] = [
    [{ account: 'north' }, 422, 'account.unknown'],
    [{ targetFilters: [{ includeTarget: 'qa' }] }, 422, 'ref.target'],
    [{ targetFilters: [{ target: 'prod' }] }, 422, 'field.unknown'],
    [{ targetFilters: 'prod' }, 422, 'field.type'],
    [{ context: { a: { b: 1 } } }, 422, 'field.type'],
    [{ application: 'other' }, 422, 'field.unknown'],
    [[], 422, 'field.type'],
  ];
  for (const [body, status, code] of cases) {
    const answer = await redeploy(tenant, { body });
    assert.equal(answer.status, status, answer.text);
    assert.ok(codesOf(answer).includes(code), answer.text);
  }
  assert.equal((await redeploy(tenant)).status, 202);
  assert.deepEqual(codesOf(await redeploy(tenant)), ['deployment.conflict']);
  assert.deepEqual(codesOf(await redeploy({ ...tenant, pipelineId: 'x' })), ['not.found']);
});
