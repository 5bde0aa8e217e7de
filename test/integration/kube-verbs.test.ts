import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type ClusterSettings, createKubeClients } from '@cdaas/control-plane/drivers/kube-clients.ts';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { json, refusal } from '../support/fake-api-server.ts';
import { useFakeCluster } from '../support/fake-cluster.ts';
import { allowing, answered, token, unreachable } from '../support/kube-outcomes.ts';

const fake = useFakeCluster();
const { clientOf } = fake;

describe('verbs', () => {
  const splits = { apiVersion: 'split.smi-spec.io/v1alpha2', plural: 'trafficsplits', namespace: 'shop' };
  const ref = { ...splits, name: 'web' };
  const at = '/apis/split.smi-spec.io/v1alpha2/namespaces/shop/trafficsplits';

  test('send the right method, path, content type and preconditions', async () => {
    const bodies: unknown[] = [];
    const types: unknown[] = [];
    fake.server.answer((request, response) => {
      types.push(request.headers['content-type']);
      bodies.push(request.text === '' ? undefined : JSON.parse(request.text));
      json(response, 200, {});
    });
    const client = clientOf();
    await client.get(ref);
    await client.create(ref, { a: 1 });
    await client.put(ref, { b: 1 });
    await client.patch(ref, { metadata: { resourceVersion: '5' } });
    await client.apply(ref, { c: 1 }, { fieldManager: 'cdaas', force: true });
    await client.delete(ref, { uid: 'u', resourceVersion: '9', propagationPolicy: 'Orphan' });
    assert.deepEqual(fake.server.seen, [
      `GET ${at}/web`,
      `POST ${at}?fieldManager=cdaas`,
      `PUT ${at}/web?fieldManager=cdaas`,
      `PATCH ${at}/web?fieldManager=cdaas`,
      `PATCH ${at}/web?fieldManager=cdaas&force=true`,
      `DELETE ${at}/web`,
    ]);
    const merge = 'application/merge-patch+json';
    const apply = 'application/apply-patch+yaml';
    assert.deepEqual(types, [undefined, 'application/json', 'application/json', merge, apply, 'application/json']);
    assert.deepEqual(bodies[5], {
      kind: 'DeleteOptions',
      apiVersion: 'v1',
      preconditions: { uid: 'u', resourceVersion: '9' },
      propagationPolicy: 'Orphan',
    });
  });

  const pods = { apiVersion: 'v1', plural: 'pods', namespace: 'a' };
  const page = (names: string[], next = '') => ({
    kind: 'PodList',
    apiVersion: 'v1',
    metadata: { resourceVersion: '77', continue: next },
    items: names.map((name) => ({ metadata: { name } })),
  });

  test('a list is read page by page, its items told their kind', async () => {
    fake.server.answer((request, response) => {
      const next = new URL(request.url ?? '', fake.server.url).searchParams.get('continue');
      json(response, 200, next === null ? page(['a', 'b'], 'n=2&x') : page(['c']));
    });
    const listed = await clientOf().list(pods, { labelSelector: 'app in (x, y)', pageSize: 2 });
    assert.ok(listed.kind === 'listed');
    assert.equal(listed.resourceVersion, '77');
    assert.deepEqual(
      listed.objects.map(({ apiVersion, kind, metadata }) => `${apiVersion} ${kind} ${metadata.name}`),
      ['v1 Pod a', 'v1 Pod b', 'v1 Pod c'],
    );
    assert.match(fake.server.seen[1] ?? '', /labelSelector=app%20in%20\(x%2C%20y\)&limit=2&continue=n%3D2%26x$/);
  });

  test('a list whose continuation expired is begun again, once', async () => {
    let expired = 0;
    fake.server.answer((request, response) => {
      if (!request.url?.includes('continue')) return json(response, 200, page(['a'], 'next'));
      expired += 1;
      return expired === 1 ? refusal(response, 410, 'Expired') : json(response, 200, page(['b']));
    });
    const listed = await clientOf().list(pods);
    assert.ok(listed.kind === 'listed');
    assert.deepEqual(
      listed.objects.map((object) => object.metadata.name),
      ['a', 'b'],
    );
  });

  test('of a list that is begun again only what it lists then counts as its size', async () => {
    const padding = 'x'.repeat(700_000);
    let expired = 0;
    fake.server.answer((request, response) => {
      if (!request.url?.includes('continue')) return json(response, 200, { ...page(['a'], 'next'), padding });
      expired += 1;
      return expired === 1 ? refusal(response, 410, 'Expired') : json(response, 200, { ...page(['b']), padding });
    });
    const listed = await clientOf().list(pods, { maxBytes: 2_000_000 });
    assert.equal(listed.kind, 'listed');
  });

  test('a list without end and a list of nonsense are refused by name', async () => {
    fake.server.answer((_request, response) => json(response, 200, page(['a', 'b'], 'again')));
    assert.match(
      unreachable(await clientOf().list(pods, { maxObjects: 9 }), 'answer.tooLarge', true),
      /too many pods for this server: 10 objects in 1 MiB, and more/,
    );
    fake.server.answer((_request, response) => json(response, 200, { ...page([]), items: [{ metadata: {} }] }));
    const reason = unreachable(await clientOf().list(pods), 'answer.notKubernetes', true);
    assert.match(reason, /answered a list of pods with something else/);
  });

  test('a list with objects of another kind or namespace, or not shaped as theirs are, is none', async () => {
    const odd = [
      { metadata: { name: 'a', namespace: 'b' } },
      { kind: 'Secret', metadata: { name: 'a' } },
      { metadata: { name: 'a' }, status: { conditions: 'Ready' } },
      { metadata: { name: 'a', resourceVersion: 'x'.repeat(129) } },
      { metadata: { name: 'a', uid: '\ud800' } },
    ];
    for (const item of odd) {
      fake.server.answer((_request, response) => json(response, 200, { ...page([]), items: [item] }));
      unreachable(await clientOf().list(pods), 'answer.notKubernetes', true);
    }
  });

  test('a list is bounded in bytes as well, and may keep a part of each object', async () => {
    const large = { ...page(['a'], 'again'), padding: 'x'.repeat(500_000) };
    fake.server.answer((_request, response) => json(response, 200, large));
    const reason = unreachable(await clientOf().list(pods, { maxBytes: 2 * 1024 * 1024 }), 'answer.tooLarge', true);
    assert.match(reason, /too many pods.* 5 objects in 3 MiB, and more/);
    assert.equal(fake.server.seen.length, 5);
    fake.server.answer((_request, response) => json(response, 200, page(['a'])));
    const keep = (object: KubernetesObject) => ({ ...object, kept: true });
    const listed = await clientOf().list(pods, { keep });
    assert.ok(listed.kind === 'listed');
    assert.deepEqual(listed.objects, [{ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'a' }, kept: true }]);
  });

  test('discovery that is none does not say that a kind is absent', async () => {
    const client = clientOf();
    const odd: unknown[] = [{}, { resources: 'x' }, { groupVersion: 'v1', resources: [] }, page([])];
    for (const body of odd) {
      fake.server.answer((_request, response) => json(response, 200, body));
      unreachable(await client.findResource(splits.apiVersion, 'TrafficSplit'), 'answer.notKubernetes', true);
      unreachable(await client.servedVersions('split.smi-spec.io'), 'answer.notKubernetes', true);
    }
    fake.server.answer((_request, response) => json(response, 404, { message: 'no Route matched' }));
    unreachable(await client.findResource(splits.apiVersion, 'TrafficSplit'), 'answer.notKubernetes', true);
    fake.server.answer((_request, response) => {
      response.writeHead(404, { 'content-type': 'text/plain' });
      response.end('404 page not found\n');
    });
    assert.deepEqual(await client.findResource(splits.apiVersion, 'TrafficSplit'), { kind: 'absent' });
  });

  test('discovery is cached, asks anew for a kind that it does not know, and says absent', async () => {
    let kinds = ['TrafficSplit'];
    fake.server.answer((request, response) => {
      if (request.url === '/apis/split.smi-spec.io') {
        const versions = ['v1alpha1', 'v1alpha2'].map((version) => ({ version }));
        return json(response, 200, { versions, preferredVersion: { version: 'v1alpha2' } });
      }
      if (request.url !== '/apis/split.smi-spec.io/v1alpha2') return refusal(response, 404, 'NotFound');
      const resources = kinds.flatMap((kind) => [
        { name: `${kind.toLowerCase()}s`, kind, namespaced: true },
        { name: `${kind.toLowerCase()}s/status`, kind, namespaced: true },
      ]);
      return json(response, 200, { resources });
    });
    const client = clientOf();
    const found = { kind: 'found', plural: 'trafficsplits', namespaced: true };
    assert.deepEqual(await client.findResource(splits.apiVersion, 'TrafficSplit'), found);
    assert.deepEqual(await client.findResource(splits.apiVersion, 'TrafficSplit'), found);
    assert.equal(fake.server.seen.length, 1);
    assert.deepEqual(await client.findResource(splits.apiVersion, 'Other'), { kind: 'absent' });
    kinds = ['TrafficSplit', 'Other'];
    assert.equal((await client.findResource(splits.apiVersion, 'Other')).kind, 'found');
    assert.deepEqual(await client.findResource('none.io/v1', 'Other'), { kind: 'absent' });
    assert.deepEqual(await client.servedVersions('split.smi-spec.io'), {
      kind: 'served',
      versions: ['v1alpha2', 'v1alpha1'],
    });
    assert.deepEqual(await client.servedVersions('none.io'), { kind: 'served', versions: [] });
  });

  test('a schema is cached, and that there is none, but no answer that says neither', async () => {
    const schema = {
      'x-kubernetes-group-version-kind': [{ group: 'split.smi-spec.io', version: 'v1alpha2', kind: 'TrafficSplit' }],
    };
    let now = 0;
    const client = clientOf({ now: () => now });
    const find = () => client.findSchema('split.smi-spec.io/v1alpha2', 'TrafficSplit');
    for (const status of [429, 503, 403]) {
      fake.server.answer((_request, response) => refusal(response, status, 'No'));
      answered(await find(), status);
      now += 1_000;
    }
    fake.server.answer((_request, response) => json(response, 200, { components: { schemas: { split: schema } } }));
    assert.deepEqual(await find(), { kind: 'schema', schema });
    fake.server.answer((_request, response) => refusal(response, 404, 'NotFound'));
    assert.deepEqual(await find(), { kind: 'schema', schema });
    now += 600_000;
    assert.deepEqual(await find(), { kind: 'schema', schema: undefined });
    const asked = fake.server.seen.length;
    assert.deepEqual(await find(), { kind: 'schema', schema: undefined });
    assert.equal(fake.server.seen.length, asked);
  });

  test('say of all groups in one request which versions are served, and refuse an answer without them', async () => {
    const group = (name: string, versions: string[], preferred: string) => ({
      name,
      versions: versions.map((version) => ({ groupVersion: `${name}/${version}`, version })),
      preferredVersion: { groupVersion: `${name}/${preferred}`, version: preferred },
    });
    const groups = [group('apps', ['v1'], 'v1'), group('split.smi-spec.io', ['v1alpha1', 'v1alpha2'], 'v1alpha2')];
    fake.server.answer((_request, response) => json(response, 200, { kind: 'APIGroupList', apiVersion: 'v1', groups }));
    const served = await clientOf().servedGroups();
    assert.ok(served.kind === 'groups');
    assert.deepEqual(Object.fromEntries(served.groups), {
      apps: ['v1'],
      'split.smi-spec.io': ['v1alpha2', 'v1alpha1'],
    });
    assert.deepEqual(fake.server.seen, ['GET /apis']);
    for (const body of [{}, { groups: [{ name: 'apps' }] }, { groups: [null] }]) {
      fake.server.answer((_request, response) => json(response, 200, body));
      unreachable(await clientOf().servedGroups(), 'answer.notKubernetes', true);
    }
  });
});

