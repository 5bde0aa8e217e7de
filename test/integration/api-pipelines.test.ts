import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { scoped } from '@cdaas/control-plane/database/db.ts';
import type { DeploymentState } from '@cdaas/pipeline/deployment-state.ts';
import {
  type Answer,
  codesOf,
  createTestTenant,
  insertCluster,
  openTestApi,
  plantedSecret,
  shopFile,
} from '../support/api.ts';

after(() => api.close());
const api = await openTestApi('api_pipelines');

/** A tenant with cluster `east`, for each test its own. */
async function tenantWithCluster(name: string) {
  const tenant = await createTestTenant(api, name);
  return { ...tenant, clusterId: await insertCluster(api, tenant, 'east') };
}
type Tenant = Awaited<ReturnType<typeof tenantWithCluster>>;

const start = (tenant: Tenant, body: unknown = shopFile(), headers: Record<string, string> = {}) =>
  api.call(tenant.deployer, 'POST', '/pipelines/kubernetes', { body, headers });

function pipelineIdOf(answer: Answer): string {
  assert.equal(answer.status, 202, answer.text);
  return (answer.json as { pipelineId: string }).pipelineId;
}

async function deploymentIdOf(tenant: Tenant, pipelineId: string): Promise<string> {
  const { json } = await api.call(tenant.deployer, 'GET', `/pipelines/${pipelineId}`);
  const [step] = (json as { steps: { deployment: { id: string } }[] }).steps;
  assert.ok(step);
  return step.deployment.id;
}

/** Puts a deployment into a state, as its driver would have. */
async function moveDeployment(tenant: Tenant, id: string, change: Partial<DeploymentState>): Promise<void> {
  const { state } = await scoped(api.worker, tenant, (tx) => tx.deployment.findUniqueOrThrow({ where: { id } }));
  const moved = { ...(state as object), ...change };
  const status = change.status ?? 'RUNNING';
  await scoped(api.worker, tenant, (tx) =>
    tx.deployment.update({ where: { id }, data: { state: moved, status }, select: { id: true } }),
  );
}

test('a start is stored whole before it is answered, and the worker is woken after', async () => {
  const tenant = await tenantWithCluster('start');
  const answer = await start(tenant, shopFile({ description: 'first', context: { region: 'west' } }), {
    'content-type': 'application/vnd.start.kubernetes.pipeline.v2+json',
    accept: 'application/vnd.start.kubernetes.pipeline.v2+json',
    'x-armory-client': 'armory-cli/1.2.3',
  });
  const id = pipelineIdOf(answer);
  const { json } = await api.call(tenant.deployer, 'GET', `/pipelines/${id}`);
  const view = json as Record<string, unknown> & { steps: { deployment: { id: string } }[] };
  const deploymentId = view.steps[0]?.deployment.id;
  assert.deepEqual(view, {
    id,
    application: 'shop',
    description: 'first',
    context: { region: 'west' },
    sourceControl: {},
    source: { product: 'armory-cli', version: '1.2.3' },
    environments: [{ name: 'prod', namespace: 'shop', account: 'east' }],
    status: 'RUNNING',
    initiatedBy: 'Deployments Full Access',
    startedAtIso8601: view.startedAtIso8601,
    completedAtIso8601: '',
    steps: [
      {
        ref: 'deploy-prod',
        type: 'deployment',
        status: 'NOT_STARTED',
        dependsOn: [],
        constraintFor: '',
        deployment: { id: deploymentId, environment: 'prod', step: 0, totalSteps: 4 },
      },
    ],
  });
  assert.deepEqual((answer.json as { deployments: object[] }).deployments, [{ target: 'prod', id: deploymentId }]);
  assert.ok(api.wakes.includes(`deployment ${deploymentId}`));
});

