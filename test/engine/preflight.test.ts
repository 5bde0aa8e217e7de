import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { instanceId } from '@cdaas/control-plane/database/db.ts';
import { rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import { deploymentKey, hashKey, instanceKey } from '@cdaas/pipeline/marks.ts';
import { approval, type Shop, service, weight, workload } from '../support/deployment-files.ts';
import { checkLaws } from '../support/laws.ts';
import { holdWrite } from '../support/test-cluster.ts';
import { until } from '../support/until.ts';
import { openWorld, type Scene, type World } from '../support/world.ts';

let world: World;
before(async () => {
  world = await openWorld('preflight');
});
after(() => world.close());

type Row = {
  title: string;
  /** Whether a first version runs before. */
  first?: Partial<Shop>;
  /** What stands in the way, made beside the control plane. */
  given?: (scene: Scene) => Promise<unknown>;
  shop?: Partial<Shop>;
  object: string;
  says: RegExp;
};

const root = (spec: Record<string, unknown>) => (scene: Scene) =>
  scene.client.create('Service', scene.namespace, service('web', spec));
const split = (name: string, of: string) => (scene: Scene) =>
  scene.client.create('TrafficSplit', scene.namespace, {
    metadata: { name },
    spec: {
      service: of,
      backends: [
        { service: of, weight: 100 },
        { service: 'other', weight: 0 },
      ],
    },
  });
const profile = (metadata: Record<string, unknown>, spec: Record<string, unknown>) => (scene: Scene) =>
  scene.client.create('ServiceProfile', scene.namespace, {
    metadata: { name: `web.${scene.namespace}.svc.cluster.local`, ...metadata },
    spec,
  });
const overrides = (scene: Scene, weights: Record<string, number>) => ({
  dstOverrides: Object.entries(weights).map(([name, weight]) => ({
    authority: `${name}.${scene.namespace}.svc.cluster.local`,
    weight: String(weight),
  })),
});

const rows: Row[] = [
  {
    title: 'a root Service that exists nowhere',
    shop: { root: null },
    object: 'Service <ns>/web',
    says: /neither in the cluster nor/,
  },
  {
    title: 'a headless root Service',
    given: root({ clusterIP: 'None' }),
    shop: { root: null },
    object: 'Service <ns>/web',
    says: /headless/,
  },
  {
    title: 'a root Service of type ExternalName',
    given: root({ type: 'ExternalName', externalName: 'example.org' }),
    shop: { root: null },
    object: 'Service <ns>/web',
    says: /ExternalName/,
  },
  {
    title: 'a root Service without a selector',
    given: root({ selector: {} }),
    shop: { root: null },
    object: 'Service <ns>/web',
    says: /no selector/,
  },
  {
    title: 'a root Service that publishes pods that are not ready',
    given: root({ publishNotReadyAddresses: true }),
    shop: { root: null },
    object: 'Service <ns>/web',
    says: /publishNotReadyAddresses/,
  },
  {
    title: 'a root Service that does not select the new pods',
    given: root({ selector: { app: 'other' } }),
    shop: { root: null },
    object: 'Service <ns>/web',
    says: /does not select the pods/,
  },
  {
    title: 'a root Service that selects foreign pods',
    first: {},
    given: ({ client, namespace }) =>
      client.create('Pod', namespace, {
        metadata: { name: 'stray', labels: { app: 'web' } },
        spec: { containers: [{ name: 'stray', image: 'registry.example.org/stray:1' }] },
      }),
    object: 'Service <ns>/web',
    says: /not of the previous version: stray/,
  },
  {
    title: 'a root Service that is pinned already',
    first: { root: null },
    given: ({ client, namespace }) =>
      client.patch('Service', namespace, 'web', { spec: { selector: { [hashKey]: 'abc' } } }),
    shop: { root: null },
    object: 'Service <ns>/web',
    says: /kubectl -n <ns> patch service web/,
  },
  {
    title: 'a Service change that loses the old pods',
    first: {},
    shop: { podLabels: { tier: 'front' }, root: service('web', { selector: { app: 'web', tier: 'front' } }) },
    object: 'Service <ns>/web',
    says: /deploy this Service change on its own first/,
  },
  {
    title: 'a Service port that leads elsewhere',
    first: {},
    shop: { root: service('web', { ports: [{ name: 'http', port: 80, targetPort: 9090 }] }) },
    object: 'Service <ns>/web',
    says: /port 80 .* deploy this Service change on its own first/,
  },
  {
    title: 'a canary Service that is named and missing',
    first: {},
    shop: { smi: { canaryServiceName: 'preview' } },
    object: 'Service <ns>/preview',
    says: /does not exist/,
  },
  {
    title: 'a given canary Service without a port of the root',
    first: {},
    given: ({ client, namespace }) =>
      client.create('Service', namespace, service('preview', { ports: [{ port: 81 }] })),
    shop: { smi: { canaryServiceName: 'preview' } },
    object: 'Service <ns>/preview',
    says: /lacks port 80/,
  },
  {
    title: 'a given canary Service that cannot select the new pods',
    first: {},
    given: ({ client, namespace }) =>
      client.create('Service', namespace, service('preview', { selector: { app: 'other' } })),
    shop: { smi: { canaryServiceName: 'preview' } },
    object: 'Service <ns>/preview',
    says: /cannot select the new pods/,
  },
  {
    title: 'a given canary Service that is pinned already',
    first: {},
    given: ({ client, namespace }) =>
      client.create('Service', namespace, service('preview', { selector: { app: 'web', [hashKey]: 'abc' } })),
    shop: { smi: { canaryServiceName: 'preview' } },
    object: 'Service <ns>/preview',
    says: /kubectl -n <ns> patch service preview/,
  },
  {
    title: 'a root Service of the cluster that leads to two Deployments',
    given: (scene) => scene.client.create('Service', scene.namespace, service('shop', { selector: { team: 'shop' } })),
    shop: { podLabels: { team: 'shop' }, also: ['api'], smiEntries: ['web', 'shop'] },
    object: 'Service <ns>/shop',
    says: /selects the pods of several Deployments: api, web; narrow its selector to one/,
  },
  {
    title: 'a Deployment that no root Service leads to',
    given: (scene) => scene.client.create('Service', scene.namespace, service('front')),
    shop: { also: ['api'], smiEntries: ['web', 'front'] },
    object: 'Deployment <ns>/api',
    says: /no root Service of trafficManagement selects its pods; add an smi entry for it/,
  },
  {
    title: 'what is in the way of one of two Deployments',
    first: { also: ['api'] },
    given: split('api', 'elsewhere'),
    shop: { also: ['api'] },
    object: 'TrafficSplit <ns>/api',
    says: /not ours/,
  },
  {
    title: 'a foreign Service of the canary name',
    first: {},
    given: ({ client, namespace }) =>
      client.create('Service', namespace, service('web-canary', { selector: { app: 'other' } })),
    object: 'Service <ns>/web-canary',
    says: /not ours/,
  },
  {
    title: 'a foreign TrafficSplit of that name',
    first: {},
    given: split('web', 'elsewhere'),
    object: 'TrafficSplit <ns>/web',
    says: /not ours/,
  },
  {
    title: 'another TrafficSplit of the root Service',
    first: {},
    given: split('by-hand', 'web'),
    object: 'TrafficSplit <ns>/by-hand',
    says: /splits Service web already/,
  },
  {
    title: 'another TrafficSplit of the root Service by its longer name',
    first: {},
    given: split('by-hand', 'web.elsewhere.svc'),
    object: 'TrafficSplit <ns>/by-hand',
    says: /splits Service web already/,
  },
  {
    title: 'a root Service that another control plane drives',
    first: {},
    given: ({ client, namespace }) =>
      client.patch('Service', namespace, 'web', { metadata: { annotations: { [instanceKey]: 'another' } } }),
    object: 'Service <ns>/web',
    says: /driven by another control plane/,
  },
  {
    title: 'a ServiceProfile that the mesh skips',
    first: {},
    given: profile({ annotations: { 'smi.linkerd.io/skip': 'true' } }, {}),
    object: 'ServiceProfile <ns>/web.<ns>.svc.cluster.local',
    says: /smi\.linkerd\.io\/skip/,
  },
  {
    title: 'a ServiceProfile with overrides of others',
    first: {},
    given: (scene) => profile({}, overrides(scene, { web: 50, other: 50 }))(scene),
    object: 'ServiceProfile <ns>/web.<ns>.svc.cluster.local',
    says: /dstOverrides/,
  },
  {
    title: 'a HorizontalPodAutoscaler of the workload',
    first: {},
    given: ({ client, namespace }) =>
      client.create('HorizontalPodAutoscaler', namespace, {
        metadata: { name: 'web' },
        spec: { scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'web' }, maxReplicas: 3 },
      }),
    object: 'HorizontalPodAutoscaler <ns>/web',
    says: /not supported yet/,
  },
  {
    title: 'a KEDA ScaledObject of the workload',
    first: {},
    given: async ({ client, namespace }) => {
      await client.create('CustomResourceDefinition', '', {
        metadata: { name: 'scaledobjects.keda.sh' },
        spec: {
          group: 'keda.sh',
          scope: 'Namespaced',
          names: {
            kind: 'ScaledObject',
            listKind: 'ScaledObjectList',
            plural: 'scaledobjects',
            singular: 'scaledobject',
          },
          versions: [
            {
              name: 'v1alpha1',
              served: true,
              storage: true,
              schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
            },
          ],
        },
      });
      const scaled = { metadata: { name: 'web' }, spec: { scaleTargetRef: { name: 'web' } } };
      const answer = await client.send('POST', `/apis/keda.sh/v1alpha1/namespaces/${namespace}/scaledobjects`, {
        apiVersion: 'keda.sh/v1alpha1',
        kind: 'ScaledObject',
        ...scaled,
      });
      assert.equal(answer.status, 201);
    },
    object: 'ScaledObject <ns>/web',
    says: /not supported yet/,
  },
  {
    title: 'a Deployment of that name beside the version that was deployed before',
    first: {},
    given: async ({ client, namespace }) => {
      await client.create('Deployment', namespace, workload({ version: '0' }));
    },
    object: 'Deployment <ns>/web',
    says: /stands beside the version that was deployed before.*kubectl delete deployment web/,
  },
  {
    title: 'a Deployment whose selector means the ReplicaSets of a run',
    given: async (scene) => {
      await root({})(scene);
      const other = workload({ version: '0' }, 'greedy');
      const matchExpressions = [{ key: 'team', operator: 'DoesNotExist' }];
      const spec = { ...(other.spec as object), selector: { matchExpressions } };
      await scene.client.create('Deployment', scene.namespace, { ...other, spec });
    },
    object: 'Deployment <ns>/greedy',
    says: /its selector matches the ReplicaSet that this deployment makes for web/,
  },
  {
    title: 'two earlier versions with pods',
    first: {},
    given: async ({ client, namespace }) => {
      const [known] = (await client.list('ReplicaSet', namespace)).objects;
      assert.ok(known);
      const { labels, annotations } = known.metadata;
      const marked = { ...labels, [hashKey]: 'zzzzzzzzzz' };
      const template = workload({ version: '0' }).spec as { template: object };
      await client.create('ReplicaSet', namespace, {
        metadata: { name: 'web-zzzzzzzzzz', labels: marked, annotations },
        spec: {
          replicas: 1,
          selector: { matchLabels: { app: 'web', [hashKey]: 'zzzzzzzzzz' } },
          template: {
            ...template.template,
            metadata: { labels: { app: 'web', [hashKey]: 'zzzzzzzzzz' } },
          },
        },
      });
    },
    object: 'ReplicaSet <ns>/web',
    says: /several earlier versions have pods/,
  },
];

