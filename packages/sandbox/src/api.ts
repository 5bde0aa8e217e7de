/**
 * What the verbs of the API do to the store. Every function is synchronous: what it reads cannot change before it
 * writes, so a precondition that held when it was checked holds when the change is stored.
 */
import { randomUUID } from 'node:crypto';
import { admit, checkAllocations } from './admission.ts';
import { applied, managersAfterUpdate } from './apply.ts';
import { undeclaredField } from './declared.ts';
import { decode } from './decode.ts';
import { withDefaults } from './defaults.ts';
import { ApiError, alreadyExists, badRequest, conflict, invalid, notFound, uidMismatch } from './errors.ts';
import { equal, type Fields, isFields, type KubeObject, type Metadata, randomSuffix, timestamp } from './objects.ts';
import { jsonPatch, mergePatch, strategicMerge } from './patch.ts';
import { definitionsId, groupVersion, type Resource, type Target } from './resources.ts';
import type { Cluster, Entry } from './store.ts';
import { typeFault } from './types.ts';
import { validate } from './validate.ts';

export type WriteOptions = {
  /** The field manager to record. */
  manager: string;
  subresource?: 'status' | 'scale';
  dryRun?: boolean;
  force?: boolean;
};

export type PatchType = 'merge' | 'json' | 'strategic' | 'apply';

export function read({ store }: Cluster, { resource, namespace, name }: Target): Entry {
  const entry = store.get(resource.id, namespace, name);
  if (!entry) throw notFound(resource, name);
  return entry;
}

/** The object in the version of the API that the request spoke. */
export function inVersion(
  { resource, version }: { resource: Resource; version: string },
  object: KubeObject,
): KubeObject {
  const apiVersion = groupVersion(resource, version);
  return object.apiVersion === apiVersion ? object : { ...object, apiVersion };
}

/**
 * Creates an object.
 * @throws ApiError 404 unknown namespace, 409 AlreadyExists, 400 or 422 for a body that is not valid
 */
export function create(cluster: Cluster, target: Omit<Target, 'name'>, body: unknown, options: WriteOptions): Entry {
  const { resource, namespace } = target;
  const object = decode(target, body);
  if (object.metadata.resourceVersion) {
    throw new ApiError(500, '', 'resourceVersion should not be set on objects to be created');
  }
  const { generateName } = object.metadata;
  const name = object.metadata.name || (generateName ? generated(generateName) : '');
  const { status: _, ...withoutStatus } = object;
  const fresh = {
    ...(resource.status ? withoutStatus : object),
    metadata: newMetadata(object.metadata, namespace, name),
  };
  return insert(cluster, target, fresh as KubeObject, options);
}

function insert(cluster: Cluster, target: Omit<Target, 'name'>, object: KubeObject, options: WriteOptions): Entry {
  const { resource, namespace } = target;
  const { name } = object.metadata;
  admit(cluster, target, object);
  checkAllocations(cluster.store, resource, object);
  if (name && cluster.store.get(resource.id, namespace, name)) throw alreadyExists(resource, name);
  const filled = withDefaults(cluster.store, resource, object, undefined);
  const causes = validate(resource, filled, undefined);
  if (causes.length > 0) throw invalid(resource, filled.metadata.name, causes);
  const managedFields = filled.metadata.managedFields ?? managersAfterUpdate(undefined, filled, options);
  const generation = resource.generation ? { generation: 1 } : {};
  const stored = established(resource, { ...filled, metadata: { ...filled.metadata, ...generation, managedFields } });
  return save(cluster, resource, stored, options);
}

/** As Kubernetes does it: a long base is cut so that the name has at most 63 characters. */
function generated(base: string): string {
  return base.slice(0, 58) + randomSuffix();
}

function newMetadata(wanted: Partial<Metadata>, namespace: string, name: string): Metadata {
  const { labels, annotations, ownerReferences, finalizers, generateName, managedFields } = wanted;
  return {
    name,
    ...(generateName ? { generateName } : {}),
    ...(namespace ? { namespace } : {}),
    uid: randomUUID(),
    resourceVersion: '',
    creationTimestamp: timestamp(),
    ...(labels ? { labels } : {}),
    ...(annotations ? { annotations } : {}),
    ...(ownerReferences ? { ownerReferences } : {}),
    ...(finalizers?.length ? { finalizers } : {}),
    ...(managedFields?.length ? { managedFields } : {}),
  };
}

