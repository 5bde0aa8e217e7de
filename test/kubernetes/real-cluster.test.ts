import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { type ClusterClient, createClusterClient } from '../support/cluster-client.ts';
import { ownMeshPrefix, type RealCluster, useRealCluster, withoutRealCluster } from '../support/real-cluster.ts';
import { startSmiAdaptor } from '../support/smi-adaptor.ts';
import { until } from '../support/until.ts';

// What our own parts of the real control plane do: the stand-ins for kubelets and for Linkerd's adaptor, and credentials.
// What Kubernetes itself does is the matter of test/conformance.

describe('the real control plane for tests', { skip: withoutRealCluster }, () => {
  let cluster: RealCluster;
  let client: ClusterClient;

  before(async () => {
    cluster = await useRealCluster();
    client = createClusterClient(cluster);
  });
  after(async () => {
    client?.close();
    await cluster?.stop();
  });

  async function namespace(prefix = 'real-'): Promise<string> {
    const name = `${prefix}${randomUUID().slice(0, 8)}`;
    await client.create('Namespace', '', { metadata: { name } });
    return name;
  }

  function replicaSet(name: string, tag: string, more: { replicas?: number; pod?: object } = {}) {
    const labels = { app: name };
    const containers = [{ name: 'app', image: `shop:${tag}` }];
    return {
      metadata: { name },
      spec: {
        replicas: more.replicas ?? 1,
        selector: { matchLabels: labels },
        template: { metadata: { labels }, spec: { containers, ...more.pod } },
      },
    };
  }

  async function podOf(space: string, name: string): Promise<KubernetesObject & { status: PodStatus }> {
    let found: KubernetesObject | undefined;
    await until(async () => {
      const { objects } = await client.list('Pod', space);
      found = objects.find(({ metadata }) => metadata.labels?.app === name);
      return found !== undefined;
    }, `a pod of ${name}`);
    return found as KubernetesObject & { status: PodStatus };
  }

  const condition = ({ status }: { status: PodStatus }, type: string) =>
    status.conditions?.find((one) => one.type === type);
  const waitingFor = ({ status }: { status: PodStatus }) => status.containerStatuses?.[0]?.state.waiting?.reason;

  it('makes scheduled pods ready, each at an address of its own', async () => {
    const space = await namespace();
    await client.create('ReplicaSet', space, replicaSet('web', '1', { replicas: 5 }));
    const readyReplicas = async () =>
      (await client.get('ReplicaSet', space, 'web'))?.status as { readyReplicas?: number } | undefined;
    await until(async () => (await readyReplicas())?.readyReplicas === 5, '5 ready pods');
    const { objects } = await client.list('Pod', space);
    assert.equal(new Set(objects.map(({ status }) => (status as PodStatus).podIP)).size, 5);
  });

  it('goes by the tag of the image: never ready, not to be pulled, crashing', async () => {
    const space = await namespace();
    for (const tag of ['never-ready', 'bad-image', 'crash'])
      await client.create('ReplicaSet', space, replicaSet(tag, `2-${tag}`));
    await until(async () => waitingFor(await podOf(space, 'bad-image')) === 'ImagePullBackOff', 'ImagePullBackOff');
    await until(async () => waitingFor(await podOf(space, 'crash')) === 'CrashLoopBackOff', 'CrashLoopBackOff');
    const pods = await Promise.all(['never-ready', 'bad-image', 'crash'].map((name) => podOf(space, name)));
    assert.deepEqual(
      pods.map((pod) => [pod.status.phase, condition(pod, 'Ready')?.status]),
      [
        ['Running', 'False'],
        ['Pending', 'False'],
        ['Running', 'False'],
      ],
    );
  });

  it('keeps a pod unready until its readiness gates hold', async () => {
    const space = await namespace();
    const gate = 'test.cdaas/open';
    await client.create(
      'ReplicaSet',
      space,
      replicaSet('gated', '1', { pod: { readinessGates: [{ conditionType: gate }] } }),
    );
    await until(async () => condition(await podOf(space, 'gated'), 'ContainersReady')?.status === 'True', 'containers');
    const pod = await podOf(space, 'gated');
    assert.equal(condition(pod, 'Ready')?.reason, 'ReadinessGatesNotReady');
    const opened = { status: { conditions: [{ type: gate, status: 'True' }] } };
    await client.send(
      'PATCH',
      `/api/v1/namespaces/${space}/pods/${pod.metadata.name}/status`,
      opened,
      'application/strategic-merge-patch+json',
    );
    await until(async () => condition(await podOf(space, 'gated'), 'Ready')?.status === 'True', 'the gate to count');
  });

  it('lets deleted pods go, so that scaling down ends', async () => {
    const space = await namespace();
    await client.create('ReplicaSet', space, replicaSet('web', '1', { replicas: 3 }));
    await until(async () => (await client.list('Pod', space)).objects.length === 3, '3 pods');
    await client.patch('ReplicaSet', space, 'web', { spec: { replicas: 0 } });
    await until(async () => (await client.list('Pod', space)).objects.length === 0, 'no pod');
  });

  it('gives credentials that may do what they were given, no more, and less when told so', async () => {
    const space = await namespace();
    const services = { apiGroups: [''], resources: ['services'], verbs: ['get', 'list'] };
    const credential = await cluster.makeCredential({ namespaces: [space], rules: [services] });
    const account = createClusterClient({ ...cluster, token: credential.token });
    const statusOf = async (path: string) => (await account.send('GET', path)).status;
    assert.equal(await statusOf(`/api/v1/namespaces/${space}/services`), 200);
    assert.equal(await statusOf(`/api/v1/namespaces/${space}/secrets`), 403);
    assert.equal(await statusOf('/api/v1/namespaces/default/services'), 403);
    await credential.allow([]);
    assert.equal(await statusOf(`/api/v1/namespaces/${space}/services`), 403);
    await credential.remove();
    account.close();
  });

  it("serves all versions of TrafficSplits, and Linkerd's adaptor takes them", async () => {
    const space = await namespace();
    const backends = [
      { service: 'web', weight: 90 },
      { service: 'web-canary', weight: 10 },
    ];
    const split = {
      apiVersion: 'split.smi-spec.io/v1alpha2',
      kind: 'TrafficSplit',
      metadata: { name: 'web' },
      spec: { service: 'web', backends },
    };
    await client.create('TrafficSplit', space, split);
    for (const version of ['v1alpha1', 'v1alpha3', 'v1alpha4']) {
      const path = `/apis/split.smi-spec.io/${version}/namespaces/${space}/trafficsplits/web`;
      assert.deepEqual((await client.send('GET', path)).body.spec, split.spec);
    }
    await until(async () => (await overrides(space))?.length === 2, 'the adaptor');
    assert.deepEqual(await overrides(space), [
      { authority: `web.${space}.svc.cluster.local`, weight: '90' },
      { authority: `web-canary.${space}.svc.cluster.local`, weight: '10' },
    ]);
    await client.delete('TrafficSplit', space, 'web');
    await until(async () => (await overrides(space)) === undefined, 'the adaptor to forget it');
  });

  it('has an adaptor that can be down, and does not hear of what is deleted meanwhile', async () => {
    const space = await namespace(ownMeshPrefix);
    const adaptor = await startSmiAdaptor(cluster, { serves: (name) => name === space });
    for (const name of ['web', 'shop']) {
      const spec = { service: name, backends: [{ service: name, weight: 100 }] };
      const kind = { apiVersion: 'split.smi-spec.io/v1alpha2', kind: 'TrafficSplit' };
      await client.create('TrafficSplit', space, { ...kind, metadata: { name }, spec });
      await until(async () => (await overrides(space, name)) !== undefined, `the adaptor to take ${name}`);
    }
    adaptor.down = true;
    await client.delete('TrafficSplit', space, 'web');
    const heavier = { spec: { backends: [{ service: 'shop', weight: 70 }] } };
    await client.patch('TrafficSplit', space, 'shop', heavier);
    adaptor.down = false;
    await until(async () => (await overrides(space, 'shop'))?.[0]?.weight === '70', 'the adaptor to catch up');
    assert.equal((await overrides(space, 'web'))?.[0]?.weight, '100');
    await adaptor.stop();
  });

  async function overrides(space: string, service = 'web') {
    const profile = await client.get('ServiceProfile', space, `${service}.${space}.svc.cluster.local`);
    return (profile?.spec as { dstOverrides?: { authority: string; weight: string }[] } | undefined)?.dstOverrides;
  }
});

type PodStatus = {
  phase: string;
  podIP?: string;
  conditions?: { type: string; status: string; reason?: string }[];
  containerStatuses?: { state: { waiting?: { reason: string } } }[];
};