describe('The preflight fails the target before anything is changed', { concurrency: 6 }, () => {
  for (const { title, first, given, shop, object, says } of rows) {
    it(`by ${title}`, async () => {
      const scene = await world.scene();
      const { client, namespace } = scene;
      const inNamespace = (text: string) => text.replaceAll('<ns>', namespace);
      if (first) await scene.first(first);
      await given?.(scene);
      await settled(scene);
      const before = await client.versions(namespace);
      const recorder = await scene.record();
      const seen = await (await scene.deploy({ version: '2', ...shop })).end();
      assert.equal(seen.status, 'FAILED');
      assert.equal(seen.pipelineStatus, 'FAILED');
      const error = seen.state.error ?? '';
      assert.ok(error.includes(inNamespace(object)), `${error} does not name ${inNamespace(object)}`);
      assert.match(error, new RegExp(inNamespace(says.source)));
      assert.deepEqual((await recorder.stop()).writes, []);
      assert.deepEqual(await client.versions(namespace), before);
    });
  }

  it('and tells every problem at once', async () => {
    const scene = await world.scene();
    await scene.first();
    await split('web', 'elsewhere')(scene);
    await scene.client.create('Service', scene.namespace, service('web-canary', { selector: { app: 'other' } }));
    const seen = await (await scene.deploy({ version: '2' })).end();
    assert.equal(seen.status, 'FAILED');
    assert.match(seen.state.error ?? '', /TrafficSplit .*not ours.*; Service .*web-canary.*not ours/);
  });
});