/** Replaces an object (PUT). A resourceVersion in the body is a precondition; custom resources must send it. */
export function replace(cluster: Cluster, target: Target, body: unknown, options: WriteOptions): Entry {
  const old = read(cluster, target);
  if (options.subresource === 'scale') return rescale(cluster, target, old, body, options);
  const object = decode(target, body);
  checkName(object, target);
  if (target.resource.custom && !object.metadata.resourceVersion) {
    const message = 'Invalid value: 0: must be specified for an update';
    throw invalid(target.resource, target.name, [
      { reason: 'FieldValueInvalid', message, field: 'metadata.resourceVersion' },
    ]);
  }
  return update(cluster, target, old, object, options);
}

function checkName({ metadata }: KubeObject, { name }: Target): void {
  if (metadata.name === name) return;
  throw badRequest(`the name of the object (${metadata.name}) does not match the name on the URL (${name})`);
}

/** Changes an object (PATCH); an apply of an object that is not there creates it. */
export function patch(
  cluster: Cluster,
  target: Target,
  type: PatchType,
  body: unknown,
  options: WriteOptions,
): { entry: Entry; created: boolean } {
  if (type === 'apply') return apply(cluster, target, body, options);
  const old = read(cluster, target);
  const scaled = options.subresource === 'scale';
  const current = scaled ? scaleOf(target.resource, old.object) : inVersion(target, old.object);
  const next = patched(target.resource, type, current, body);
  if (scaled) return { entry: rescale(cluster, target, old, next, options), created: false };
  const uid = isFields(next) && isFields(next.metadata) ? next.metadata.uid : undefined;
  if (uid !== old.object.metadata.uid) {
    const message = `Invalid value: ${JSON.stringify(uid)}: field is immutable`;
    throw invalid(target.resource, target.name, [{ reason: 'FieldValueInvalid', message, field: 'metadata.uid' }]);
  }
  return { entry: update(cluster, target, old, decode(target, next), options), created: false };
}

function patched({ kind, custom }: Resource, type: PatchType, current: KubeObject, body: unknown): unknown {
  if (type === 'json') return jsonPatch(current, body);
  if (!isFields(body)) throw badRequest('the patch must be an object');
  if (type === 'merge') return mergePatch(current, body);
  if (custom) {
    const message = `the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml`;
    throw new ApiError(415, 'UnsupportedMediaType', message);
  }
  return strategicMerge(kind, current, body);
}

function apply(
  cluster: Cluster,
  target: Target,
  body: unknown,
  options: WriteOptions,
): { entry: Entry; created: boolean } {
  const { resource, namespace, name } = target;
  const strange = undeclaredField(resource, target.version, body);
  const fault = typeFault(resource, target.version, body) ?? (strange && `${strange}: field not declared in schema`);
  // Other requests answer 400 to a field of the wrong type, and drop one that there is not; the real apply does neither.
  if (fault) throw new ApiError(500, '', `failed to create typed patch object (${namespace}/${name}): ${fault}`);
  const wanted = decode(target, body);
  checkName(wanted, target);
  if (wanted.metadata.managedFields?.length) throw badRequest('metadata.managedFields must be nil');
  const old = cluster.store.get(resource.id, namespace, name);
  const { resourceVersion, uid } = wanted.metadata;
  // A resourceVersion is no precondition where there is nothing: the object is made. A uid is one.
  if (!old && uid) throw conflict(resource, name, uidMismatch(uid, ''));
  if (old && resourceVersion && resourceVersion !== old.object.metadata.resourceVersion) throw conflict(resource, name);
  const live = old && inVersion(target, old.object);
  const next = applied(live, wanted, options, options.force === true);
  if (old) {
    const metadata = { ...next.metadata, ...(uid ? { uid } : {}) };
    return {
      entry: update(cluster, target, old, decode(target, { ...next, metadata }), options, true),
      created: false,
    };
  }
  const metadata = newMetadata(next.metadata, namespace, name);
  const { status: _, ...withoutStatus } = next;
  const fresh = { ...(resource.status ? withoutStatus : next), metadata };
  return { entry: insert(cluster, target, fresh as KubeObject, options), created: true };
}

