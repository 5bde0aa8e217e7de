import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { DeploymentView } from '@cdaas/contract/deployments.ts';
import type { DryRunAnswer, StartAnswer } from '@cdaas/contract/pipelines.ts';
import { scoped } from '@cdaas/control-plane/database/db.ts';
import type { DeploymentState, RouteState } from '@cdaas/pipeline/deployment-state.ts';
import { codesOf, createTestTenant, insertCluster, openTestApi, shopFile, shopManifests } from '../support/api.ts';

/* How the API shows a target of several Deployments. */

after(() => api.close());
const api = await openTestApi('api_pairs');

const apiManifests = shopManifests.replaceAll(/\bweb\b/g, 'api');
const file = (more: Record<string, unknown> = {}) =>
  shopFile({
    files: { 'k8s/app.yaml': [`${shopManifests}\n---\n${apiManifests}`] },
    manifests: [{ path: 'k8s/app.yaml' }],
    trafficManagement: [{ smi: [{ rootServiceName: 'web' }, { rootServiceName: 'api' }] }],
    ...more,
  });

const route = (canary: number): RouteState => ({
  pinned: { root: true, canary: false },
  weights: { stable: 100 - canary, canary },
  confirmed: { stable: 100 - canary, canary },
  diverted: false,
});

async function startBoth(name: string) {
  const tenant = await createTestTenant(api, name);
  await insertCluster(api, tenant, 'east');
  const answer = await api.call(tenant.deployer, 'POST', '/pipelines/kubernetes', { body: file() });
  assert.equal(answer.status, 202, answer.text);
  const [deployment] = (answer.json as StartAnswer).deployments;
  const id = deployment?.id ?? '';
  const look = async () => {
    const { json } = await api.call(tenant.deployer, 'GET', `/deployments/${id}`);
    return (json as DeploymentView).kubernetes.canary;
  };
  const move = async (change: Partial<DeploymentState>) => {
    const { state } = await scoped(api.worker, tenant, (tx) => tx.deployment.findUniqueOrThrow({ where: { id } }));
    const moved = { ...(state as object), ...change };
    await scoped(api.worker, tenant, (tx) =>
      tx.deployment.update({ where: { id }, data: { state: moved }, select: { id: true } }),
    );
  };
  return { tenant, id, look, move };
}

test('a dry run names every Deployment and the refs of their steps', async () => {
  const tenant = await createTestTenant(api, 'dry');
  await insertCluster(api, tenant, 'east');
  const { json } = await api.call(tenant.deployer, 'POST', '/pipelines/kubernetes?dryRun=true', { body: file() });
  const [target] = (json as DryRunAnswer).targets;
  assert.deepEqual(
    target?.workloads.map(({ name }) => name),
    ['api', 'web'],
  );
  assert.deepEqual(
    target?.steps.slice(0, 3).map(({ ref }) => ref),
    ['canary-step-1-api', 'canary-step-1-web', 'canary-step-2'],
  );
});

test('a step that shifts traffic is shown for each Deployment, and the next step depends on all of them', async () => {
  const { look } = await startBoth('steps');
  const { steps } = await look();
  assert.deepEqual(
    steps.slice(0, 4).map(({ ref, dependsOn, deploymentKey }) => ({ ref, dependsOn, deploymentKey })),
    [
      { ref: 'canary-step-1-api', dependsOn: [], deploymentKey: 'api' },
      { ref: 'canary-step-1-web', dependsOn: [], deploymentKey: 'web' },
      { ref: 'canary-step-2', dependsOn: ['canary-step-1-api', 'canary-step-1-web'], deploymentKey: null },
      { ref: 'canary-step-3-api', dependsOn: ['canary-step-2'], deploymentKey: 'api' },
    ],
  );
});

test('the share of the new version is shown for each root Service, and the smallest of them for the target', async () => {
  const { look, move } = await startBoth('traffic');
  assert.deepEqual((await look()).traffic, [
    { service: 'api', deploymentKey: null, setWeight: null },
    { service: 'web', deploymentKey: null, setWeight: null },
  ]);
  await move({ routes: [route(60), route(10)] });
  const { traffic, setWeight } = await look();
  assert.deepEqual(
    traffic.map((each) => each.setWeight),
    [60, 10],
  );
  assert.equal(setWeight, 10);
});

test('a step that shifts traffic waits for nobody, whichever Deployment it is named for', async () => {
  const { tenant, id } = await startBoth('approve');
  const approve = (ref: string) => api.call(tenant.deployer, 'POST', `/deployments/${id}/steps/${ref}/approve`);
  assert.deepEqual(codesOf(await approve('canary-step-1-api')), ['step.state']);
  const unknown = await approve('canary-step-1-shop');
  assert.deepEqual(codesOf(unknown), ['not.found']);
  assert.match(unknown.text, /canary-step-1-api, canary-step-1-web, canary-step-2/);
});
