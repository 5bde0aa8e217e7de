import { isReady } from '../conditions.ts';
import type { Weights } from '../deployment-state.ts';
import type { KubernetesObject } from '../kubernetes.ts';
import { hashKey } from '../marks.ts';
import { meshWeights, splitWeights } from '../traffic/smi.ts';
import { get, hashOf, insert, list, type ModelCluster, ownerOf, remove, update } from './model-cluster.ts';
import { samplePlan } from './samples.ts';

/** What happens in a model cluster beside the run: its controllers, its mesh, failures, and other people's edits. */

/** ReplicaSets get the pods they ask for; new pods are not ready yet. */
export function runReplicaSets(cluster: ModelCluster): void {
  for (const replicaSet of list(cluster, 'ReplicaSet')) {
    const { name } = replicaSet.metadata;
    const spec = replicaSet.spec as { replicas: number; template: { metadata: { labels: Record<string, string> } } };
    const own = list(cluster, 'Pod').filter((pod) => ownerOf(pod) === name);
    for (const pod of own.slice(spec.replicas)) remove(cluster, 'Pod', pod.metadata.name);
    for (let index = 0, missing = spec.replicas - own.length; missing > 0; index += 1) {
      if (get(cluster, 'Pod', `${name}-${index}`)) continue;
      insert(cluster, podOf(replicaSet, `${name}-${index}`, spec.template.metadata.labels));
      missing -= 1;
    }
    const pods = list(cluster, 'Pod').filter((pod) => ownerOf(pod) === name);
    const status = {
      replicas: pods.length,
      readyReplicas: pods.filter(isReady).length,
      observedGeneration: replicaSet.metadata.generation,
    };
    update(cluster, replicaSet, { ...replicaSet, status });
  }
}

function podOf(replicaSet: KubernetesObject, name: string, labels: Record<string, string>): KubernetesObject {
  const { apiVersion, kind, metadata } = replicaSet;
  const ownerReferences = [{ apiVersion, kind, name: metadata.name, uid: metadata.uid ?? '', controller: true }];
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels, ownerReferences },
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'False' }] },
  };
}

export function setReady(cluster: ModelCluster, hash: string, ready: boolean, count = Number.POSITIVE_INFINITY): void {
  const pods = list(cluster, 'Pod').filter((pod) => hashOf(pod) === hash && isReady(pod) !== ready);
  for (const pod of pods.slice(0, count)) {
    const conditions = [{ type: 'Ready', status: ready ? 'True' : 'False' }];
    update(cluster, pod, { ...pod, status: { phase: 'Running', conditions } });
  }
}

/** EndpointSlices follow the pods that Services select. */
export function publishEndpoints(cluster: ModelCluster): void {
  for (const slice of list(cluster, 'EndpointSlice')) {
    if (!get(cluster, 'Service', slice.metadata.name)) remove(cluster, 'EndpointSlice', slice.metadata.name);
  }
  for (const service of list(cluster, 'Service')) {
    const { name } = service.metadata;
    const selector = Object.entries((service.spec as { selector: Record<string, string> }).selector);
    const pods = list(cluster, 'Pod').filter(({ metadata }) =>
      selector.every(([key, value]) => metadata.labels?.[key] === value),
    );
    const endpoints = pods.map((pod) => ({
      conditions: { ready: isReady(pod) },
      targetRef: { kind: 'Pod', name: pod.metadata.name },
    }));
    const known = get(cluster, 'EndpointSlice', name);
    const slice = { apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata: { name }, endpoints };
    if (known) update(cluster, known, { ...known, endpoints });
    else insert(cluster, slice);
  }
}

const { route } = samplePlan();
const authority = (service: string) => `${service}.shop-qa.svc.cluster.local`;

/** Linkerd's SMI adaptor: the split's weights go into root's ServiceProfile, and out of it when the split is gone. */
export function runAdaptor(cluster: ModelCluster): void {
  const split = list(cluster, 'TrafficSplit').find(
    ({ spec }) => (spec as { service: string }).service === route.rootServiceName,
  );
  const profile = get(cluster, 'ServiceProfile', authority(route.rootServiceName));
  if (!split && !profile) return;
  const backends = (split?.spec as { backends?: { service: string; weight: number }[] } | undefined)?.backends ?? [];
  const dstOverrides = backends.map(({ service, weight }) => ({ authority: authority(service), weight: `${weight}` }));
  const metadata = { name: authority(route.rootServiceName) };
  if (profile) update(cluster, profile, { ...profile, spec: { dstOverrides } });
  else insert(cluster, { apiVersion: 'linkerd.io/v1alpha2', kind: 'ServiceProfile', metadata, spec: { dstOverrides } });
}