describe('The preflight goes on, and warns,', { concurrency: 4 }, () => {
  it('of stale weights 100/0 in the ServiceProfile, which are overwritten', async () => {
    const scene = await world.scene();
    await scene.first();
    await profile({}, overrides(scene, { web: 100, 'web-canary': 0 }))(scene);
    const recorder = await scene.record();
    const seen = await (await scene.deploy({ version: '2' })).end();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.match(seen.state.warnings.join(), /still has the weights 100\/0/);
    assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'succeeded' }), []);
  });

  it('of another Service that receives both versions unsplit', async () => {
    const scene = await world.scene();
    await scene.first();
    await scene.client.create('Service', scene.namespace, service('inside'));
    const seen = await (await scene.deploy({ version: '2' })).end();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.match(seen.state.warnings.join(), /Service inside .*both versions unsplit/);
  });

  it('of leftovers of a finished deployment, which it removes', async () => {
    const scene = await world.scene();
    await scene.first();
    const { deploymentId } = await finishedRun(scene);
    await leaveBehind(scene, deploymentId);
    const recorder = await scene.record();
    const seen = await (await scene.deploy({ version: '3' })).end();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'succeeded' }), []);
  });

  it('where a leftover turns up only when its own object is to be created', async () => {
    const scene = await world.scene();
    await scene.first();
    const { deploymentId } = await finishedRun(scene);
    const hold = holdWrite(scene, ({ verb, path }) => verb === 'create' && path.endsWith('/services'));
    const run = await scene.deploy({ version: '3' });
    await hold.reached;
    await leaveBehind(scene, deploymentId);
    hold.release();
    const seen = await run.end();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.equal((await scene.client.list('TrafficSplit', scene.namespace)).objects.length, 0);
    assert.equal(await scene.client.get('Service', scene.namespace, 'web-canary'), undefined);
  });

  it('but rolls back where a foreign object turns up only then, and leaves it alone', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const hold = holdWrite(scene, ({ verb, path }) => verb === 'create' && path.endsWith('/trafficsplits'));
    const run = await scene.deploy({ version: '2' });
    await hold.reached;
    const foreign = await split('web', 'elsewhere')(scene);
    hold.release();
    const seen = await run.end();
    assert.equal(seen.status, 'FAILED');
    assert.match(
      seen.state.error ?? '',
      /TrafficSplit web cannot be created: an object of that name stands in the way/,
    );
    const kept = await scene.client.get('TrafficSplit', scene.namespace, 'web');
    assert.equal(kept?.metadata.resourceVersion, foreign.metadata.resourceVersion);
    await recorder.stop();
    assert.deepEqual(scene.send(20), { answers: { '1': 20 }, failed: 0 });
  });
});