test('a start by YAML, by plain JSON and on the other path are all the same start', async () => {
  const yaml = JSON.stringify(shopFile());
  for (const [index, [url, type]] of [
    ['/pipelines/kubernetes', 'application/yaml'],
    ['/pipelines/kubernetes', 'application/json; charset=utf-8'],
    ['/pipelines', 'application/json'],
  ].entries()) {
    const tenant = await tenantWithCluster(`media-${index}`);
    const answer = await api.call(tenant.deployer, 'POST', String(url), {
      body: yaml,
      headers: { 'content-type': String(type) },
    });
    assert.equal(answer.status, 202, answer.text);
  }
});

test('a dry run validates and answers what would be done, and stores nothing', async () => {
  const tenant = await tenantWithCluster('dry-run');
  const answer = await api.call(tenant.deployer, 'POST', '/pipelines/kubernetes?dryRun=true', { body: shopFile() });
  assert.equal(answer.status, 200, answer.text);
  const { targets } = answer.json as { targets: { steps: object[]; objects: string[] }[] };
  assert.deepEqual(targets[0]?.steps[0], { ref: 'canary-step-1-web', type: 'setWeight', setWeight: 10 });
  assert.deepEqual(targets[0]?.objects, ['Service shop/web', 'Secret shop/web']);
  const { json } = await api.call(tenant.deployer, 'GET', '/pipelines');
  assert.deepEqual((json as { pipelines: object[] }).pipelines, []);
});

test('every violation of a file is told at once, with its place', async () => {
  const tenant = await tenantWithCluster('violations');
  const body = `application: shop
targets:
  prod: { account: west, namespace: shop, strategy: slow }
manifests:
- inline: ""
strategies:
  slow:
    canary:
      steps:
      - setWeight: { weight: 150 }
      - pause: { untilApproved: true, requiresRoles: [lead] }
`;
  const answer = await start(tenant, body, { 'content-type': 'application/yaml' });
  assert.equal(answer.status, 422, answer.text);
  const { errors } = answer.json as { errors: { code: string; metadata: Record<string, string> }[] };
  const weight = errors.find(({ code }) => code === 'weight.range');
  assert.equal(weight?.metadata.path, '/strategies/slow/canary/steps/0/setWeight/weight');
  assert.equal(weight?.metadata.line, '10');
  assert.ok(errors.some(({ code }) => code === 'account.unknown'));
  assert.ok(errors.some(({ code }) => code === 'step.unsupported'));
});

test('a second start of the application is refused with the link of the first, exit code 3 for old clients', async () => {
  const tenant = await tenantWithCluster('conflict');
  const id = pipelineIdOf(await start(tenant));
  const answer = await start(tenant);
  assert.equal(answer.status, 409);
  assert.deepEqual(codesOf(answer), ['deployment.conflict']);
  const [error] = (answer.json as { errors: { message: string; metadata: { link: string } }[] }).errors;
  assert.equal(error?.metadata.link, `http://127.0.0.1:8080/pipelines/${id}`);
  assert.ok(error.message.includes(id));
});

test('a start repeated with its Idempotency-Key answers as the first time and starts nothing', async () => {
  const tenant = await tenantWithCluster('idempotent');
  const key = { 'idempotency-key': 'build-17' };
  const id = pipelineIdOf(await start(tenant, shopFile(), key));
  assert.equal(pipelineIdOf(await start(tenant, shopFile(), key)), id);
  const other = await start(tenant, shopFile({ description: 'changed' }), key);
  assert.equal(other.status, 422);
  assert.deepEqual(codesOf(other), ['idempotency.mismatch']);
  const { json } = await api.call(tenant.deployer, 'GET', '/pipelines');
  assert.equal((json as { pipelines: object[] }).pipelines.length, 1);
});

test('of many starts with one Idempotency-Key at once, one pipeline comes', async () => {
  const tenant = await tenantWithCluster('race');
  const key = { 'idempotency-key': 'race' };
  const answers = await Promise.all(Array.from({ length: 12 }, () => start(tenant, shopFile(), key)));
  const ids = new Set(answers.filter(({ status }) => status === 202).map(pipelineIdOf));
  assert.equal(ids.size, 1);
  for (const answer of answers.filter(({ status }) => status !== 202)) {
    assert.deepEqual(codesOf(answer), ['idempotency.running']);
    assert.equal(answer.headers['retry-after'], '1');
  }
  const { json } = await api.call(tenant.deployer, 'GET', '/pipelines');
  assert.equal((json as { pipelines: object[] }).pipelines.length, 1);
});