describe('clients by cluster', () => {
  const key = { organisationId: 'o', tenantId: 't', clusterId: 'c' };
  const settings: ClusterSettings = {
    name: 'east',
    clusterUid: 'uid',
    namespaces: [],
    clusterScopedKinds: [],
    meshConfirmation: 'stored',
  };

  test('are shared, checked again now and then, and change over when the credential changes', async () => {
    const time = { now: 0 };
    let current = { version: '1', token: 'first' };
    const known: (string | undefined)[] = [];
    const clients = createKubeClients(
      async (_key, knownVersion) => {
        known.push(knownVersion);
        if (knownVersion === current.version) return 'unchanged';
        const access = {
          server: fake.server.url,
          caData: fake.authority.certificate,
          credential: { token: current.token },
        };
        return { version: current.version, access, settings };
      },
      allowing(fake.server.port),
      { now: () => time.now },
    );
    const [first, same] = await Promise.all([clients.get(key), clients.get(key)]);
    assert.ok(first && first === same);
    time.now += 6000;
    assert.equal(await clients.get(key), first);
    current = { version: '2', token: 'second' };
    assert.equal(await clients.get(key), first);
    clients.invalidate(key);
    const tokens: unknown[] = [];
    fake.server.answer(({ headers }, response) => {
      tokens.push(headers.authorization);
      json(response, 200, {});
    });
    answered(await first.version(), 200);
    assert.equal(await clients.get(key), first, 'whoever holds it goes on with it');
    assert.deepEqual(known, [undefined, '1', '1']);
    answered(await first.version(), 200);
    assert.deepEqual(tokens, ['Bearer first', 'Bearer second']);
    await clients.close();
    unreachable(await first.version(), 'client.closed', false);
  });

  test('lose nothing when the credential changes: what waits is sent with the new one, and watches end', async () => {
    const client = clientOf({ limits: { inFlight: 1 } });
    const held = Promise.withResolvers<void>();
    const arrived = Promise.withResolvers<void>();
    const tokens: unknown[] = [];
    fake.server.answer(async ({ headers, url }, response) => {
      tokens.push(headers.authorization);
      if (url === '/watch') return void response.writeHead(200).flushHeaders();
      if (tokens.length === 2) {
        arrived.resolve();
        await held.promise;
      }
      json(response, 200, {});
    });
    const opened = Promise.withResolvers<void>();
    const watch = client.stream({ path: '/watch' }, { onOpen: opened.resolve, onData: () => {} });
    await opened.promise;
    const underWay = client.request({ method: 'POST', path: '/first', body: {} });
    await arrived.promise;
    const waiting = client.request({ method: 'POST', path: '/second', body: {} });
    client.replaceAccess({
      server: fake.server.url,
      caData: fake.authority.certificate,
      credential: { token: 'another' },
    });
    assert.equal((await watch).kind, 'unreachable');
    held.resolve();
    answered(await underWay, 200);
    answered(await waiting, 200);
    assert.deepEqual(tokens, [`Bearer ${token}`, `Bearer ${token}`, 'Bearer another']);
    await client.close();
  });

  test('are closed and forgotten when the cluster is gone, or nobody asked for them in ten minutes', async (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    const time = { now: 0 };
    let loads = 0;
    let isGone = false;
    const clients = createKubeClients(
      async (_key, knownVersion) => {
        if (isGone) return undefined;
        loads += knownVersion === undefined ? 1 : 0;
        if (knownVersion !== undefined) return 'unchanged';
        const access = { server: fake.server.url, caData: fake.authority.certificate, credential: { token } };
        return { version: '1', access, settings };
      },
      allowing(fake.server.port),
      { now: () => time.now },
    );
    const pass = (ms: number) => {
      time.now += ms;
      t.mock.timers.tick(ms);
    };
    const first = await clients.get(key);
    pass(540_000);
    assert.equal(await clients.get(key), first, 'in use');
    pass(540_000);
    assert.equal(await clients.get(key), first, 'in use');
    pass(660_000);
    assert.ok(first);
    unreachable(await first.version(), 'client.closed', false);
    const second = await clients.get(key);
    assert.equal(loads, 2);
    isGone = true;
    pass(6_000);
    assert.equal(await clients.get(key), undefined);
    assert.ok(second);
    unreachable(await second.version(), 'client.closed', false);
    await clients.close();
  });

  test('are not made any more once they are closed, also where a registration is being read', async () => {
    const reading = Promise.withResolvers<void>();
    const clients = createKubeClients(async () => {
      await reading.promise;
      return {
        version: '1',
        access: { server: fake.server.url, caData: fake.authority.certificate, credential: { token } },
        settings,
      };
    }, allowing(fake.server.port));
    const late = clients.get(key);
    await clients.close();
    reading.resolve();
    assert.equal(await late, undefined);
  });

  test('never reach a caller who names the cluster under another tenant', async () => {
    const asked: string[] = [];
    const clients = createKubeClients(async ({ tenantId }) => {
      asked.push(tenantId);
      if (tenantId !== 't') return undefined;
      const access = { server: fake.server.url, caData: fake.authority.certificate, credential: { token } };
      return { version: '1', access, settings };
    }, allowing(fake.server.port));
    assert.ok(await clients.get(key));
    assert.equal(await clients.get({ ...key, tenantId: 'other' }), undefined);
    assert.deepEqual(asked, ['t', 'other']);
    await clients.close();
  });

  test('closing lets a request under way finish', async () => {
    const client = clientOf();
    let closing: Promise<void> | undefined;
    fake.server.answer((_request, response) => {
      closing = client.close();
      json(response, 200, { done: true });
    });
    assert.deepEqual(answered(await client.request({ method: 'POST', path: '/api/v1/namespaces', body: {} }), 200), {
      done: true,
    });
    await closing;
  });
});