/** A deployment that was rolled back, so that its id is that of one that is over. */
async function finishedRun(scene: Scene) {
  const run = await scene.deploy({ version: '2', steps: [weight(10), approval()] });
  await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
  await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
  await run.end();
  return run;
}

/** What a request that arrives long after its deployment would leave. */
async function leaveBehind({ client, namespace, world: { db } }: Scene, deploymentId: string): Promise<void> {
  const metadata = {
    labels: { [deploymentKey]: deploymentId },
    annotations: { [instanceKey]: await instanceId(db) },
  };
  await client.create('Service', namespace, {
    metadata: { name: 'web-canary', ...metadata },
    spec: { selector: { app: 'web', [hashKey]: 'none' }, ports: [{ name: 'http', port: 80, targetPort: 8080 }] },
  });
  await client.create('TrafficSplit', namespace, {
    metadata: { name: 'web', ...metadata },
    spec: {
      service: 'web',
      backends: [
        { service: 'web', weight: 100 },
        { service: 'web-canary', weight: 0 },
      ],
    },
  });
}

/** Waits until controllers have nothing left to do: the same objects, seen twice. */
async function settled({ client, namespace }: Scene): Promise<void> {
  let before = '';
  let same = -1;
  await until(async () => {
    const now = JSON.stringify(await client.versions(namespace));
    same = now === before ? same + 1 : 0;
    before = now;
    return same === 3;
  }, 'the controllers to be done');
}
