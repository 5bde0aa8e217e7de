import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import type { ClusterLimits } from '@cdaas/control-plane/clusters/limits.ts';
import { performEffect } from '@cdaas/control-plane/drivers/effects.ts';
import { createKubeClient } from '@cdaas/control-plane/drivers/kube.ts';
import { decideDeployment } from '@cdaas/pipeline/deployment-machine.ts';
import { type DeploymentState, initialState, type WriteEffect } from '@cdaas/pipeline/deployment-state.ts';
import type { DeploymentPlan } from '@cdaas/pipeline/plan.ts';
import { namespace, newHash, samplePlan } from '@cdaas/pipeline/testing/samples.ts';
import { createAuthority, type FakeApiServer, json, startFakeApiServer } from '../support/fake-api-server.ts';
import { allowing, token } from '../support/kube-outcomes.ts';

// A plan was checked against the limits of its cluster when it was started (cluster-limits.ts). The driver checks again,
// because the registration may have changed since, and because only the cluster knows which custom kinds lie outside of
// namespaces: a manifest can be written as if they did not.

let server: FakeApiServer;
let caData: string;
before(async () => {
  const authority = await createAuthority();
  caData = authority.certificate;
  server = await startFakeApiServer(await authority.issue('api', ['127.0.0.1']));
});
after(() => server.close());
beforeEach(() => {
  server.seen.length = 0;
  server.answer((request, response) => {
    const path = (request.url ?? '').split('?')[0] ?? '';
    const resources = served[path];
    if (resources) return json(response, 200, { kind: 'APIResourceList', groupVersion: groupOf(path), resources });
    if (/\/(services|pods|replicasets|deployments)$/.test(path) && request.method === 'GET') {
      return json(response, 200, { kind: 'List', apiVersion: 'v1', metadata: { resourceVersion: '1' }, items: [] });
    }
    // Of an object an API server says which it did not find; nothing else is believed.
    const status = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', reason: 'NotFound', code: 404 };
    const name = path.split('/').at(-1);
    json(response, 404, { ...status, message: `${name} not found`, details: { name } });
  });
});

