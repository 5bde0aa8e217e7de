/** GET: one object, a list or a watch, as plain JSON or as kubectl's tables. */
import * as api from './api.ts';
import { badRequest, expired } from './errors.ts';
import { type Request, type Response, sendJson, sendText, startStream } from './http.ts';
import { groupVersion } from './resources.ts';
import type { Route, Router } from './router.ts';
import { type ObjectMatcher, parseFieldSelector, parseLabelSelector } from './selectors.ts';
import type { Cluster, Entry, Store } from './store.ts';
import { type IncludeObject, renderTable } from './table.ts';
import type { WatchRequest } from './watch.ts';

export type Format = {
  key: string;
  entry: (entry: Entry) => string;
  list: (entries: Entry[], metadata: object) => string;
};

/** The forms that the Accept header can ask for: plain JSON, or kubectl's tables. */
export function formatFor({ resource, version }: Route, query: URLSearchParams, request: Request): Format {
  const table = /as=Table/.test(request.headers.accept ?? '');
  const apiVersion = groupVersion(resource, version);
  const storedVersion = groupVersion(resource, resource.versions[0]!);
  const storedHead = `{"apiVersion":"${storedVersion}"`;
  const head = `{"apiVersion":"${apiVersion}"`;
  const whole = ({ json }: Entry) => (head === storedHead ? json : head + json.slice(storedHead.length));
  if (!table) {
    // Items of a built-in list do not repeat the kind, as the real lists do not.
    const prefix = `${storedHead},"kind":"${resource.kind}",`.length;
    const item = resource.custom ? whole : ({ json }: Entry) => `{${json.slice(prefix)}`;
    return {
      key: `json ${version}`,
      entry: whole,
      list: (entries, metadata) =>
        `{"kind":"${resource.kind}List","apiVersion":"${apiVersion}","metadata":${JSON.stringify(metadata)},` +
        `"items":[${entries.map(item).join(',')}]}`,
    };
  }
  const include = (query.get('includeObject') ?? 'Metadata') as IncludeObject;
  const list = (entries: Entry[], metadata: object) => {
    const spoken = entries.map((entry) => ({ ...entry, json: whole(entry) }));
    return renderTable(resource, version, spoken, include, { ...metadata });
  };
  return {
    key: `table ${version} ${include}`,
    entry: (entry) => list([entry], { resourceVersion: entry.object.metadata.resourceVersion }),
    list,
  };
}

export function answerRead(
  router: Router,
  route: Route,
  query: URLSearchParams,
  request: Request,
  response: Response,
): void {
  const { cluster } = router;
  const { resource, name } = route;
  if (name && route.subresource === 'scale') {
    return sendJson(response, 200, api.scaleOf(resource, api.read(cluster, route).object));
  }
  const format = formatFor(route, query, request);
  if (name && !isTrue(query.get('watch'))) {
    return sendText(response, 200, format.entry(api.read(cluster, route)));
  }
  const matches = matcherFor(route, query);
  if (isTrue(query.get('watch'))) return answerWatch(router, route, query, format, matches, response);
  const { entries, metadata } = page(cluster, route, matches, query);
  sendText(response, 200, format.list(entries, metadata));
}

export function matcherFor({ resource, namespace, name }: Route, query: URLSearchParams): ObjectMatcher {
  const labels = query.get('labelSelector');
  const fields = query.get('fieldSelector');
  const byLabel = labels ? parseLabelSelector(labels) : undefined;
  const byField = fields ? parseFieldSelector(resource.id, fields) : undefined;
  return (object) =>
    (!namespace || object.metadata.namespace === namespace) &&
    (!name || object.metadata.name === name) &&
    (!byLabel || byLabel(object.metadata.labels)) &&
    (!byField || byField(object));
}

const keyOf = ({ object: { metadata } }: Entry) => `${metadata.namespace ?? ''}/${metadata.name}`;

/** One page of a list in the order of namespace and name. Later pages show the cluster as it was at the first. */
function page(cluster: Cluster, { resource, namespace }: Route, matches: ObjectMatcher, query: URLSearchParams) {
  const { store } = cluster;
  const limit = Number(query.get('limit') ?? 0) || Number.POSITIVE_INFINITY;
  const token = query.get('continue');
  const { rv, start } = token ? readToken(token) : { rv: store.version(), start: '' };
  const all = entriesAt(store, resource.id, namespace, rv)
    .filter((entry) => matches(entry.object))
    .map((entry) => ({ entry, key: keyOf(entry) }))
    .filter(({ key }) => key > start)
    .sort((a, b) => (a.key < b.key ? -1 : 1));
  const shown = all.slice(0, limit);
  const left = all.length - shown.length;
  const next = { v: 'meta.k8s.io/v1', rv, start: shown.at(-1)?.key };
  const more =
    left > 0 ? { continue: Buffer.from(JSON.stringify(next)).toString('base64url'), remainingItemCount: left } : {};
  return { entries: shown.map(({ entry }) => entry), metadata: { resourceVersion: String(rv), ...more } };
}

function readToken(token: string): { rv: number; start: string } {
  try {
    const { rv, start } = JSON.parse(Buffer.from(token, 'base64url').toString());
    if (Number.isInteger(rv) && typeof start === 'string') return { rv, start };
  } catch {
    // What is no JSON is no token either.
  }
  throw badRequest('invalid continue token: continue key is not valid');
}

/** All objects of a resource as they were at a version: those of now with the changes since undone. */
function entriesAt(store: Store, id: string, namespace: string, version: number): Entry[] {
  const now = store.list(id, namespace || undefined);
  if (version === store.version()) return now;
  const changes = store.changesSince(version);
  if (!changes) throw expired(version, store.oldestVersion());
  const entries = new Map(now.map((entry) => [keyOf(entry), entry]));
  for (const { entry, previous } of changes.toReversed()) {
    if (entry.id !== id) continue;
    if (previous) entries.set(keyOf(entry), previous);
    else entries.delete(keyOf(entry));
  }
  return [...entries.values()];
}

function answerWatch(
  { hub }: Router,
  { resource, version }: Route,
  query: URLSearchParams,
  format: Format,
  matches: ObjectMatcher,
  response: Response,
): void {
  const asked = query.get('resourceVersion') ?? '';
  if (asked !== '' && !/^\d+$/.test(asked)) throw badRequest(`Invalid value: "${asked}": resourceVersion`);
  const initial = isTrue(query.get('sendInitialEvents'));
  const seconds = Number(query.get('timeoutSeconds')) || 1800 + Math.random() * 1800;
  const watch: WatchRequest = {
    resource,
    matches,
    since: initial || asked === '' || asked === '0' ? undefined : Number(asked),
    bookmarks: isTrue(query.get('allowWatchBookmarks')),
    markInitial: initial,
    timeoutMs: seconds * 1000,
    formatKey: format.key,
    format: format.entry,
    bookmark(at, initialEventsEnd) {
      const annotations = initialEventsEnd ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {};
      const metadata = { resourceVersion: String(at), creationTimestamp: null, ...annotations };
      return JSON.stringify({ kind: resource.kind, apiVersion: groupVersion(resource, version), metadata });
    },
  };
  const close = hub.open(watch, startStream(response));
  response.on('close', close);
}

export function isTrue(value: string | null): boolean {
  return value === 'true' || value === '1' || value === '';
}
