import { isRecord } from '@cdaas/pipeline/is-record.ts';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { type KubeClient, type ResourceCollection, resourcePath } from './kube.ts';
import { statusMessage, toObject } from './kube-answer.ts';
import type { Outcome } from './kube-exchange.ts';
import { isModestJson } from './modest-json.ts';

/*
 * One watch of one resource: list -> snapshot -> watch from the list's resourceVersion -> …, for ever.
 *
 * The server is asked to end each watch after 20 to 26 s (timeoutSeconds). kube-apiserver sends a bookmark two seconds
 * before such an end, so that a quiet resource still proves that it is watched, and the next watch goes on from there
 * without a list. (Its ordinary bookmarks come once a minute, too seldom for the next rule.)
 *
 * Lists again: after 30 s without event or bookmark (a connection can be dead without an error), on 410 (the version is
 * too old), after anything that made the state `broken`, and where the server ends one watch after the other at once, so
 * that what is known is never older than the few seconds between two tries. A stream that is cut is taken up again once, from the last
 * version; nothing is missed by that. Every list replaces all that was known: the receiver must drop what is not in it.
 */

export type WatchEventType = 'ADDED' | 'MODIFIED' | 'DELETED';

/** What a watch needs of a cluster; a KubeClient is one. */
export type WatchSource = Pick<KubeClient, 'list' | 'stream'>;

/** Time, so that tests can move it: epoch ms, and a timer that answers its own cancellation. */
export type WatchClock = { now(): number; after(ms: number, run: () => void): () => void };

export type WatchOptions = ResourceCollection & {
  /** Of the objects; others are nonsense. */
  kind?: string;
  labelSelector?: string;
  signal: AbortSignal;
  /** All objects there are now; replaces everything that was known. */
  onSnapshot(objects: KubernetesObject[], resourceVersion: string): void;
  onEvent(type: WatchEventType, object: KubernetesObject): void;
  /**
   * `synced`: what was delivered is current. `broken`: it may be stale since `since` (epoch ms of the last sign of
   * life), `reason` is for the user. Told on every change, and while broken whenever the reason changes.
   */
  onState(state: 'synced' | 'broken', since: number, reason?: string): void;
  clock?: WatchClock;
  /** In [0, 1). */
  random?: () => number;
};

const silenceMs = 30_000;
const maxLineBytes = 8 * 1024 * 1024;
const firstDelayMs = 250;
const maxDelayMs = 15_000;
/** Of a server that does answer, and ends every watch. */
const maxQuickDelayMs = 5_000;
/** So many watches that end at once in a row are no accident. */
const quickEndsAtMost = 2;

const systemClock: WatchClock = {
  now: Date.now,
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};

/**
 * Watches until `signal` aborts, then resolves. Give a function instead of a client where clients are replaced (see
 * kube-clients.ts): it is asked before every list and watch. Rejects only with what a callback threw.
 */
