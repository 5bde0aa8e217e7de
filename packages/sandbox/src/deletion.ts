import { type Cluster, read, type Target } from './api.ts';
import { conflict, uidMismatch } from './errors.ts';
import { isFields, type KubeObject, timestamp } from './objects.ts';
import { definitionsId, type Resource } from './resources.ts';
import type { Entry } from './store.ts';

export type DeleteOptions = {
  preconditions?: { uid?: string; resourceVersion?: string };
  propagationPolicy?: string;
  gracePeriodSeconds?: number;
};

/**
 * Deletes an object, or marks it where somebody must act first: a finalizer's owner, a pod's kubelet, a namespace's
 * clearing. Dependants go by the garbage collector, or are freed at once under propagationPolicy Orphan.
 */
export function remove(cluster: Cluster, target: Target, options: DeleteOptions = {}): { entry: Entry; gone: boolean } {
  const { resource, name } = target;
  const entry = read(cluster, target);
  const { uid, resourceVersion } = entry.object.metadata;
  const wanted = options.preconditions ?? {};
  if (wanted.uid !== undefined && wanted.uid !== uid) throw conflict(resource, name, uidMismatch(wanted.uid, uid));
  if (wanted.resourceVersion !== undefined && wanted.resourceVersion !== resourceVersion) {
    const why = `Precondition failed: ResourceVersion in precondition: ${wanted.resourceVersion}, ResourceVersion in object meta: ${resourceVersion}`;
    throw conflict(resource, name, why);
  }
  if (options.propagationPolicy === 'Orphan') orphan(cluster, uid);
  return removeEntry(cluster, resource, entry, options.gracePeriodSeconds);
}

export function removeEntry(
  { store, registry }: Cluster,
  resource: Resource,
  entry: Entry,
  gracePeriodSeconds?: number,
): { entry: Entry; gone: boolean } {
  const { object } = entry;
  const { metadata } = object;
  const graceful = resource.id === 'pods' && gracePeriodSeconds !== 0 && isFields(object.spec) && object.spec.nodeName;
  const space = resource.id === 'namespaces';
  if (!graceful && !space && !metadata.finalizers?.length) {
    if (resource.id === definitionsId) {
      for (const instance of store.list(metadata.name)) store.remove(instance);
      registry.unregister(object);
    }
    return { entry: store.remove(entry), gone: true };
  }
  if (metadata.deletionTimestamp) return { entry, gone: false };
  const seconds = graceful ? (gracePeriodSeconds ?? 30) : 0;
  const grace = graceful ? { deletionGracePeriodSeconds: seconds } : {};
  const deletionTimestamp = timestamp(new Date(Date.now() + seconds * 1000));
  const marked: KubeObject = { ...object, metadata: { ...metadata, deletionTimestamp, ...grace } };
  if (space) marked.status = { ...(isFields(object.status) ? object.status : {}), phase: 'Terminating' };
  return { entry: store.put(resource.id, marked), gone: false };
}

function orphan({ store }: Cluster, ownerUid: string): void {
  for (const { id, object } of store.dependants(ownerUid)) {
    const ownerReferences = object.metadata.ownerReferences?.filter(({ uid }) => uid !== ownerUid) ?? [];
    const { ownerReferences: _, ...metadata } = object.metadata;
    const freed = ownerReferences.length > 0 ? { ...metadata, ownerReferences } : metadata;
    store.put(id, { ...object, metadata: freed });
  }
}