test('of many starts of one application at once, one is taken', async () => {
  const tenant = await tenantWithCluster('reject-race');
  const answers = await Promise.all(Array.from({ length: 8 }, () => start(tenant)));
  assert.equal(answers.filter(({ status }) => status === 202).length, 1);
  assert.equal(answers.filter(({ status }) => status === 409).length, 7);
});

test('an object that a running deployment holds is refused, and who holds it is told within the tenant only', async () => {
  const tenant = await tenantWithCluster('claims');
  const id = pipelineIdOf(await start(tenant));
  const deploymentId = await deploymentIdOf(tenant, id);
  const { clusterUid } = await scoped(api.db, tenant, (tx) =>
    tx.cluster.findUniqueOrThrow({ where: { id: tenant.clusterId } }),
  );
  const { organisationId, tenantId } = tenant;
  await scoped(api.worker, tenant, (tx) =>
    tx.objectClaim.createMany({
      data: [{ clusterUid, namespace: 'shop', kind: 'Service', name: 'web', deploymentId, organisationId, tenantId }],
    }),
  );
  assert.deepEqual(
    codesOf(await start(tenant)),
    ['deployment.conflict'],
    'of the application itself, before its objects',
  );
  const mine = await start(tenant, shopFile({ application: 'shop-two' }));
  assert.deepEqual(codesOf(mine), ['object.claimed']);
  assert.equal(mine.status, 409);
  assert.ok(mine.text.includes(deploymentId));

  const stranger = await createTestTenant(api, 'stranger');
  await insertCluster(api, stranger, 'east', { clusterUid });
  const theirs = await start({ ...stranger, clusterId: '' });
  assert.deepEqual(codesOf(theirs), ['object.claimed']);
  for (const word of [deploymentId, id, organisationId, tenantId]) assert.ok(!theirs.text.includes(word), word);
});

test('namespaces and cluster-scoped kinds outside of the cluster’s lists are refused', async () => {
  const tenant = await createTestTenant(api, 'limits');
  await insertCluster(api, tenant, 'east', { namespaces: ['elsewhere'] });
  const manifests = [
    ...(shopFile().manifests as object[]),
    { inline: 'apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: { name: mine }\n' },
  ];
  const answer = await start({ ...tenant, clusterId: '' }, shopFile({ manifests }));
  assert.equal(answer.status, 422, answer.text);
  assert.deepEqual(codesOf(answer).sort(), ['field.enum', 'manifest.kind']);
});

test('the config comes back as it was sent, Secrets included, for those who may start', async () => {
  const tenant = await tenantWithCluster('config');
  const id = pipelineIdOf(await start(tenant));
  const answer = await api.call(tenant.deployer, 'GET', `/pipelines/${id}/config`);
  assert.deepEqual(answer.json, shopFile());
  assert.ok(answer.text.includes(plantedSecret));
  for (const url of [`/pipelines/${id}`, `/pipelines/${id}/events`, '/pipelines']) {
    assert.ok(!(await api.call(tenant.deployer, 'GET', url)).text.includes(plantedSecret), url);
  }
});

test('pipelines are listed newest first, by pages and by filters', async () => {
  const tenant = await tenantWithCluster('list');
  const ids: string[] = [];
  for (const application of ['a', 'b', 'c']) ids.push(pipelineIdOf(await start(tenant, shopFile({ application }))));
  const list = async (query: string) => {
    const answer = await api.call(tenant.deployer, 'GET', `/pipelines?${query}`);
    assert.equal(answer.status, 200, answer.text);
    return answer.json as { pipelines: { id: string }[]; next: string | null };
  };
  const first = await list('limit=2');
  assert.deepEqual(
    first.pipelines.map(({ id }) => id),
    [ids[2], ids[1]],
  );
  assert.ok(first.next);
  const second = await list(`limit=2&cursor=${first.next}`);
  assert.deepEqual(
    second.pipelines.map(({ id }) => id),
    [ids[0]],
  );
  assert.equal(second.next, null);
  assert.deepEqual(
    (await list('application=b')).pipelines.map(({ id }) => id),
    [ids[1]],
  );
  assert.equal((await list('status=RUNNING')).pipelines.length, 3);
  assert.equal((await list('status=SUCCEEDED')).pipelines.length, 0);

  const waiting = await deploymentIdOf(tenant, String(ids[0]));
  await moveDeployment(tenant, waiting, { status: 'AWAITING_APPROVAL' });
  assert.deepEqual(
    (await list('status=AWAITING_APPROVAL')).pipelines.map(({ id }) => id),
    [ids[0]],
  );
  assert.equal((await list('status=RUNNING')).pipelines.length, 2);
});

