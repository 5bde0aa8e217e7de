import type { ClusterView } from '../conditions.ts';
import { isRecord } from '../is-record.ts';
import type { KubernetesObject } from '../kubernetes.ts';
import { type LabelSelector, matchesSelector } from '../label-selector.ts';
import { hashKey } from '../marks.ts';
import type { Surroundings } from '../preflight-look.ts';
import type { ClusterWrite } from '../render.ts';
import { namespace } from './samples.ts';

/**
 * A model of a cluster for tests of the machines: objects of one namespace with uids and resourceVersions, changed by
 * rendered writes exactly as an API server would, and by the controllers and people of `model-controllers.ts`. Nothing
 * happens by itself, so that a test decides when endpoints, pods and the mesh catch up.
 */
export type ModelCluster = {
  /** By `<kind>/<name>`. EndpointSlices are named like their Service. */
  objects: Record<string, KubernetesObject>;
  revision: number;
  uids: number;
};

export type Answer = { status: number; reason: string; object: KubernetesObject | null };

export function createModelCluster(objects: KubernetesObject[]): ModelCluster {
  const cluster: ModelCluster = { objects: {}, revision: 0, uids: 0 };
  for (const object of objects) insert(cluster, object);
  return cluster;
}

export function get(cluster: ModelCluster, kind: string, name: string): KubernetesObject | undefined {
  return cluster.objects[`${kind}/${name}`];
}

export function list(cluster: ModelCluster, kind: string): KubernetesObject[] {
  return Object.values(cluster.objects).filter((object) => object.kind === kind);
}

export function insert(cluster: ModelCluster, object: KubernetesObject): KubernetesObject {
  if (!isWellFormed(object)) throw new Error(`${object.kind} ${object.metadata.name} selects other pods than its own`);
  cluster.uids += 1;
  const stored = structuredClone(object);
  stored.metadata = { ...stored.metadata, namespace, uid: `uid-${cluster.uids}`, generation: 1 };
  cluster.objects[keyOf(object)] = stored;
  return bump(cluster, stored);
}

export function remove(cluster: ModelCluster, kind: string, name: string): void {
  if (!cluster.objects[`${kind}/${name}`]) return;
  delete cluster.objects[`${kind}/${name}`];
  cluster.revision += 1;
  if (kind !== 'ReplicaSet') return;
  for (const pod of list(cluster, 'Pod')) if (ownerOf(pod) === name) remove(cluster, 'Pod', pod.metadata.name);
}

/** Stores a new form of an object, as anybody's write does; the same form again changes nothing. */
export function update(cluster: ModelCluster, before: KubernetesObject, after: KubernetesObject): KubernetesObject {
  if (JSON.stringify(before) === JSON.stringify(after)) return before;
  const same = formOf(before) === formOf(after);
  if (same && JSON.stringify(before.status) === JSON.stringify(after.status)) return before;
  const changed = JSON.stringify(before.spec) !== JSON.stringify(after.spec);
  const generation = (before.metadata.generation ?? 0) + (changed ? 1 : 0);
  const stored = { ...after, metadata: { ...after.metadata, generation } };
  cluster.objects[keyOf(before)] = stored;
  return bump(cluster, stored);
}

/** Performs a write as an API server does. Without a precondition it goes through whatever stands there. */
export function performWrite(cluster: ModelCluster, write: ClusterWrite): Answer {
  const { kind, name } = write.ref;
  const stored = get(cluster, kind, name);
  if (write.verb === 'create') {
    if (stored) return no(409, 'AlreadyExists');
    const body = clean(write.body);
    if (body.metadata.resourceVersion !== undefined) return no(400, 'BadRequest');
    if (!isWellFormed(body)) return no(422, 'Invalid');
    return yes(201, insert(cluster, body));
  }
  if (!stored) return no(404, 'NotFound');
  const asked = write.verb === 'delete' ? write : clean(write.body).metadata;
  if (asked.uid !== undefined && asked.uid !== stored.metadata.uid) return no(409, 'Conflict');
  if (asked.resourceVersion !== undefined && asked.resourceVersion !== stored.metadata.resourceVersion) {
    return no(409, 'Conflict');
  }
  if (write.verb === 'delete') {
    if (write.orphan)
      update(cluster, stored, { ...stored, metadata: { ...stored.metadata, deletionTimestamp: 'now' } });
    else remove(cluster, kind, name);
    return yes(200, null);
  }
  const body = clean(write.body);
  const after = write.verb === 'put' ? body : (mergePatch(stored, body) as KubernetesObject);
  const spec = body.spec as { selector?: unknown } | undefined;
  if (write.verb === 'apply' && spec?.selector) (after.spec as { selector?: unknown }).selector = spec.selector;
  if (!isWellFormed(after)) return no(422, 'Invalid');
  return yes(200, update(cluster, stored, after));
}