export async function watchResource(
  source: WatchSource | (() => Promise<WatchSource | undefined>),
  options: WatchOptions,
): Promise<void> {
  const { signal, onSnapshot, onEvent, onState, clock = systemClock, random = Math.random } = options;
  const { apiVersion, plural, namespace, labelSelector } = options;
  const collection = { apiVersion, plural, namespace };
  let version: string | undefined;
  let heardAt = clock.now();
  let told: string | undefined;
  let quickEnds = 0;

  const tell = (state: 'synced' | 'broken', reason?: string) => {
    if (told === `${state} ${reason}` || signal.aborted) return;
    told = `${state} ${reason}`;
    onState(state, heardAt, reason);
  };
  const backOff = async (atLeastMs = 0, atMostMs = maxDelayMs) => {
    quickEnds += 1;
    const delayMs = Math.min(firstDelayMs * 2 ** (quickEnds - 1), atMostMs) * (0.5 + random() / 2);
    await pause(clock, Math.max(delayMs, atLeastMs), signal);
  };

  while (!signal.aborted) {
    const client = typeof source === 'function' ? await source().catch(() => undefined) : source;
    if (signal.aborted) return;
    if (!client) {
      version = undefined;
      tell('broken', 'the cluster’s credentials are not available');
      await backOff();
      continue;
    }
    if (version === undefined) {
      const listed = await client.list(collection, { labelSelector, signal });
      if (signal.aborted) return;
      const nonsense = listed.kind === 'listed' && listed.objects.some((object) => !isOfKind(object, options.kind));
      if (listed.kind !== 'listed' || nonsense) {
        tell('broken', listed.kind === 'listed' ? otherKind : describe(listed));
        await backOff(listed.kind === 'answered' ? listed.retryAfterMs : 0);
        continue;
      }
      version = listed.resourceVersion;
      heardAt = clock.now();
      onSnapshot(listed.objects, listed.resourceVersion);
      tell('synced');
    }

    const startedAt = clock.now();
    const end = await follow(client, collection, {
      version,
      kind: options.kind,
      labelSelector,
      signal,
      clock,
      timeoutSeconds: 20 + Math.floor(random() * 7),
      silentInMs: () => heardAt + silenceMs - clock.now(),
      onHeard(resourceVersion) {
        heardAt = clock.now();
        version = resourceVersion;
      },
      onEvent,
    });
    if (signal.aborted) return;
    if (end.kind !== 'ended') version = undefined;
    if (end.kind === 'broken') tell('broken', end.reason);
    if (end.kind === 'broken') await backOff(end.retryAfterMs);
    else if (clock.now() - startedAt < 1000) {
      // A server that ends every watch at once must not make this a busy loop.
      if (quickEnds >= quickEndsAtMost) version = undefined;
      await backOff(0, maxQuickDelayMs);
    } else quickEnds = 0;
  }
}

type Follow = {
  version: string;
  kind: string | undefined;
  labelSelector: string | undefined;
  signal: AbortSignal;
  clock: WatchClock;
  timeoutSeconds: number;
  silentInMs(): number;
  onHeard(resourceVersion: string): void;
  onEvent: WatchOptions['onEvent'];
};

/** `ended`: go on from the last version. `stale`: list again. `broken`: say so, wait, list again. */
type FollowEnd = { kind: 'ended' } | { kind: 'stale' } | { kind: 'broken'; reason: string; retryAfterMs?: number };

/** One watch request, from its start to its end. */
async function follow(client: WatchSource, collection: ResourceCollection, options: Follow): Promise<FollowEnd> {
  const { version, labelSelector, signal, clock, timeoutSeconds, silentInMs, onHeard, onEvent } = options;
  const stop = new AbortController();
  let verdict: FollowEnd | undefined;
  let thrown: { error: unknown } | undefined;
  let opened = false;
  const conclude = (end: FollowEnd) => {
    verdict ??= end;
    stop.abort();
  };
  const onAbort = () => stop.abort();
  signal.addEventListener('abort', onAbort, { once: true });

  let cancelTimer = () => {};
  const listen = () => {
    const left = silentInMs();
    if (left <= 0) conclude({ kind: 'stale' });
    else cancelTimer = clock.after(left, listen);
  };
  listen();

  const readLine = (line: string, bytes: Uint8Array) => {
    const event = isModestJson(bytes) ? readEvent(line, options.kind) : tooDeep;
    if (event.kind === 'end') return conclude(event.end);
    onHeard(event.version);
    if (event.kind === 'object') onEvent(event.type, event.object);
  };
  const readChunk = createLineReader(maxLineBytes, readLine);
  const query = {
    watch: true,
    allowWatchBookmarks: true,
    resourceVersion: version,
    timeoutSeconds,
    labelSelector,
  };
  const outcome = await client.stream(
    { path: resourcePath(collection), query, signal: stop.signal },
    {
      onOpen: () => {
        opened = true;
      },
      onData(chunk) {
        if (verdict || signal.aborted) return;
        try {
          if (!readChunk(chunk, () => verdict !== undefined || signal.aborted)) {
            conclude({ kind: 'broken', reason: 'the cluster sent a single event larger than 8 MiB' });
          }
        } catch (error) {
          thrown = { error };
          stop.abort();
        }
      },
    },
  );
  cancelTimer();
  signal.removeEventListener('abort', onAbort);
  if (thrown) throw thrown.error;
  if (verdict) return verdict;
  if (outcome.kind === 'ended' || (opened && outcome.kind === 'unreachable')) return { kind: 'ended' };
  if (outcome.kind === 'answered' && outcome.status === 410) return { kind: 'stale' };
  const retry = outcome.kind === 'answered' && outcome.retryAfterMs !== undefined ? outcome.retryAfterMs : undefined;
  return { kind: 'broken', reason: describe(outcome), ...(retry === undefined ? {} : { retryAfterMs: retry }) };
}