const groupOf = (path: string) => path.replace(/^\/apis?\//, '');
const served: Record<string, { name: string; kind: string; namespaced: boolean }[]> = {
  '/api/v1': ['Service', 'Pod', 'ConfigMap'].map((kind) => {
    return { name: `${kind.toLowerCase()}s`, kind, namespaced: true };
  }),
  '/apis/apps/v1': ['Deployment', 'ReplicaSet'].map((kind) => {
    return { name: `${kind.toLowerCase()}s`, kind, namespaced: true };
  }),
  '/apis/apiextensions.k8s.io/v1': [
    { name: 'customresourcedefinitions', kind: 'CustomResourceDefinition', namespaced: false },
  ],
  '/apis/policies.example.org/v1': [{ name: 'clusterrules', kind: 'ClusterRule', namespaced: false }],
};

// As the parser leaves a custom kind that it does not know: in the namespace of its target.
const disguised = { apiVersion: 'policies.example.org/v1', kind: 'ClusterRule', metadata: { name: 'all', namespace } };

function planWith(objects: DeploymentPlan['objects']): DeploymentPlan {
  return { ...samplePlan(), objects };
}

async function perform(plan: DeploymentPlan, state: DeploymentState, limits: Partial<ClusterLimits>) {
  assert.ok(state.effect);
  const client = createKubeClient({
    server: server.url,
    caData,
    credential: { token },
    outbound: allowing(server.port),
  });
  const performed = await performEffect({
    client,
    state,
    plan,
    effect: state.effect,
    version: 1,
    instance: 'here',
    meshConfirmation: 'stored',
    limits: { name: 'east', namespaces: [], clusterScopedKinds: [], ...limits },
    finalAmong: async () => new Set(),
    previousForm: async () => undefined,
    now: () => new Date(at),
  });
  await client.close();
  assert.ok(performed.kind === 'event');
  return performed.event;
}

const at = '2026-01-01T00:00:00.000Z';
const begun = (plan: DeploymentPlan) =>
  decideDeployment(initialState('d', [newHash], plan), { type: 'started', at }).state;

test('a custom kind that lies outside of namespaces fails its target before anything is changed', async () => {
  const plan = planWith([disguised]);
  const state = begun(plan);
  const event = await perform(plan, state, {});
  const { state: after } = decideDeployment(state, event);
  assert.equal(after.status, 'FAILED');
  assert.match(after.error ?? '', /ClusterRule all is not allowed in cluster "east": it lies outside of namespaces/);
  assert.deepEqual(
    server.seen.filter((line) => !line.startsWith('GET')),
    [],
  );
  const allowed = await perform(plan, state, { clusterScopedKinds: ['ClusterRule'] });
  assert.ok(allowed.type === 'surveyed', JSON.stringify(allowed));
  assert.ok(!JSON.stringify(allowed.survey.problems).includes('ClusterRule'));
});

test('a kind that the cluster does not serve fails its target by name before anything is changed', async () => {
  const unserved = { apiVersion: 'certs.example.org/v1', kind: 'Certificate', metadata: { name: 'web', namespace } };
  const ofOther = { ...unserved, apiVersion: 'policies.example.org/v1' };
  const event = await perform(planWith([unserved, ofOther]), begun(planWith([unserved, ofOther])), {});
  assert.ok(event.type === 'surveyed', JSON.stringify(event));
  const { problems } = event.survey;
  for (const { apiVersion } of [unserved, ofOther]) {
    const said = {
      object: `Certificate ${namespace}/web`,
      words: `the cluster does not serve Certificate of ${apiVersion}`,
    };
    assert.ok(
      problems.some(({ object, message }) => object === said.object && message.startsWith(said.words)),
      JSON.stringify(problems),
    );
  }
  const { state } = decideDeployment(begun(planWith([unserved, ofOther])), event);
  assert.equal(state.status, 'FAILED');
  assert.ok(
    server.seen.every((line) => line.startsWith('GET')),
    'nothing is changed',
  );
});

test('a kind that a definition of the same file brings is no problem', async () => {
  const certificate = { apiVersion: 'certs.example.org/v1', kind: 'Certificate', metadata: { name: 'web', namespace } };
  const definition = {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: 'certificates.certs.example.org' },
    spec: { group: 'certs.example.org', names: { kind: 'Certificate', plural: 'certificates' } },
  };
  const plan = planWith([definition, certificate]);
  const event = await perform(plan, begun(plan), { clusterScopedKinds: ['CustomResourceDefinition'] });
  assert.ok(event.type === 'surveyed', JSON.stringify(event));
  assert.ok(!JSON.stringify(event.survey.problems).includes('Certificate'), JSON.stringify(event.survey.problems));
});

test('a namespace that was closed after the start fails its target before anything is changed', async () => {
  const plan = planWith([]);
  const state = begun(plan);
  const { state: after } = decideDeployment(state, await perform(plan, state, { namespaces: ['other'] }));
  assert.equal(after.status, 'FAILED');
  assert.match(after.error ?? '', new RegExp(`Namespace ${namespace} is not open .* Open namespaces: other`));
});

test('what got past the preflight is not written either: by a definition that came into force meanwhile', async () => {
  const plan = planWith([disguised]);
  const effect: WriteEffect = { kind: 'write', key: 'P0.object.0#1', slot: 'object.0', change: { op: 'create' } };
  const state: DeploymentState = { ...begun(plan), effect };
  const event = await perform(plan, state, {});
  assert.ok(event.type === 'refused');
  assert.equal(event.status, 403);
  assert.match(event.message, /ClusterRule all is not allowed/);
  assert.deepEqual(
    server.seen.filter((line) => line.startsWith('POST')),
    [],
  );
  await perform(plan, state, { clusterScopedKinds: ['ClusterRule'] });
  assert.equal(server.seen.filter((line) => line.startsWith('POST')).length, 1);
});
