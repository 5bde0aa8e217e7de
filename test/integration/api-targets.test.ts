import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { scoped } from '@cdaas/control-plane/database/db.ts';
import { codesOf, createTestTenant, shopFile as fileOfOne, insertCluster, openTestApi } from '../support/api.ts';

after(() => api.close());
const api = await openTestApi('api_targets');

const shopFile = (more: Record<string, unknown>) =>
  fileOfOne({ trafficManagement: [{ smi: [{ rootServiceName: 'web' }] }], ...more });

const target = (namespace: string, ...dependsOn: string[]) => ({
  account: 'east',
  namespace,
  strategy: 'slow',
  ...(dependsOn.length === 0 ? {} : { constraints: { dependsOn } }),
});
const targets = {
  prod: target('shop-prod', 'staging', 'eu'),
  staging: target('shop-staging'),
  eu: target('shop-eu', 'staging'),
};

async function tenantWithCluster(name: string) {
  const tenant = await createTestTenant(api, name);
  await insertCluster(api, tenant, 'east');
  return tenant;
}
type Tenant = Awaited<ReturnType<typeof tenantWithCluster>>;

async function started(tenant: Tenant, file = shopFile({ targets })) {
  const answer = await api.call(tenant.deployer, 'POST', '/pipelines/kubernetes', { body: file });
  assert.equal(answer.status, 202, answer.text);
  return answer.json as {
    pipelineId: string;
    deployments: { target: string; id: string }[];
    warnings: string[];
  };
}

test('a start answers its deployments in the order of the file, and only those begin that wait for none', async () => {
  const tenant = await tenantWithCluster('order');
  const { pipelineId, deployments } = await started(tenant);
  assert.deepEqual(
    deployments.map((deployment) => deployment.target),
    ['prod', 'staging', 'eu'],
  );
  const idOf = (name: string) => deployments.find((deployment) => deployment.target === name)?.id;
  const woken = deployments.filter(({ id }) => api.wakes.includes(`deployment ${id}`));
  assert.deepEqual(woken, [{ target: 'staging', id: idOf('staging') }]);

  const { json } = await api.call(tenant.deployer, 'GET', `/pipelines/${pipelineId}`);
  const { environments, steps, status } = json as {
    environments: { name: string }[];
    steps: { ref: string; dependsOn: string[]; status: string; deployment: { id: string; environment: string } }[];
    status: string;
  };
  assert.equal(status, 'RUNNING');
  assert.deepEqual(environments, [
    { name: 'prod', namespace: 'shop-prod', account: 'east' },
    { name: 'staging', namespace: 'shop-staging', account: 'east' },
    { name: 'eu', namespace: 'shop-eu', account: 'east' },
  ]);
  assert.deepEqual(
    steps.map((step) => [step.ref, step.dependsOn, step.status, step.deployment.id]),
    [
      ['deploy-prod', ['deploy-staging', 'deploy-eu'], 'NOT_STARTED', idOf('prod')],
      ['deploy-staging', [], 'NOT_STARTED', idOf('staging')],
      ['deploy-eu', ['deploy-staging'], 'NOT_STARTED', idOf('eu')],
    ],
  );

  const stored = await scoped(api.worker, tenant, (tx) =>
    tx.deployment.findMany({ where: { pipelineId }, select: { target: true, status: true, wakeAt: true } }),
  );
  assert.deepEqual(stored.map((row) => [row.target, row.status, row.wakeAt !== null]).sort(), [
    ['eu', 'WAITING', false],
    ['prod', 'WAITING', false],
    ['staging', 'NOT_STARTED', true],
  ]);
});

test('a deployment that waits says for which targets, and that it has not begun', async () => {
  const tenant = await tenantWithCluster('waiting');
  const { deployments } = await started(tenant);
  const views = await Promise.all(
    deployments.map(async ({ id }) => (await api.call(tenant.deployer, 'GET', `/deployments/${id}`)).json),
  );
  assert.deepEqual(
    (views as Record<string, unknown>[]).map(({ environment, status, phase, waitingFor }) => [
      environment,
      status,
      phase,
      waitingFor,
    ]),
    [
      ['prod', 'NOT_STARTED', 'WAITING', "the targets 'staging', 'eu' to succeed"],
      ['staging', 'NOT_STARTED', 'NOT_STARTED', null],
      ['eu', 'NOT_STARTED', 'WAITING', "target 'staging' to succeed"],
    ],
  );
});

