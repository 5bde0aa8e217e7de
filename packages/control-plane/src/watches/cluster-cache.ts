import type { ClusterView } from '@cdaas/pipeline/conditions.ts';
import type { Condition, HeldKind } from '@cdaas/pipeline/deployment-state.ts';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { hashKey } from '@cdaas/pipeline/marks.ts';
import { replicaFailureOf } from '@cdaas/pipeline/replica-failure.ts';
import { essenceOf, weightOf } from '../drivers/kube-essence.ts';
import { serviceNameLabel } from '../drivers/surroundings.ts';

/**
 * What the watches of one cluster know, indexed the way conditions ask for it. Every change names the *interests* it
 * touches, so that only the conditions that look at them are evaluated again.
 */

export type WatchedKind = HeldKind | 'EndpointSlice' | 'Pod' | 'Deployment' | 'ServiceProfile';

export type ClusterCache = ClusterView & {
  /** Replaces all objects of a kind (in one namespace, where given) and answers the interests touched. */
  replace(kind: WatchedKind, objects: KubernetesObject[], namespace?: string): Set<string>;
  put(kind: WatchedKind, object: KubernetesObject): Set<string>;
  remove(kind: WatchedKind, object: KubernetesObject): Set<string>;
  /** All changes of a kind (in one namespace, where given) up to this resourceVersion are in. */
  reach(kind: WatchedKind, resourceVersion: string, namespace?: string): void;
  /** About how many bytes of memory it takes. */
  weight(): number;
};

/** The interests of a condition: evaluated again when one of them is touched. */
export function interestsOf(condition: Condition): string[] {
  const { namespace } = condition;
  const service = (name: string) => `service/${namespace}/${name}`;
  const pods = (hash: string) => `pods/${namespace}/${hash}`;
  switch (condition.kind) {
    case 'endpoints':
    case 'starved':
    case 'short':
      return [service(condition.service), pods(condition.hash)];
    case 'enough':
      return [
        service(condition.service),
        pods(condition.hash),
        service(condition.other.service),
        pods(condition.other.hash),
      ];
    case 'podsReady':
      return [pods(condition.hash)];
    case 'noted':
      return [`replicaset/${namespace}/${condition.replicaSet}`];
    case 'gone':
      return [`replicaset/${namespace}/${condition.replicaSet}`, pods(condition.hash)];
    case 'noDeployment':
    case 'intruder':
      return [`deployment/${namespace}/${condition.deployment}`];
    case 'claimant':
      return [`deployments/${namespace}`];
    case 'sharer':
      return [`deployments/${namespace}`, service(condition.service)];
    case 'adopted':
      return [`deployment/${namespace}/${condition.deployment}`, `replicaset/${namespace}/${condition.replicaSet}`];
    case 'empty':
      return [`replicaset/${namespace}/${condition.replicaSet}`];
    case 'noStrangers':
    case 'unseen':
      return [];
    case 'mesh':
    case 'meshDropped':
      return [`profile/${namespace}/${condition.root}`];
    case 'changed': {
      const { kind, name } = condition.object;
      return [interestOf(kind, { metadata: { namespace, name } })];
    }
  }
}

function interestOf(kind: WatchedKind, { metadata }: Pick<KubernetesObject, 'metadata'>): string {
  const namespace = metadata.namespace ?? '';
  switch (kind) {
    case 'Service':
      return `service/${namespace}/${metadata.name}`;
    case 'EndpointSlice':
      return `service/${namespace}/${metadata.labels?.[serviceNameLabel] ?? ''}`;
    case 'Pod':
      return `pods/${namespace}/${metadata.labels?.[hashKey] ?? ''}`;
    case 'ReplicaSet':
      return `replicaset/${namespace}/${metadata.name}`;
    case 'TrafficSplit':
      return `split/${namespace}/${metadata.name}`;
    case 'Deployment':
      return `deployment/${namespace}/${metadata.name}`;
    case 'ServiceProfile':
      return `profile/${namespace}/${metadata.name.split('.')[0]}`;
  }
}

/** The interest in all Deployments of a namespace. */
function crowd({ metadata }: KubernetesObject): string {
  return `deployments/${metadata.namespace ?? ''}`;
}

/** What a Deployment selects and brings, to compare. */
function claimOf({ metadata, spec }: KubernetesObject): string {
  const { selector, template, replicas = 1 } = spec as { selector?: unknown; template?: unknown; replicas?: number };
  return JSON.stringify([metadata.labels, metadata.deletionTimestamp !== undefined, selector, template, replicas > 0]);
}

