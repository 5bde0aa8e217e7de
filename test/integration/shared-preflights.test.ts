import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createKubeClient, type KubeClient } from '@cdaas/control-plane/drivers/kube.ts';
import { readSurroundings } from '@cdaas/control-plane/drivers/surroundings.ts';
import { samplePlan } from '@cdaas/pipeline/testing/samples.ts';
import { createAuthority, type FakeApiServer, json, startFakeApiServer } from '../support/fake-api-server.ts';
import { allowing, token } from '../support/kube-outcomes.ts';
import { until } from '../support/until.ts';

/** Of each group and version, its kinds by their plurals. */
const served: Record<string, Record<string, string>> = {
  v1: { services: 'Service', pods: 'Pod', configmaps: 'ConfigMap' },
  'apps/v1': { replicasets: 'ReplicaSet', deployments: 'Deployment' },
  'autoscaling/v2': { horizontalpodautoscalers: 'HorizontalPodAutoscaler' },
};

let server: FakeApiServer;
let client: KubeClient;
/** Services that the cluster has now. */
let services: string[] = [];
/** What an answer that was made waits for before it is sent. */
let held: Promise<void> = Promise.resolve();

before(async () => {
  const authority = await createAuthority();
  server = await startFakeApiServer(await authority.issue('api', ['127.0.0.1']));
  const access = { server: server.url, caData: authority.certificate, credential: { token } };
  client = createKubeClient({ ...access, outbound: allowing(server.port) });
  server.answer((request, response) => {
    const path = (request.url ?? '').split('?')[0] ?? '';
    if (path === '/apis') {
      const groups = ['apps/v1', 'autoscaling/v2'].map((each) => {
        const [name, version] = each.split('/');
        return { name, versions: [{ groupVersion: each, version }] };
      });
      return json(response, 200, { kind: 'APIGroupList', apiVersion: 'v1', groups });
    }
    const resources = served[path.replace(/^\/apis?\//, '')];
    if (resources) {
      const listed = Object.entries(resources).map(([name, kind]) => ({ name, kind, namespaced: true }));
      return json(response, 200, { resources: listed });
    }
    const plural = /\/namespaces\/[^/]+\/([a-z]+)$/.exec(path)?.[1];
    if (plural === undefined) return json(response, 404, { kind: 'Status', reason: 'NotFound' });
    const kind = Object.values(served).find((kinds) => plural in kinds)?.[plural];
    const items = plural === 'services' ? services.map((name) => ({ metadata: { name, namespace: 'shop-qa' } })) : [];
    const list = { kind: `${kind}List`, apiVersion: 'v1', metadata: { resourceVersion: '1' }, items };
    void held.then(() => json(response, 200, list));
  });
});
after(async () => {
  await client.close();
  await server.close();
});

const asked = {
  instance: 'here',
  meshConfirmation: 'stored' as const,
  finalAmong: async () => new Set<string>(),
};

async function namesSeen(): Promise<string[]> {
  const read = await readSurroundings(client, samplePlan(), asked);
  assert.ok(read.kind === 'read', JSON.stringify(read));
  return read.surroundings.services.map(({ metadata }) => metadata.name);
}

test('a hundred preflights that begin together list each resource twice, and kinds of groups that are not served never', async () => {
  services = ['web'];
  await namesSeen();
  server.seen.length = 0;
  const all = await Promise.all(Array.from({ length: 100 }, namesSeen));
  assert.ok(all.every((names) => names.join() === 'web'));
  const count = (part: string) => server.seen.filter((line) => line.includes(part)).length;
  assert.deepEqual(
    ['/pods', '/services', '/replicasets', '/horizontalpodautoscalers'].map(count).map((times) => times <= 2),
    [true, true, true, true],
    server.seen.join('\n'),
  );
  assert.equal(count('keda.sh') + count('linkerd.io') + count('smi-spec'), 0);
});

test('a preflight that begins while others list sees what changed since they began', async () => {
  services = [];
  server.seen.length = 0;
  const asks = (part: string) => server.seen.filter((line) => line.includes(part)).length;
  let release = () => {};
  held = new Promise((resolve) => {
    release = resolve;
  });
  const early = namesSeen();
  await until(() => asks('/services') === 1, 'the list of the first');
  services = ['late'];
  const late = namesSeen();
  await until(() => server.seen.filter((line) => line === 'GET /apis').length === 2, 'the second to begin');
  release();
  assert.deepEqual([await early, await late], [[], ['late']]);
});