test('events say which target they are about', async () => {
  const tenant = await tenantWithCluster('events');
  const { pipelineId, deployments } = await started(tenant);
  const { json } = await api.call(tenant.deployer, 'GET', `/pipelines/${pipelineId}/events`);
  const { events } = json as { events: { type: string; deploymentId: string | null; target: string | null }[] };
  assert.deepEqual(
    events.map((event) => [event.type, event.target, event.deploymentId]),
    [
      ['pipelineStarted', null, null],
      ['started', 'staging', deployments[1]?.id],
    ],
  );
});

test('a dry run says what depends on what', async () => {
  const tenant = await tenantWithCluster('dry');
  const answer = await api.call(tenant.deployer, 'POST', '/pipelines/kubernetes?dryRun=true', {
    body: shopFile({ targets }),
  });
  assert.equal(answer.status, 200, answer.text);
  assert.deepEqual(
    (answer.json as { targets: { name: string; dependsOn: string[] }[] }).targets.map((planned) => [
      planned.name,
      planned.dependsOn,
    ]),
    [
      ['prod', ['staging', 'eu']],
      ['staging', []],
      ['eu', ['staging']],
    ],
  );
});

test('of targets that targetFilters leave out nothing is stored, nobody waits for them, and the answer says so', async () => {
  const tenant = await tenantWithCluster('filters');
  const targetFilters = [{ includeTarget: 'prod' }, { includeTarget: 'eu' }];
  const { pipelineId, deployments, warnings } = await started(tenant, shopFile({ targets, targetFilters }));
  assert.deepEqual(
    deployments.map((deployment) => deployment.target),
    ['prod', 'eu'],
  );
  assert.deepEqual(warnings, [
    "target 'prod' does not wait for 'staging', which targetFilters leave out",
    "target 'eu' does not wait for 'staging', which targetFilters leave out",
  ]);
  const { json } = await api.call(tenant.deployer, 'GET', `/pipelines/${pipelineId}`);
  assert.deepEqual(
    (json as { steps: { ref: string; dependsOn: string[] }[] }).steps.map((step) => [step.ref, step.dependsOn]),
    [
      ['deploy-prod', ['deploy-eu']],
      ['deploy-eu', []],
    ],
  );
});

test('a roll back and a cancel are taken while targets wait, and a second start is refused', async () => {
  const tenant = await tenantWithCluster('people');
  const { pipelineId, deployments } = await started(tenant);
  const second = await api.call(tenant.deployer, 'POST', '/pipelines/kubernetes', { body: shopFile({ targets }) });
  assert.deepEqual([second.status, codesOf(second)], [409, ['deployment.conflict']]);
  const prod = deployments[0]?.id;
  const back = await api.call(tenant.deployer, 'POST', `/deployments/${prod}/rollback`);
  assert.deepEqual(back.json, { id: prod, accepted: 'rollback', status: 'NOT_STARTED', phase: 'WAITING' });
  const cancel = await api.call(tenant.deployer, 'POST', `/pipelines/${pipelineId}/cancel`);
  assert.deepEqual(cancel.json, { id: pipelineId, accepted: 'cancel', status: 'RUNNING' });
});

test('two targets in one place are refused with all else that is wrong about places', async () => {
  const tenant = await tenantWithCluster('places');
  const answer = await api.call(tenant.deployer, 'POST', '/pipelines/kubernetes', {
    body: shopFile({ targets: { one: target('shop'), two: target('shop'), three: target('shop') } }),
  });
  assert.equal(answer.status, 422, answer.text);
  assert.deepEqual(codesOf(answer), ['traffic.conflict', 'traffic.conflict']);
});
