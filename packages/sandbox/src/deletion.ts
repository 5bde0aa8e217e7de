import { read } from './api.ts';
import { deletionConflict } from './errors.ts';
import { isFields, type KubeObject, timestamp } from './objects.ts';
import { definitionsId, type Resource, type Target } from './resources.ts';
import type { Cluster, Entry } from './store.ts';

export type DeleteOptions = {
  preconditions?: { uid?: string; resourceVersion?: string };
  propagationPolicy?: string;
  gracePeriodSeconds?: number;
};

/**
 * Deletes an object, or marks it where somebody must act first: a finalizer's owner, a pod's kubelet, a namespace's
 * clearing, the garbage collector where dependants are to be freed (Orphan) or to go first (Foreground).
 */
export function remove(cluster: Cluster, target: Target, options: DeleteOptions = {}): { entry: Entry; gone: boolean } {
  const { resource, name } = target;
  const entry = read(cluster, target);
  const { uid, resourceVersion, finalizers = [] } = entry.object.metadata;
  const wanted = options.preconditions ?? {};
  if (wanted.uid !== undefined && wanted.uid !== uid) {
    const why = `the UID in the precondition (${wanted.uid}) does not match the UID in record (${uid}).`;
    throw deletionConflict(resource, name, `${why} The object might have been deleted and then recreated`);
  }
  if (wanted.resourceVersion !== undefined && wanted.resourceVersion !== resourceVersion) {
    const why = `the ResourceVersion in the precondition (${wanted.resourceVersion}) does not match the ResourceVersion in record (${resourceVersion}).`;
    throw deletionConflict(resource, name, `${why} The object might have been modified`);
  }
  const finalizer = propagationFinalizers[options.propagationPolicy ?? ''];
  if (finalizer === undefined || finalizers.includes(finalizer)) {
    return removeEntry(cluster, resource, entry, options.gracePeriodSeconds);
  }
  const metadata = { ...entry.object.metadata, finalizers: [...finalizers, finalizer] };
  const held = { ...entry, object: { ...entry.object, metadata } };
  return removeEntry(cluster, resource, held, options.gracePeriodSeconds);
}

/** What the garbage collector takes away once it has done its part (controllers/cleanup.ts). */
export const propagationFinalizers: Record<string, string> = { Orphan: 'orphan', Foreground: 'foregroundDeletion' };

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