/** The weights that meshed traffic follows; null: the root Service's endpoints. */
export function weightsInForce(cluster: ModelCluster, canary: string, mesh: 'linkerd-smi' | 'stored'): Weights | null {
  if (mesh === 'linkerd-smi') return meshWeights(get(cluster, 'ServiceProfile', authority('web')), 'web', canary);
  const split = get(cluster, 'TrafficSplit', 'web');
  return split ? splitWeights(split, { ...route, canaryServiceName: canary }) : null;
}

/** Shares of traffic, each out of 1. `lost`: sent to a backend without a pod that answers. */
export type Shares = { new: number; old: number; lost: number };

/** Where traffic to root goes: `mesh` follows the weights, `plain` is a client outside the mesh. */
export function trafficOf(
  cluster: ModelCluster,
  run: { canary: string; hash: string; mesh: 'linkerd-smi' | 'stored' },
): { mesh: Shares; plain: Shares } {
  const plain = behind(cluster, 'web', run.hash);
  const weights = weightsInForce(cluster, run.canary, run.mesh);
  if (weights === null || weights.stable + weights.canary === 0) return { mesh: plain, plain };
  const total = weights.stable + weights.canary;
  const canary = behind(cluster, run.canary, run.hash);
  const mix = (of: keyof Shares) => (plain[of] * weights.stable + canary[of] * weights.canary) / total;
  return { mesh: { new: mix('new'), old: mix('old'), lost: mix('lost') }, plain };
}

/** Endpoints of a Service that are listed as ready, of one version. */
export function readyBehind(cluster: ModelCluster, service: string, hash: string): number {
  return servingBehind(cluster, service).filter((name) => {
    const pod = get(cluster, 'Pod', name);
    return pod && hashOf(pod) === hash;
  }).length;
}

function servingBehind(cluster: ModelCluster, service: string): string[] {
  const slice = get(cluster, 'Service', service) && get(cluster, 'EndpointSlice', service);
  const endpoints = (slice?.endpoints ?? []) as { conditions: { ready: boolean }; targetRef: { name: string } }[];
  return endpoints.filter(({ conditions }) => conditions.ready).map(({ targetRef }) => targetRef.name);
}

function behind(cluster: ModelCluster, service: string, hash: string): Shares {
  const serving = servingBehind(cluster, service);
  if (serving.length === 0) return { new: 0, old: 0, lost: 1 };
  const shares: Shares = { new: 0, old: 0, lost: 0 };
  for (const name of serving) {
    const pod = get(cluster, 'Pod', name);
    if (!pod || !isReady(pod)) shares.lost += 1 / serving.length;
    else if (hashOf(pod) === hash) shares.new += 1 / serving.length;
    else shares.old += 1 / serving.length;
  }
  return shares;
}

/** A forced server-side apply of the user's Service takes the pin out (GitOps tools do this). */
export function unpinByOthers(cluster: ModelCluster): void {
  const root = get(cluster, 'Service', 'web');
  if (!root) return;
  const spec = root.spec as { selector: Record<string, string> };
  const { [hashKey]: _, ...selector } = spec.selector;
  update(cluster, root, { ...root, spec: { ...spec, selector } });
}

/** Somebody deletes the TrafficSplit, and perhaps makes one of his own. */
export function deleteSplitByOthers(cluster: ModelCluster, again: boolean): void {
  const split = get(cluster, 'TrafficSplit', 'web');
  if (!split) return;
  remove(cluster, 'TrafficSplit', 'web');
  if (again) insert(cluster, { ...split, metadata: { name: 'web', annotations: { owner: 'somebody' } } });
}

export function setWeightsByOthers(cluster: ModelCluster, weights: Weights): void {
  const split = get(cluster, 'TrafficSplit', 'web');
  if (!split) return;
  const spec = split.spec as { backends: { service: string }[] };
  const backends = spec.backends.map((backend, index) => ({
    ...backend,
    weight: index === 0 ? weights.stable : weights.canary,
  }));
  update(cluster, split, { ...split, spec: { ...spec, backends } });
}
