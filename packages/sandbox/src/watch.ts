import { expired, type Status } from './errors.ts';
import type { KubeObject } from './objects.ts';
import type { Resource } from './resources.ts';
import type { ObjectMatcher } from './selectors.ts';
import type { Change, Entry, Store } from './store.ts';

export type WatchRequest = {
  resource: Resource;
  matches: ObjectMatcher;
  /** Start after this version; undefined: start with all objects as they are. */
  since: number | undefined;
  bookmarks: boolean;
  /** Mark the end of the objects that were there at the start with a bookmark (`sendInitialEvents`). */
  markInitial: boolean;
  timeoutMs: number;
  /** What `format` depends on; watchers with the same key share one rendered line. */
  formatKey: string;
  format: (entry: Entry) => string;
  bookmark: (version: number, initialEventsEnd: boolean) => string;
};

export type WatchSink = { write(text: string): void; end(): void };

type Watcher = WatchRequest & { sink: WatchSink; pending: string[] };

export type WatchHub = {
  /** Streams changes into a sink until the returned function is called or the time is up. */
  open(request: WatchRequest, sink: WatchSink): () => void;
  close(): void;
};

const bookmarkEveryMs = 10_000;

export function createWatchHub(store: Store): WatchHub {
  const watchers = new Map<string, Set<Watcher>>();
  let dirty = new Set<Watcher>();

  // One write for all the lines of a turn of the event loop: a busy watch costs few system calls.
  function push(watcher: Watcher, line: string): void {
    if (dirty.size === 0) setImmediate(flush);
    dirty.add(watcher);
    watcher.pending.push(line);
  }

  function flush(): void {
    const ready = dirty;
    dirty = new Set();
    for (const watcher of ready) {
      watcher.sink.write(watcher.pending.join(''));
      watcher.pending = [];
    }
  }

  store.subscribe((change) => {
    const rendered = new Map<string, string>();
    for (const watcher of watchers.get(change.entry.id) ?? []) deliver(watcher, change, rendered);
  });

  function deliver(watcher: Watcher, change: Change, rendered: Map<string, string>): void {
    const type = typeFor(watcher, change);
    if (!type) return;
    const key = `${type} ${watcher.formatKey}`;
    let line = rendered.get(key);
    if (line === undefined) {
      line = `{"type":"${type}","object":${watcher.format(shown(type, change))}}\n`;
      rendered.set(key, line);
    }
    push(watcher, line);
  }

  const bookmarkTimer = setInterval(() => {
    for (const set of watchers.values()) {
      for (const watcher of set) {
        if (watcher.bookmarks) push(watcher, bookmarkLine(watcher, store.version(), false));
      }
    }
  }, bookmarkEveryMs);
  bookmarkTimer.unref();

  return {
    open(request, sink) {
      const watcher: Watcher = { ...request, sink, pending: [] };
      const { resource, since } = request;
      if (since === undefined) {
        for (const entry of store.list(resource.id)) {
          if (!request.matches(entry.object)) continue;
          push(watcher, `{"type":"ADDED","object":${request.format(entry)}}\n`);
        }
        if (request.markInitial) push(watcher, bookmarkLine(watcher, store.version(), true));
      } else {
        const missed = store.changesSince(since);
        if (!missed) {
          sink.write(errorLine(expired(since, store.oldestVersion()).status));
          sink.end();
          return () => {};
        }
        for (const change of missed) if (change.entry.id === resource.id) deliver(watcher, change, new Map());
      }
      const set = watchers.get(resource.id) ?? new Set();
      watchers.set(resource.id, set.add(watcher));
      const close = () => {
        clearTimeout(timer);
        set.delete(watcher);
        dirty.delete(watcher);
      };
      const timer = setTimeout(() => {
        if (watcher.bookmarks) push(watcher, bookmarkLine(watcher, store.version(), false));
        flush();
        close();
        sink.end();
      }, request.timeoutMs);
      timer.unref();
      return close;
    },
    close() {
      clearInterval(bookmarkTimer);
      for (const set of watchers.values()) for (const watcher of set) watcher.sink.end();
      watchers.clear();
    },
  };
}

/** What a change is to one watcher: an object that stops matching its selector is deleted, as far as it can see. */
function typeFor({ matches }: Watcher, { type, entry, previous }: Change): Change['type'] | undefined {
  const before = previous !== undefined && matches(previous.object);
  const after = type !== 'DELETED' && matches(entry.object);
  if (before && after) return 'MODIFIED';
  if (after) return 'ADDED';
  return before ? 'DELETED' : undefined;
}

/** A deletion shows the object as it was last seen, under the version of its disappearance. */
function shown(type: Change['type'], { type: real, entry, previous }: Change): Entry {
  if (type !== 'DELETED' || real === 'DELETED' || !previous) return entry;
  const { resourceVersion } = entry.object.metadata;
  const object: KubeObject = { ...previous.object, metadata: { ...previous.object.metadata, resourceVersion } };
  return { ...entry, object, json: JSON.stringify(object) };
}

function bookmarkLine(watcher: Watcher, version: number, initialEventsEnd: boolean): string {
  return `{"type":"BOOKMARK","object":${watcher.bookmark(version, initialEventsEnd)}}\n`;
}

function errorLine(status: Status): string {
  return `{"type":"ERROR","object":${JSON.stringify(status)}}\n`;
}