type ReadEvent =
  | { kind: 'object'; type: WatchEventType; object: KubernetesObject; version: string }
  | { kind: 'bookmark'; version: string }
  | { kind: 'end'; end: FollowEnd };

function broken(reason: string): ReadEvent {
  return { kind: 'end', end: { kind: 'broken', reason } };
}

const otherKind = 'the cluster answered with objects of another kind';
const tooDeep = broken('the cluster sent an event that is nested too deep or made of too many parts');

function isOfKind(object: KubernetesObject, kind: string | undefined): boolean {
  return kind === undefined || object.kind === kind;
}

/** One line of a watch (WatchEvent, meta/v1). Of an ERROR only words that cannot carry a secret are passed on. */
function readEvent(line: string, kind: string | undefined): ReadEvent {
  let event: unknown;
  try {
    event = JSON.parse(line);
  } catch {
    return broken('the cluster sent an event that is not JSON');
  }
  if (!isRecord(event) || !isRecord(event.object)) return broken('the cluster sent an event without an object');
  if (event.type === 'ERROR') {
    const { code, reason } = event.object;
    if (code === 410 || reason === 'Expired' || reason === 'Gone') return { kind: 'end', end: { kind: 'stale' } };
    return broken(`the cluster ended the watch with an error (${typeof code === 'number' ? code : 'no code'})`);
  }
  const version = isRecord(event.object.metadata) ? event.object.metadata.resourceVersion : undefined;
  if (typeof version !== 'string' || version.length > 128) {
    return broken('the cluster sent an event without a usable resourceVersion');
  }
  if (event.type === 'BOOKMARK') return { kind: 'bookmark', version };
  if (event.type !== 'ADDED' && event.type !== 'MODIFIED' && event.type !== 'DELETED') {
    return broken('the cluster sent an event of an unknown type');
  }
  const object = toObject(event.object);
  if (!object) return broken('the cluster sent an event whose object is malformed');
  if (!isOfKind(object, kind)) return broken(otherKind);
  return { kind: 'object', type: event.type, object, version };
}

/**
 * Cuts a byte stream into lines, whatever way it was cut into chunks. The reader answers false, and reads no further,
 * once a line is longer than `maxBytes`. `isOver`, asked after each line, stops it in the middle of a chunk.
 */
export function createLineReader(
  maxBytes: number,
  onLine: (line: string, bytes: Uint8Array) => void,
): (chunk: Buffer, isOver?: () => boolean) => boolean {
  let parts: Buffer[] = [];
  let size = 0;
  return (chunk, isOver = () => false) => {
    let start = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      if (size + end - start > maxBytes) return false;
      const last = chunk.subarray(start, end);
      const bytes = parts.length === 0 ? last : Buffer.concat([...parts, last]);
      const line = bytes.toString();
      parts = [];
      size = 0;
      start = end + 1;
      if (line.trim() !== '') onLine(line, bytes);
      if (isOver()) return true;
    }
    if (start < chunk.length) {
      parts.push(chunk.subarray(start));
      size += chunk.length - start;
    }
    return size <= maxBytes;
  };
}

function describe(outcome: Outcome): string {
  if (outcome.kind === 'unreachable') return outcome.reason;
  const said = statusMessage(outcome.body);
  return `the cluster answered ${outcome.status}${said === '' ? '' : `: ${said}`}`;
}

function pause(clock: WatchClock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      cancel();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const cancel = clock.after(ms, done);
    signal.addEventListener('abort', done, { once: true });
  });
}