function update(
  cluster: Cluster,
  { resource, name, version }: Target,
  old: Entry,
  wanted: KubeObject,
  options: WriteOptions,
  managersKnown = false,
): Entry {
  const { uid, resourceVersion } = wanted.metadata;
  const before = old.object.metadata;
  if (uid && uid !== before.uid) throw conflict(resource, name, uidMismatch(uid, before.uid));
  if (resourceVersion && resourceVersion !== before.resourceVersion) throw conflict(resource, name);

  const current = inVersion({ resource, version }, old.object);
  const metadata = updatedMetadata(before, wanted.metadata);
  const spoken = carried(resource, current, { ...wanted, metadata }, options.subresource);
  const next = withDefaults(cluster.store, resource, spoken, current);
  const causes = validate(resource, next, current);
  if (causes.length > 0) throw invalid(resource, name, causes);

  // Managers that come along with a change are taken for the ones before it.
  const { managedFields: given } = wanted.metadata;
  const ground = given?.length ? { ...current, metadata: { ...current.metadata, managedFields: given } } : current;
  const managedFields = managersKnown ? given : managersAfterUpdate(ground, next, options);
  if (managedFields) next.metadata = { ...next.metadata, managedFields };
  const changed = !equal(content(current), content(next));
  if (resource.generation && changed && options.subresource !== 'status') {
    next.metadata = { ...next.metadata, generation: (before.generation ?? 0) + 1 };
  }
  if (equal(current, next)) return old;
  const saved = save(cluster, resource, next, options);
  const finalized = before.finalizers?.length && !next.metadata.finalizers?.length;
  if (!options.dryRun && next.metadata.deletionTimestamp && finalized) return cluster.store.remove(saved);
  return saved;
}

/** The part of an object whose changes count in `metadata.generation`. */
function content({ metadata: _, status: __, ...rest }: KubeObject): Fields {
  return rest;
}

/** Each endpoint changes its own part: the object all but its status, `/status` only that. */
function carried(resource: Resource, old: KubeObject, wanted: KubeObject, subresource?: string): KubeObject {
  if (!resource.status) return wanted;
  if (subresource === 'status') return { ...old, status: wanted.status };
  const { status: _, ...rest } = wanted;
  return (old.status === undefined ? rest : { ...rest, status: old.status }) as KubeObject;
}

function updatedMetadata(old: Metadata, wanted: Metadata): Metadata {
  const { labels: _, annotations: __, ownerReferences: ___, finalizers: ____, ...kept } = old;
  const { labels, annotations, ownerReferences, finalizers } = wanted;
  return {
    ...kept,
    ...(labels && Object.keys(labels).length > 0 ? { labels } : {}),
    ...(annotations && Object.keys(annotations).length > 0 ? { annotations } : {}),
    ...(ownerReferences?.length ? { ownerReferences } : {}),
    ...(finalizers?.length ? { finalizers } : {}),
  };
}

/** Stores an object under the version that its resource is kept in. A dry run only makes up the entry. */
function save({ store, registry }: Cluster, resource: Resource, object: KubeObject, { dryRun }: WriteOptions): Entry {
  const stored = inVersion({ resource, version: resource.versions[0]! }, object);
  if (dryRun) return { id: resource.id, object: stored, json: JSON.stringify(stored), version: store.version() };
  const entry = store.put(resource.id, stored);
  if (resource.id === definitionsId) registry.register(entry.object);
  return entry;
}

/** A definition is served as soon as it is stored, so it is born established. */
function established(resource: Resource, object: KubeObject): KubeObject {
  if (resource.id !== definitionsId) return object;
  const spec = object.spec as Fields;
  const lastTransitionTime = timestamp();
  const conditions = ['NamesAccepted', 'Established'].map((type) => {
    return { type, status: 'True', reason: type, message: '', lastTransitionTime };
  });
  return { ...object, status: { conditions, acceptedNames: spec.names, storedVersions: [] } };
}

/** `Scale` of autoscaling/v1. */
export function scaleOf(resource: Resource, object: KubeObject): KubeObject {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const spec = object.spec as { replicas?: number; selector?: { matchLabels?: Record<string, string> } };
  const status = object.status as { replicas?: number } | undefined;
  const selector = Object.entries(spec.selector?.matchLabels ?? {}).map(([key, value]) => `${key}=${value}`);
  if (!resource.scale) throw notFound(resource, name);
  return {
    apiVersion: 'autoscaling/v1',
    kind: 'Scale',
    metadata: { name, ...(namespace ? { namespace } : {}), uid, resourceVersion, creationTimestamp },
    spec: { replicas: spec.replicas ?? 0 },
    status: { replicas: status?.replicas ?? 0, selector: selector.join(',') },
  };
}

function rescale(cluster: Cluster, target: Target, old: Entry, body: unknown, options: WriteOptions): Entry {
  const scale = isFields(body) && isFields(body.spec) ? body.spec.replicas : undefined;
  const metadata = isFields(body) && isFields(body.metadata) ? body.metadata : {};
  if (!target.resource.scale) throw notFound(target.resource, target.name);
  if (!Number.isInteger(scale)) throw badRequest('spec.replicas must be an integer');
  const current = inVersion(target, old.object);
  const resourceVersion = String(metadata.resourceVersion ?? '');
  const wanted = {
    ...current,
    metadata: { ...current.metadata, resourceVersion },
    spec: { ...(current.spec as Fields), replicas: scale },
  };
  return update(cluster, target, old, wanted, options);
}