test('a deployment says under both paths what it is, what it waits for and what it will do', async () => {
  const tenant = await tenantWithCluster('deployment');
  const pipelineId = pipelineIdOf(await start(tenant));
  const id = await deploymentIdOf(tenant, pipelineId);
  const answer = await api.call(tenant.deployer, 'GET', `/deployments/${id}`);
  assert.equal(answer.status, 200, answer.text);
  const view = answer.json as {
    parentPipelineId: string;
    phase: string;
    kubernetes: { canary: { totalSteps: number; steps: { ref: string; type: string }[] } };
    leftInCluster: string[];
  };
  assert.equal(view.parentPipelineId, pipelineId);
  assert.equal(view.phase, 'NOT_STARTED');
  assert.deepEqual(view.leftInCluster, []);
  assert.deepEqual(
    view.kubernetes.canary.steps.map(({ ref }) => ref),
    ['canary-step-1-web', 'canary-step-2', 'canary-step-3-web', 'canary-step-4'],
  );
  const old = await api.call(tenant.deployer, 'GET', `/deploy-engine/deployments/${id}`);
  assert.deepEqual(old.json, answer.json);

  await moveDeployment(tenant, id, { status: 'ROLLING_BACK', leftInCluster: ['kubectl delete service x'] });
  const { json } = await api.call(tenant.deployer, 'GET', `/deployments/${id}`);
  const moved = json as { status: string; phase: string; leftInCluster: string[] };
  assert.deepEqual([moved.status, moved.phase], ['RUNNING', 'ROLLING_BACK']);
  assert.deepEqual(moved.leftInCluster, ['kubectl delete service x']);
});

