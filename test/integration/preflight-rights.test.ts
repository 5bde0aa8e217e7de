import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { performEffect } from '@cdaas/control-plane/drivers/effects.ts';
import { createKubeClient } from '@cdaas/control-plane/drivers/kube.ts';
import { decideDeployment } from '@cdaas/pipeline/deployment-machine.ts';
import { initialState } from '@cdaas/pipeline/deployment-state.ts';
import { newHash, samplePlan } from '@cdaas/pipeline/testing/samples.ts';
import { createAuthority, type FakeApiServer, json, startFakeApiServer } from '../support/fake-api-server.ts';
import { allowing, token } from '../support/kube-outcomes.ts';

const kinds: Record<string, { name: string; kind: string }[]> = {
  '/api/v1': [
    { name: 'services', kind: 'Service' },
    { name: 'pods', kind: 'Pod' },
    { name: 'configmaps', kind: 'ConfigMap' },
  ],
  '/apis/apps/v1': [
    { name: 'replicasets', kind: 'ReplicaSet' },
    { name: 'deployments', kind: 'Deployment' },
  ],
  '/apis/autoscaling/v2': [{ name: 'horizontalpodautoscalers', kind: 'HorizontalPodAutoscaler' }],
  '/apis/keda.sh/v1alpha1': [{ name: 'scaledobjects', kind: 'ScaledObject' }],
};

let server: FakeApiServer;
let caData: string;
before(async () => {
  const authority = await createAuthority();
  caData = authority.certificate;
  server = await startFakeApiServer(await authority.issue('api', ['127.0.0.1']));
});
after(() => server.close());

/** A cluster with nothing in it, whose RBAC refuses these resources. */
function refuse(forbidden: string[]): void {
  server.answer((request, response) => {
    const path = (request.url ?? '').split('?')[0] ?? '';
    const resources = kinds[path];
    if (resources) {
      return json(response, 200, { resources: resources.map((each) => ({ ...each, namespaced: true })) });
    }
    const [, resource = '', name] = /\/namespaces\/[^/]+\/([a-z]+)(?:\/(.+))?$/.exec(path) ?? [];
    if (resource === '' || (name !== undefined && !forbidden.includes(resource))) {
      return json(response, 404, { kind: 'Status', reason: 'NotFound' });
    }
    if (forbidden.includes(resource)) return json(response, 403, { kind: 'Status', reason: 'Forbidden' });
    json(response, 200, { kind: 'List', apiVersion: 'v1', metadata: { resourceVersion: '1' }, items: [] });
  });
}

async function preflight(forbidden: string[], plan = samplePlan()) {
  refuse(forbidden);
  const at = '2026-01-01T00:00:00.000Z';
  const { state } = decideDeployment(initialState('d', [newHash], plan), { type: 'started', at });
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
    limits: { name: 'here', namespaces: [], clusterScopedKinds: [] },
    finalAmong: async () => new Set(),
    previousForm: async () => undefined,
    now: () => new Date(at),
  });
  await client.close();
  assert.ok(performed.kind === 'event');
  return decideDeployment(state, performed.event);
}

test('rights that the preflight lacks fail the target, all by name, and nothing is sent after it', async () => {
  const { state, effects } = await preflight(['horizontalpodautoscalers', 'scaledobjects', 'deployments']);
  assert.equal(state.status, 'FAILED');
  assert.match(
    state.error ?? '',
    /may not list horizontalpodautoscalers\.autoscaling, list scaledobjects\.keda\.sh, list deployments\.apps in namespace \S+ \(403\)/,
  );
  assert.deepEqual(effects, []);
  assert.deepEqual(state.leftInCluster, []);
});

test('so does an object of the manifests that may not be read', async () => {
  const { state } = await preflight(['configmaps'], samplePlan({ objects: true }));
  assert.equal(state.status, 'FAILED');
  assert.match(state.error ?? '', /may not get ConfigMap objects in namespace/);
});
