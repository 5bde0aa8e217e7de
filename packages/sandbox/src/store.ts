import type { KubeObject } from './objects.ts';
import { type ChangeLog, loadCluster, openChangeLog } from './persistence.ts';
import type { Registry } from './resources.ts';

/** One stored object with its JSON, made once and shared by the log, every GET and every watch. */
export type Entry = { id: string; object: KubeObject; json: string; version: number };

export type Change = {
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  /** For DELETED: the last form of the object, carrying the resourceVersion of its deletion. */
  entry: Entry;
  previous: Entry | undefined;
};

/** All objects, the one resourceVersion counter, and the recent changes. Every call is synchronous and so atomic. */
export type Store = {
  version(): number;
  get(id: string, namespace: string, name: string): Entry | undefined;
  /** All objects of a resource, or those of one namespace, in no particular order. */
  list(id: string, namespace?: string): Entry[];
  dependants(ownerUid: string): Entry[];
  /** Stores a new or changed object under the next resourceVersion, which it fills in. */
  put(id: string, object: KubeObject): Entry;
  remove(entry: Entry): Entry;
  /** The changes after a version, oldest first, or undefined where they are no longer kept. */
  changesSince(version: number): Change[] | undefined;
  oldestVersion(): number;
  /** Called within `put` and `remove`, after the change is on disk. */
  subscribe(listener: (change: Change) => void): void;
  close(): void;
};

const keptChanges = 5_000;
const compactAtBytes = 64 * 1024 * 1024;
/** The objects of a cluster and the kinds that it serves. */
export type Cluster = { store: Store; registry: Registry };

/** Opens the cluster kept in a directory, or an empty one. */
export function openStore(dataDir: string): Store {
  const resources = new Map<string, Map<string, Map<string, Entry>>>();
  const owners = new Map<string, Set<Entry>>();
  const listeners: ((change: Change) => void)[] = [];
  let version = 0;
  let history: Change[] = [];
  let oldest = 0;

  const find = ({ id, object: { metadata } }: Entry) => resources.get(id)?.get(metadata.namespace ?? '');

  function index(entry: Entry): Entry | undefined {
    const { namespace = '', name } = entry.object.metadata;
    const spaces = resources.get(entry.id) ?? new Map<string, Map<string, Entry>>();
    const names = spaces.get(namespace) ?? new Map<string, Entry>();
    resources.set(entry.id, spaces.set(namespace, names));
    const previous = names.get(name);
    names.set(name, entry);
    if (previous) disown(previous);
    for (const { uid } of entry.object.metadata.ownerReferences ?? []) {
      const known = owners.get(uid);
      if (known) known.add(entry);
      else owners.set(uid, new Set([entry]));
    }
    return previous;
  }

  function disown(entry: Entry): void {
    for (const { uid } of entry.object.metadata.ownerReferences ?? []) {
      const known = owners.get(uid);
      known?.delete(entry);
      if (known?.size === 0) owners.delete(uid);
    }
  }

  function drop(entry: Entry): Entry | undefined {
    const names = find(entry);
    const previous = names?.get(entry.object.metadata.name);
    names?.delete(entry.object.metadata.name);
    if (previous) disown(previous);
    return previous;
  }

  function remember(change: Change): void {
    history.push(change);
    if (history.length > keptChanges * 2) {
      history = history.slice(-keptChanges);
      oldest = history[0]!.entry.version - 1;
    }
  }

  const loaded = loadCluster(dataDir);
  for (const { id, object } of loaded.objects) index(entryOf(id, object));
  version = oldest = loaded.version;
  for (const record of loaded.changes) {
    const entry = entryOf(record.id, 'put' in record ? record.put : record.removed);
    const previous = 'put' in record ? index(entry) : drop(entry);
    const type = 'removed' in record ? 'DELETED' : previous ? 'MODIFIED' : 'ADDED';
    version = entry.version;
    remember({ type, entry, previous });
  }

  const log: ChangeLog = openChangeLog(dataDir);
  const compact = () => log.compact(version, everything());
  compact();

  function* everything(): Iterable<Entry> {
    for (const spaces of resources.values()) for (const names of spaces.values()) yield* names.values();
  }

  function publish(change: Change): Entry {
    remember(change);
    for (const listener of listeners) listener(change);
    return change.entry;
  }

  return {
    version: () => version,
    oldestVersion: () => oldest,
    get: (id, namespace, name) => resources.get(id)?.get(namespace)?.get(name),
    list(id, namespace) {
      const spaces = resources.get(id);
      if (!spaces) return [];
      if (namespace) return [...(spaces.get(namespace)?.values() ?? [])];
      return [...spaces.values()].flatMap((names) => [...names.values()]);
    },
    dependants: (ownerUid) => [...(owners.get(ownerUid) ?? [])],
    put(id, object) {
      const entry = entryOf(id, at(object, version + 1));
      log.append('put', id, entry.json);
      version = entry.version;
      if (log.size() > compactAtBytes) compact();
      const previous = index(entry);
      return publish({ type: previous ? 'MODIFIED' : 'ADDED', entry, previous });
    },
    remove({ id, object }) {
      const entry = entryOf(id, at(object, version + 1));
      log.append('removed', id, entry.json);
      version = entry.version;
      const previous = drop(entry);
      return publish({ type: 'DELETED', entry, previous });
    },
    changesSince(since) {
      if (since < oldest) return undefined;
      let low = 0;
      let high = history.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (history[middle]!.entry.version <= since) low = middle + 1;
        else high = middle;
      }
      return history.slice(low);
    },
    subscribe(listener) {
      listeners.push(listener);
    },
    close: () => log.close(),
  };
}

function entryOf(id: string, object: KubeObject): Entry {
  return { id, object, json: JSON.stringify(object), version: Number(object.metadata.resourceVersion) };
}

/** The object under a resourceVersion, with its fields in the order that the API answers. */
function at({ apiVersion, kind, metadata, ...rest }: KubeObject, version: number): KubeObject {
  return { apiVersion, kind, metadata: { ...metadata, resourceVersion: String(version) }, ...rest };
}
