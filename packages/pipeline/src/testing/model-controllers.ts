import { isReady } from '../conditions.ts';
import type { Weights } from '../deployment-state.ts';
import type { KubernetesObject } from '../kubernetes.ts';
import { deploymentKey, hashKey } from '../marks.ts';
import type { SmiRoute } from '../plan.ts';
import { meshWeights, splitWeights } from '../traffic/smi.ts';
import { get, hashOf, insert, list, type ModelCluster, ownerOf, remove, update } from './model-cluster.ts';

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

/** `hash`: null means the pods of every version. */
export function setReady(
  cluster: ModelCluster,
  hash: string | null,
  ready: boolean,
  count = Number.POSITIVE_INFINITY,
): void {
  const pods = list(cluster, 'Pod').filter((pod) => (hash ?? hashOf(pod)) === hashOf(pod) && isReady(pod) !== ready);
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

const authority = (service: string) => `${service}.shop-qa.svc.cluster.local`;

/** Linkerd's SMI adaptor: a split's weights go into its root's ServiceProfile, and out of it when the split is gone. */
export function runAdaptor(cluster: ModelCluster): void {
  const wanted = new Map(list(cluster, 'ServiceProfile').map(({ metadata }) => [metadata.name, [] as object[]]));
  for (const { spec } of list(cluster, 'TrafficSplit')) {
    const { service, backends } = spec as { service: string; backends: { service: string; weight: number }[] };
    const overrides = backends.map((backend) => ({
      authority: authority(backend.service),
      weight: `${backend.weight}`,
    }));
    wanted.set(authority(service), overrides);
  }
  for (const [name, dstOverrides] of wanted) {
    const profile = get(cluster, 'ServiceProfile', name);
    const spec = { dstOverrides };
    if (profile) update(cluster, profile, { ...profile, spec });
    else insert(cluster, { apiVersion: 'linkerd.io/v1alpha2', kind: 'ServiceProfile', metadata: { name }, spec });
  }
}

/** The weights that meshed traffic follows; null: the root Service's endpoints. */
export function weightsInForce(cluster: ModelCluster, route: SmiRoute, mesh: 'linkerd-smi' | 'stored'): Weights | null {
  const { rootServiceName, canaryServiceName } = route;
  if (mesh === 'linkerd-smi') {
    return meshWeights(get(cluster, 'ServiceProfile', authority(rootServiceName)), rootServiceName, canaryServiceName);
  }
  const split = get(cluster, 'TrafficSplit', route.trafficSplitName);
  return split ? splitWeights(split, route) : null;
}

/** Shares of traffic, each out of 1. `lost`: sent to a backend without a pod that answers. */
export type Shares = { new: number; old: number; lost: number };

/** Where traffic to a root goes: `mesh` follows the weights, `plain` is a client outside the mesh. */
export function trafficOf(
  cluster: ModelCluster,
  run: { route: SmiRoute; newHash: string },
  mesh: 'linkerd-smi' | 'stored',
): { mesh: Shares; plain: Shares } {
  const plain = behind(cluster, run.route.rootServiceName, run.newHash);
  const weights = weightsInForce(cluster, run.route, mesh);
  if (weights === null || weights.stable + weights.canary === 0) return { mesh: plain, plain };
  const total = weights.stable + weights.canary;
  const canary = behind(cluster, run.route.canaryServiceName, run.newHash);
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
export function unpinByOthers(cluster: ModelCluster, service: string): void {
  const root = get(cluster, 'Service', service);
  if (!root) return;
  const spec = root.spec as { selector: Record<string, string> };
  const { [hashKey]: _, ...selector } = spec.selector;
  update(cluster, root, { ...root, spec: { ...spec, selector } });
}

export function unlabelByOthers(cluster: ModelCluster, service: string): void {
  const root = get(cluster, 'Service', service);
  if (!root?.metadata.labels?.[deploymentKey]) return;
  const { [deploymentKey]: _, ...labels } = root.metadata.labels;
  update(cluster, root, { ...root, metadata: { ...root.metadata, labels } });
}

export function scaleByOthers(cluster: ModelCluster, name: string): void {
  const replicaSet = get(cluster, 'ReplicaSet', name);
  if (replicaSet) update(cluster, replicaSet, { ...replicaSet, spec: { ...(replicaSet.spec as object), replicas: 0 } });
}

/** Somebody deletes the TrafficSplit, and perhaps makes one of his own. */
export function deleteSplitByOthers(cluster: ModelCluster, name: string, again: boolean): void {
  const split = get(cluster, 'TrafficSplit', name);
  if (!split) return;
  remove(cluster, 'TrafficSplit', name);
  if (again) insert(cluster, { ...split, metadata: { name, annotations: { owner: 'somebody' } } });
}

export function setWeightsByOthers(cluster: ModelCluster, name: string, weights: Weights): void {
  const split = get(cluster, 'TrafficSplit', name);
  if (!split) return;
  const spec = split.spec as { backends: { service: string }[] };
  const backends = spec.backends.map((backend, index) => ({
    ...backend,
    weight: index === 0 ? weights.stable : weights.canary,
  }));
  update(cluster, split, { ...split, spec: { ...spec, backends } });
}