/** The interest in the pods of a ReplicaSet of ours. */
function podsOf({ metadata }: KubernetesObject): string {
  return `pods/${metadata.namespace ?? ''}/${metadata.labels?.[hashKey] ?? ''}`;
}

export function createClusterCache(): ClusterCache {
  /** Per kind: by identity, and the identities by interest. */
  const kinds = new Map<
    WatchedKind,
    { objects: Map<string, KubernetesObject>; byInterest: Map<string, Set<string>> }
  >();
  /** By kind and namespace. */
  const reached = new Map<string, string>();
  /** Why ReplicaSets get no more pods, by the interest in those. */
  const failures = new Map<string, string>();
  let weight = 0;
  const table = (kind: WatchedKind) => {
    let entry = kinds.get(kind);
    if (!entry) {
      entry = { objects: new Map(), byInterest: new Map() };
      kinds.set(kind, entry);
    }
    return entry;
  };
  const identity = ({ metadata }: KubernetesObject) => `${metadata.namespace ?? ''}/${metadata.name}`;

  const remove = (kind: WatchedKind, object: KubernetesObject): Set<string> => {
    const { objects, byInterest } = table(kind);
    const id = identity(object);
    const known = objects.get(id);
    if (!known) return new Set();
    objects.delete(id);
    weight -= weightOf(known);
    if (kind === 'ReplicaSet') failures.delete(podsOf(known));
    const interest = interestOf(kind, known);
    const ids = byInterest.get(interest);
    ids?.delete(id);
    if (ids?.size === 0) byInterest.delete(interest);
    return new Set([interest, ...(kind === 'Deployment' ? [crowd(known)] : [])]);
  };

  const put = (kind: WatchedKind, whole: KubernetesObject): Set<string> => {
    const object = essenceOf(whole);
    const known = table(kind).objects.get(identity(object));
    const failedBefore = kind === 'ReplicaSet' ? failures.get(podsOf(object)) : undefined;
    const touched = remove(kind, object);
    if (kind === 'Deployment') {
      // Its status changes all the time, and says nothing about whose ReplicaSets and traffic it is after.
      if (known && claimOf(known) === claimOf(object)) touched.delete(crowd(object));
      else touched.add(crowd(object));
    }
    const { objects, byInterest } = table(kind);
    const id = identity(object);
    const interest = interestOf(kind, object);
    objects.set(id, object);
    weight += weightOf(object);
    const ids = byInterest.get(interest);
    if (ids) ids.add(id);
    else byInterest.set(interest, new Set([id]));
    if (kind === 'ReplicaSet') {
      const failure = replicaFailureOf(object);
      if (failure !== undefined) failures.set(podsOf(object), failure);
      if (failure !== failedBefore) touched.add(podsOf(object));
    }
    return touched.add(interest);
  };

  const find = (kind: WatchedKind, interest: string): KubernetesObject[] => {
    const { objects, byInterest } = table(kind);
    return [...(byInterest.get(interest) ?? [])].flatMap((id) => objects.get(id) ?? []);
  };

  return {
    put,
    remove,
    weight: () => weight,
    reach: (kind, resourceVersion, namespace = '') => void reached.set(`${kind}/${namespace}`, resourceVersion),
    // Nothing at all before the first list.
    shownUpTo: (kind, namespace) => reached.get(`${kind}/${namespace}`) ?? reached.get(`${kind}/`) ?? '0',
    replace(kind, objects, namespace) {
      const touched = new Set<string>();
      for (const known of [...table(kind).objects.values()]) {
        if (namespace !== undefined && known.metadata.namespace !== namespace) continue;
        for (const interest of remove(kind, known)) touched.add(interest);
      }
      for (const object of objects) for (const interest of put(kind, object)) touched.add(interest);
      return touched;
    },
    service: (namespace, name) => table('Service').objects.get(`${namespace}/${name}`),
    endpointSlices: (namespace, service) => find('EndpointSlice', `service/${namespace}/${service}`),
    pods: (namespace, hash) => find('Pod', `pods/${namespace}/${hash}`),
    replicaSet: (namespace, name) => table('ReplicaSet').objects.get(`${namespace}/${name}`),
    replicaFailure: (namespace, hash) => failures.get(`pods/${namespace}/${hash}`),
    trafficSplit: (namespace, name) => table('TrafficSplit').objects.get(`${namespace}/${name}`),
    deployment: (namespace, name) => table('Deployment').objects.get(`${namespace}/${name}`),
    deployments: (namespace) =>
      [...table('Deployment').objects.values()].filter(({ metadata }) => metadata.namespace === namespace),
    serviceProfile: (namespace, service) => find('ServiceProfile', `profile/${namespace}/${service}`)[0],
  };
}