/** A Deployment that does not select the pods of its own template is refused: its controller would make ReplicaSets for ever. */
function isWellFormed({ kind, spec }: KubernetesObject): boolean {
  if (kind !== 'Deployment') return true;
  type Spec = { selector: LabelSelector; template: { metadata?: { labels?: Record<string, string> } } };
  const { selector, template } = spec as Spec;
  return matchesSelector(selector, template.metadata?.labels ?? {});
}

/** RFC 7386. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isRecord(patch)) return patch;
  const merged: Record<string, unknown> = isRecord(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else if (value !== undefined) merged[key] = mergePatch(merged[key], value);
  }
  return merged;
}

/** The cluster as the conditions see it. */
export function viewOf(cluster: ModelCluster): ClusterView {
  return {
    service: (_, name) => get(cluster, 'Service', name),
    endpointSlices: (_, service) => {
      const slice = get(cluster, 'EndpointSlice', service);
      return slice ? [slice] : [];
    },
    pods: (_, hash) => list(cluster, 'Pod').filter((pod) => hashOf(pod) === hash),
    shownUpTo: () => null,
    trafficSplit: (_, name) => get(cluster, 'TrafficSplit', name),
    replicaSet: (_, name) => get(cluster, 'ReplicaSet', name),
    deployment: (_, name) => get(cluster, 'Deployment', name),
    deployments: () => list(cluster, 'Deployment'),
    everyPod: () => list(cluster, 'Pod'),
    serviceProfile: (_, service) => get(cluster, 'ServiceProfile', `${service}.${namespace}.svc.cluster.local`),
  };
}

/** The cluster as a preflight reads it. */
export function surroundingsOf(
  cluster: ModelCluster,
  planned: { kind: string; metadata: { name: string } }[],
  fixed: Pick<Surroundings, 'meshConfirmation' | 'instance' | 'finalDeployments'>,
): Surroundings {
  return {
    ...fixed,
    services: list(cluster, 'Service'),
    pods: list(cluster, 'Pod'),
    replicaSets: list(cluster, 'ReplicaSet'),
    splits: list(cluster, 'TrafficSplit'),
    serviceProfiles: list(cluster, 'ServiceProfile'),
    deployments: list(cluster, 'Deployment'),
    autoscalers: [],
    existing: planned.map(({ kind, metadata }) => get(cluster, kind, metadata.name)),
    splitApiVersion: 'split.smi-spec.io/v1alpha2',
  };
}

export function hashOf(pod: KubernetesObject): string | undefined {
  return pod.metadata.labels?.[hashKey];
}

export function ownerOf(pod: KubernetesObject): string | undefined {
  return pod.metadata.ownerReferences?.[0]?.name;
}

function keyOf(object: KubernetesObject): string {
  return `${object.kind}/${object.metadata.name}`;
}

function bump(cluster: ModelCluster, stored: KubernetesObject): KubernetesObject {
  cluster.revision += 1;
  const bumped = { ...stored, metadata: { ...stored.metadata, resourceVersion: `rv-${cluster.revision}` } };
  cluster.objects[keyOf(stored)] = bumped;
  return bumped;
}

/** Without undefined fields, as a body that went over the wire. */
function clean(body: Record<string, unknown>): KubernetesObject {
  return JSON.parse(JSON.stringify(body)) as KubernetesObject;
}

const forms = new WeakMap<object, string>();

/**
 * An object as people write it, as text to compare two forms of it: without status, without what only a cluster sets, and
 * without mappings that a merge left empty.
 */
export function formOf(object: KubernetesObject | undefined): string | null {
  if (!object) return null;
  let form = forms.get(object);
  if (form === undefined) {
    const { status, metadata, ...written } = object;
    const { resourceVersion, generation, uid, labels, annotations, ownerReferences, ...rest } = metadata;
    // An owner that was made again has another uid.
    const owners = ownerReferences?.map(({ kind, name }) => `${kind} ${name}`);
    const full = (mapping: object | undefined) => (Object.keys(mapping ?? {}).length > 0 ? mapping : undefined);
    form = JSON.stringify(
      sorted({ ...written, metadata: { ...rest, owners, labels: full(labels), annotations: full(annotations) } }),
    );
    forms.set(object, form);
  }
  return form;
}

/** With the keys of mappings in order, so that two texts can be compared. */
export function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, entry]) => entry !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, entry]) => [key, sorted(entry)]),
  );
}

function yes(status: number, object: KubernetesObject | null): Answer {
  return { status, reason: 'OK', object };
}

function no(status: number, reason: string): Answer {
  return { status, reason, object: null };
}