test('a deployment lists the objects that still stand, and says why it turns back while it does', async () => {
  const tenant = await tenantWithCluster('objects');
  const id = await deploymentIdOf(tenant, pipelineIdOf(await start(tenant)));
  const { organisationId, tenantId } = tenant;
  const row = { deploymentId: id, organisationId, tenantId, namespace: 'shop', action: 'created' };
  const data = [
    { ...row, slot: 'canary.0', apiVersion: 'v1', kind: 'Service', name: 'web-canary' },
    { ...row, slot: 'newReplicaSet.0', apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web-abc' },
  ];
  await scoped(api.worker, tenant, (tx) => tx.ownedObject.createMany({ data }));
  const stands = { uid: 'u', resourceVersion: '1', made: 'created' as const };
  await moveDeployment(tenant, id, {
    status: 'ROLLING_BACK',
    rollBack: { reason: 'the new version lost its pods', outcome: 'FAILED' },
    objects: { 'newReplicaSet.0': stands },
  });
  const { json } = await api.call(tenant.deployer, 'GET', `/deployments/${id}`);
  const view = json as { error: string; kubernetes: { deployedObjects: { name: string }[] } };
  assert.deepEqual(
    view.kubernetes.deployedObjects.map(({ name }) => name),
    ['web-abc'],
  );
  assert.equal(view.error, 'the new version lost its pods');
});

test('only the step that waits for approval can be approved, and the wish is news for the driver', async () => {
  const tenant = await tenantWithCluster('approve');
  const pipelineId = pipelineIdOf(await start(tenant));
  const id = await deploymentIdOf(tenant, pipelineId);
  const approve = (ref: string) => api.call(tenant.deployer, 'POST', `/deployments/${id}/steps/${ref}/approve`);
  const early = await approve('canary-step-2');
  assert.equal(early.status, 409);
  assert.deepEqual(codesOf(early), ['step.state']);
  assert.equal((await approve('canary-step-9')).status, 404);

  await moveDeployment(tenant, id, awaitingApproval());
  assert.deepEqual(codesOf(await approve('canary-step-4')), ['step.state']);
  const taken = await approve('canary-step-2');
  assert.equal(taken.status, 202, taken.text);
  const phase = 'AWAITING_APPROVAL';
  assert.deepEqual(taken.json, { id, accepted: 'approve', status: phase, phase });
  const events = await eventsOf(tenant, pipelineId);
  const { type, deploymentId, data } = events.at(-1) ?? {};
  assert.deepEqual(
    { type, deploymentId, data },
    {
      type: 'approved',
      deploymentId: id,
      data: { ref: 'canary-step-2', by: 'Deployments Full Access' },
    },
  );
  assert.ok(api.wakes.filter((wake) => wake === `deployment ${id}`).length >= 2);
});

test('a step is approved once, by one of several people who do it at the same moment', async () => {
  const tenant = await tenantWithCluster('approve-once');
  const pipelineId = pipelineIdOf(await start(tenant));
  const id = await deploymentIdOf(tenant, pipelineId);
  await moveDeployment(tenant, id, awaitingApproval());
  const approve = () => api.call(tenant.deployer, 'POST', `/deployments/${id}/steps/canary-step-2/approve`);
  const answers = await Promise.all([approve(), approve(), approve()]);
  assert.deepEqual(answers.map(({ status }) => status).sort(), [202, 409, 409]);
  const refused = answers.find(({ status }) => status === 409);
  assert.deepEqual(refused && codesOf(refused), ['step.state']);
  assert.equal((await eventsOf(tenant, pipelineId)).filter(({ type }) => type === 'approved').length, 1);
});

test('an approval that the row has moved past meanwhile is refused', async () => {
  const tenant = await tenantWithCluster('approve-late');
  const id = await deploymentIdOf(tenant, pipelineIdOf(await start(tenant)));
  const approve = () => api.call(tenant.deployer, 'POST', `/deployments/${id}/steps/canary-step-2/approve`);
  await moveDeployment(tenant, id, awaitingApproval());
  const setStatus = (status: string) =>
    scoped(api.worker, tenant, (tx) => tx.deployment.update({ where: { id }, data: { status }, select: { id: true } }));
  // The state as it was read, the row as it is when the event is to be appended.
  for (const [status, code] of [
    ['ROLLING_BACK', 'step.state'],
    ['FINISHING', 'deployment.finishing'],
  ] as const) {
    await setStatus(status);
    const late = await approve();
    assert.equal(late.status, 409);
    assert.deepEqual(codesOf(late), [code]);
  }
});

test('a roll back is taken until the point of no return, then refused with the reason', async () => {
  const tenant = await tenantWithCluster('rollback');
  const pipelineId = pipelineIdOf(await start(tenant));
  const id = await deploymentIdOf(tenant, pipelineId);
  const rollBack = () => api.call(tenant.deployer, 'POST', `/deployments/${id}/rollback`);
  const accepted = await rollBack();
  assert.equal(accepted.status, 202);
  assert.equal((accepted.json as { accepted: string }).accepted, 'rollback');
  assert.equal((await eventsOf(tenant, pipelineId)).at(-1)?.type, 'rollBackRequested');
  assert.equal((await rollBack()).status, 202);
  const asked = (await eventsOf(tenant, pipelineId)).filter(({ type }) => type === 'rollBackRequested');
  assert.equal(asked.length, 1, 'asking again changes nothing');

  await moveDeployment(tenant, id, { ...pastReturn(), status: 'FINISHING' });
  const late = await rollBack();
  assert.equal(late.status, 409);
  assert.deepEqual(codesOf(late), ['deployment.finishing']);
  assert.match(late.text, /redeploy the previous pipeline/);

  await moveDeployment(tenant, id, { status: 'SUCCEEDED', completedAt: '2031-01-02T03:04:05.000Z' });
  assert.deepEqual(codesOf(await rollBack()), ['deployment.final']);
});

test('a cancel is taken once, changes nothing again, and is refused when nothing can stop any more', async () => {
  const tenant = await tenantWithCluster('cancel');
  const pipelineId = pipelineIdOf(await start(tenant));
  const id = await deploymentIdOf(tenant, pipelineId);
  const cancel = () => api.call(tenant.deployer, 'POST', `/pipelines/${pipelineId}/cancel`);
  await moveDeployment(tenant, id, { ...pastReturn(), status: 'FINISHING' });
  assert.deepEqual(codesOf(await cancel()), ['deployment.finishing']);
  await moveDeployment(tenant, id, { status: 'PAUSED', at: 'P.survey', noReturn: false, survey: null });
  const taken = await cancel();
  assert.equal(taken.status, 202, taken.text);
  assert.deepEqual(taken.json, { id: pipelineId, accepted: 'cancel', status: 'PAUSED' });
  const events = await eventsOf(tenant, pipelineId);
  assert.equal(events.at(-1)?.type, 'cancelRequested');
  assert.equal(events.at(-1)?.deploymentId, null);
  assert.ok(api.wakes.includes(`pipeline ${pipelineId}`));

  // Asking again adds nothing, neither before the worker has folded it nor after.
  assert.equal((await cancel()).status, 202);
  assert.equal((await eventsOf(tenant, pipelineId)).length, events.length);
  const { state } = await scoped(api.worker, tenant, (tx) =>
    tx.pipeline.findUniqueOrThrow({ where: { id: pipelineId } }),
  );
  const folded = { ...(state as object), cancelledBy: 'Deployments Full Access' };
  const data = { state: folded };
  await scoped(api.worker, tenant, (tx) =>
    tx.pipeline.update({ where: { id: pipelineId }, data, select: { id: true } }),
  );
  assert.equal((await cancel()).status, 202);
  assert.equal((await eventsOf(tenant, pipelineId)).length, events.length);
  await scoped(api.worker, tenant, (tx) =>
    tx.pipeline.update({ where: { id: pipelineId }, data: { status: 'CANCELLED' }, select: { id: true } }),
  );
  assert.deepEqual(codesOf(await cancel()), ['deployment.final']);
});

test('old clients that send a content type without a body are served', async () => {
  const tenant = await tenantWithCluster('empty-body');
  const pipelineId = pipelineIdOf(await start(tenant));
  const headers = { 'content-type': 'application/json' };
  assert.equal((await api.call(tenant.deployer, 'GET', `/pipelines/${pipelineId}`, { headers })).status, 200);
  const cancelled = await api.call(tenant.deployer, 'POST', `/pipelines/${pipelineId}/cancel`, { headers });
  assert.equal(cancelled.status, 202, cancelled.text);
});

async function eventsOf(tenant: Tenant, pipelineId: string) {
  const { json } = await api.call(tenant.deployer, 'GET', `/pipelines/${pipelineId}/events`);
  return (json as { events: { number: number; type: string; deploymentId: string | null; data: object }[] }).events;
}

const old = { name: 'web-old', hash: 'old0000000', uid: 'u', resourceVersion: '1', pods: 2, ready: 2 };
const survey = {
  problems: [],
  warnings: [],
  workloads: [{ mode: 'canary' as const, old }],
  routes: [{ root: null, canary: null }],
  pairs: [0],
  existing: [],
  leftovers: [],
  splitApiVersion: 'split.smi-spec.io/v1alpha2',
  meshConfirmation: 'stored' as const,
};

function awaitingApproval(): Partial<DeploymentState> {
  return { status: 'AWAITING_APPROVAL', at: 'step.2', survey, startedAt: '2031-01-02T03:04:05.000Z' };
}

function pastReturn(): Partial<DeploymentState> {
  return { at: 'F4.delete.0', noReturn: true, survey, startedAt: '2031-01-02T03:04:05.000Z' };
}
