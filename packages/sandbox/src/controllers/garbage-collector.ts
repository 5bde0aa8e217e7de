import { propagationFinalizers, removeEntry } from '../deletion.ts';
import type { KubeObject, OwnerReference } from '../objects.ts';
import type { Entry } from '../store.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { createQueue } from './queue.ts';

const gates = Object.values(propagationFinalizers);

/**
 * Deletes what owners that are gone leave behind. Of an owner that is deleted with Orphan it frees the dependants, of
 * one with Foreground it deletes them; only then does the owner go.
 */
export function garbageCollector({ cluster, log }: ControllerContext): Controller {
  const { store, registry } = cluster;
  const gone = createQueue(collect, log);
  const leaving = createQueue(finish, log);

  function collect(ownerUid: string): void {
    for (const entry of store.dependants(ownerUid)) {
      const living = (entry.object.metadata.ownerReferences ?? []).some(
        (reference) => reference.uid !== ownerUid && ownerOf(entry.object, reference) !== undefined,
      );
      if (!living) removeEntry(cluster, registry.byId(entry.id), entry);
    }
  }

  function finish(key: string): void {
    const [id, namespace, name] = JSON.parse(key) as [string, string, string];
    const owner = store.get(id, namespace, name);
    const gate = owner && gateOf(owner.object);
    if (!owner || !gate) return;
    const { uid } = owner.object.metadata;
    for (const entry of store.dependants(uid)) {
      if (gate === propagationFinalizers.Orphan) free(entry, uid);
      else if (!entry.object.metadata.deletionTimestamp) removeEntry(cluster, registry.byId(entry.id), entry);
    }
    // A dependant that takes its time brings the owner back here when it is gone.
    if (store.dependants(uid).length === 0) open(owner, gate);
  }

  function free({ id, object }: Entry, ownerUid: string): void {
    const { ownerReferences = [], ...metadata } = object.metadata;
    const left = ownerReferences.filter(({ uid }) => uid !== ownerUid);
    store.put(id, { ...object, metadata: left.length > 0 ? { ...metadata, ownerReferences: left } : metadata });
  }

  function open({ id, object }: Entry, gate: string): void {
    const { finalizers = [], ...metadata } = object.metadata;
    const left = finalizers.filter((one) => one !== gate);
    const entry = store.put(id, {
      ...object,
      metadata: left.length > 0 ? { ...metadata, finalizers: left } : metadata,
    });
    if (left.length === 0) store.remove(entry);
  }

  function gateOf({ metadata }: KubeObject): string | undefined {
    return metadata.deletionTimestamp ? metadata.finalizers?.find((one) => gates.includes(one)) : undefined;
  }

  function look(entry: Entry): void {
    const { metadata } = entry.object;
    if (gateOf(entry.object)) leaving.add(JSON.stringify([entry.id, metadata.namespace ?? '', metadata.name]));
  }

  /** Looks at the owners that an object names: one may not be there, another may wait for it to go. */
  function lookAtOwners({ object }: Entry): void {
    for (const reference of object.metadata.ownerReferences ?? []) {
      const owner = ownerOf(object, reference);
      if (owner) look(owner);
      else gone.add(reference.uid);
    }
  }

  function ownerOf({ metadata }: KubeObject, { apiVersion, kind, name, uid }: OwnerReference): Entry | undefined {
    const slash = apiVersion.indexOf('/');
    const group = slash < 0 ? '' : apiVersion.slice(0, slash);
    const resource = registry.all().find((one) => one.group === group && one.kind === kind);
    const owner = resource && store.get(resource.id, resource.namespaced ? (metadata.namespace ?? '') : '', name);
    return owner?.object.metadata.uid === uid ? owner : undefined;
  }

  return {
    start() {
      for (const resource of registry.all()) {
        for (const entry of store.list(resource.id)) {
          look(entry);
          lookAtOwners(entry);
        }
      }
    },
    changed({ type, entry }) {
      if (type === 'DELETED') gone.add(entry.object.metadata.uid);
      else look(entry);
      lookAtOwners(entry);
    },
    stop() {
      gone.stop();
      leaving.stop();
    },
  };
}
