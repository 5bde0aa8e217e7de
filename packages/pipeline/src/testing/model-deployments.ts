import { isReady } from '../conditions.ts';
import { templateFor } from '../deployment-object.ts';
import type { KubernetesObject } from '../kubernetes.ts';
import { type LabelSelector, matchesSelector } from '../label-selector.ts';
import { get, insert, list, type ModelCluster, ownerOf, remove, sorted, update } from './model-cluster.ts';
import { namespace } from './samples.ts';

/**
 * What Kubernetes does about Deployments in a model cluster: the controller takes ownerless ReplicaSets whose own labels
 * match its selector and lets go of those that match no more, makes one for a template that none has, and moves the pods
 * to it; the garbage collector frees what a Deployment owned that was deleted as an orphan's parent.
 */

type Spec = {
  replicas: number;
  paused?: boolean;
  selector: LabelSelector;
  template: Record<string, unknown> & { metadata?: { labels?: Record<string, string> } };
};

export function runDeployments(cluster: ModelCluster): void {
  for (const deployment of list(cluster, 'Deployment')) {
    if (deployment.metadata.deletionTimestamp !== undefined) free(cluster, deployment);
    else control(cluster, deployment);
  }
}

/** Deletion of a Deployment with all that it owns. */
export function removeWithOwned(cluster: ModelCluster, name: string): void {
  const deployment = get(cluster, 'Deployment', name);
  if (!deployment) return;
  for (const set of setsOf(cluster, deployment)) remove(cluster, 'ReplicaSet', set.metadata.name);
  remove(cluster, 'Deployment', name);
}

function setsOf(cluster: ModelCluster, { metadata }: KubernetesObject): KubernetesObject[] {
  return list(cluster, 'ReplicaSet').filter((set) => controllerOf(set) === metadata.uid);
}

export function controllerOf({ metadata }: KubernetesObject): string | undefined {
  return metadata.ownerReferences?.find(({ controller }) => controller)?.uid;
}

function free(cluster: ModelCluster, deployment: KubernetesObject): void {
  for (const set of setsOf(cluster, deployment)) withOwner(cluster, set, null);
  remove(cluster, 'Deployment', deployment.metadata.name);
}

function withOwner(cluster: ModelCluster, set: KubernetesObject, owner: KubernetesObject | null): KubernetesObject {
  const { ownerReferences: _, ...metadata } = set.metadata;
  const owned = owner ? { ...metadata, ownerReferences: [referenceTo(owner)] } : metadata;
  return update(cluster, set, { ...set, metadata: owned });
}

function referenceTo({ apiVersion, kind, metadata }: KubernetesObject) {
  return { apiVersion, kind, name: metadata.name, uid: metadata.uid ?? '', controller: true };
}

function control(cluster: ModelCluster, deployment: KubernetesObject): void {
  const spec = deployment.spec as Spec;
  const sets = list(cluster, 'ReplicaSet').flatMap((set) => {
    const owner = controllerOf(set);
    const matches = matchesSelector(spec.selector, set.metadata.labels ?? {});
    if (owner === deployment.metadata.uid && !matches) withOwner(cluster, set, null);
    if (!matches || (owner !== undefined && owner !== deployment.metadata.uid)) return [];
    return [owner === undefined ? withOwner(cluster, set, deployment) : set];
  });
  const wanted = templateText(spec.template);
  let current = sets.find((set) => templateText(templateFor(set)) === wanted);
  if (!current && !spec.paused) current = makeSet(cluster, deployment, spec);
  if (current) scale(cluster, current, spec.replicas);
  const ready = current ? podsOf(cluster, current).filter(isReady).length : 0;
  if (current && !spec.paused && ready >= spec.replicas) {
    for (const set of sets) if (set.metadata.name !== current.metadata.name) scale(cluster, set, 0);
  }
  const status = {
    observedGeneration: deployment.metadata.generation,
    replicas: sets.reduce((sum, set) => sum + podsOf(cluster, set).length, 0),
    updatedReplicas: current ? podsOf(cluster, current).length : 0,
  };
  const now = get(cluster, 'Deployment', deployment.metadata.name);
  if (now) update(cluster, now, { ...now, status });
}

function templateText(template: Spec['template']): string {
  return JSON.stringify(sorted(template));
}

function podsOf(cluster: ModelCluster, set: KubernetesObject): KubernetesObject[] {
  return list(cluster, 'Pod').filter((pod) => ownerOf(pod) === set.metadata.name);
}

function scale(cluster: ModelCluster, { metadata }: KubernetesObject, replicas: number): void {
  const set = get(cluster, 'ReplicaSet', metadata.name);
  if (set) update(cluster, set, { ...set, spec: { ...(set.spec as object), replicas } });
}

function makeSet(cluster: ModelCluster, deployment: KubernetesObject, spec: Spec): KubernetesObject {
  const { name } = deployment.metadata;
  let count = 1;
  while (get(cluster, 'ReplicaSet', `${name}-k${count}`)) count += 1;
  const labels = { ...spec.template.metadata?.labels, 'pod-template-hash': `k${count}` };
  return insert(cluster, {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: { name: `${name}-k${count}`, namespace, labels, ownerReferences: [referenceTo(deployment)] },
    spec: {
      replicas: spec.replicas,
      selector: { matchLabels: labels },
      template: { ...spec.template, metadata: { ...spec.template.metadata, labels } },
    },
  });
}

/** Somebody applies the Deployment of the manifests: it becomes one of his own. */
export function makeDeploymentByOthers(cluster: ModelCluster, deployment: KubernetesObject): void {
  const { name } = deployment.metadata;
  if (get(cluster, 'Deployment', name)) return;
  const spec = deployment.spec as Spec;
  const template = { ...spec.template, spec: { containers: [{ name, image: `${name}:git` }] } };
  insert(cluster, {
    ...deployment,
    metadata: { name, annotations: { owner: 'somebody' } },
    spec: { ...spec, template },
  });
}

/** `kubectl set image`, or `kubectl scale`, of a Deployment. */
export function changeDeployment(
  cluster: ModelCluster,
  name: string,
  change: { image: string } | { replicas: number },
) {
  const deployment = get(cluster, 'Deployment', name);
  if (!deployment || deployment.metadata.deletionTimestamp !== undefined) return;
  const spec = deployment.spec as Spec;
  const containers = 'image' in change ? [{ name, image: change.image }] : undefined;
  const next = containers ? { ...spec, template: { ...spec.template, spec: { containers } } } : { ...spec, ...change };
  update(cluster, deployment, { ...deployment, spec: next });
}
