/** The emptying of namespaces that are being deleted, and the end of Events that are old. */
import { removeEntry } from '../deletion.ts';
import type { KubeObject } from '../objects.ts';
import type { Resource } from '../resources.ts';
import type { Entry } from '../store.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { createQueue, keyFor, splitKey } from './queue.ts';

/** As long as kube-apiserver keeps Events by default. */
const eventTtlMs = 3_600_000;

export function cleanupController({ cluster, log }: ControllerContext): Controller {
  const { store, registry } = cluster;
  const spaces = createQueue(empty, log);
  const events = createQueue((key) => {
    const entry = store.get('events', ...splitKey(key));
    if (entry) store.remove(entry);
  }, log);
  const expire = ({ metadata }: KubeObject) => {
    const ageMs = Date.now() - Date.parse(metadata.creationTimestamp);
    events.add(keyFor({ metadata }), Math.max(0, eventTtlMs - ageMs));
  };

  /** Deletes all that is in a namespace, then the namespace; the last pod's end brings it back here. */
  function empty(name: string): void {
    const space = store.get('namespaces', '', name);
    if (!space?.object.metadata.deletionTimestamp) return;
    let left = 0;
    for (const { resource, entry } of contents(name)) {
      if (!removeEntry(cluster, resource, entry).gone) left++;
    }
    if (left === 0 && store.get('namespaces', '', name)) store.remove(store.get('namespaces', '', name)!);
  }

  function contents(namespace: string): { resource: Resource; entry: Entry }[] {
    return registry
      .all()
      .filter((resource) => resource.namespaced)
      .flatMap((resource) => store.list(resource.id, namespace).map((entry) => ({ resource, entry })));
  }

  return {
    start() {
      for (const { object } of store.list('namespaces')) spaces.add(object.metadata.name);
      for (const { object } of store.list('events')) expire(object);
    },
    changed({ type, entry }) {
      const { metadata } = entry.object;
      if (type === 'ADDED' && entry.id === 'events') expire(entry.object);
      if (entry.id === 'namespaces' && metadata.deletionTimestamp) spaces.add(metadata.name);
      const space = store.get('namespaces', '', metadata.namespace ?? '');
      if (space?.object.metadata.deletionTimestamp) spaces.add(metadata.namespace!);
    },
    stop() {
      events.stop();
      spaces.stop();
    },
  };
}
