/** From a request's path and query to a verb of the API and its answer. */
import * as api from './api.ts';
import * as discovery from './discovery.ts';
import { ApiError, badRequest, noSuchPath, type Status, unsupportedMediaType } from './errors.ts';
import { drop, type Request, type Response, readBody, sendJson, sendText, startStream } from './http.ts';
import { isFields, type KubeObject } from './objects.ts';
import type { Resource } from './resources.ts';
import { type ObjectMatcher, parseFieldSelector, parseLabelSelector } from './selectors.ts';
import type { Entry } from './store.ts';
import { type IncludeObject, renderTable } from './table.ts';
import type { WatchHub, WatchRequest } from './watch.ts';

/** A request that changes something, as an interceptor sees it. */
export type InterceptedRequest = {
  verb: 'create' | 'update' | 'patch' | 'delete' | 'deletecollection';
  path: string;
  body: unknown;
};

/**
 * Called around every request that changes something: before it is performed, and after the change is stored but
 * before the answer is sent. May wait; `drop` cuts the connection without an answer.
 */
export type Intercept = (request: InterceptedRequest, phase: 'before' | 'after') => Promise<'continue' | 'drop'>;

export type Router = {
  cluster: api.Cluster;
  hub: WatchHub;
  intercept: () => Intercept | null;
};

type Route = { resource: Resource; version: string; namespace: string; name: string; subresource: string };

export async function route(router: Router, request: Request, response: Response): Promise<void> {
  const url = new URL(request.url ?? '/', 'https://sandbox');
  const path = url.pathname
    .split('/')
    .filter((part) => part !== '')
    .map(decodeURIComponent);
  const document = fixedDocument(router.cluster, path);
  if (document) {
    if (request.method !== 'GET') throw methodNotAllowed();
    return sendJson(response, 200, document);
  }
  if (path.join('/') === 'apis/authorization.k8s.io/v1/selfsubjectaccessreviews') {
    if (request.method !== 'POST') throw methodNotAllowed();
    return sendJson(response, 201, review(await readBody(request)));
  }
  const target = resolve(router.cluster, path);
  if (request.method === 'GET') return answerRead(router, target, url.searchParams, request, response);
  return answerWrite(router, target, url, request, response);
}

function fixedDocument({ registry }: api.Cluster, path: string[]): unknown {
  const [first, second, third, fourth, fifth] = path;
  const key = path.join('/');
  if (key === 'version') return discovery.versionInfo;
  if (key === 'api') return discovery.coreVersions;
  if (key === 'api/v1') return discovery.resourceList(registry, '', 'v1');
  if (key === 'apis') return discovery.groupList(registry);
  if (key === 'openapi/v3') return discovery.openApiIndex(registry);
  if (first === 'apis' && path.length === 2) return discovery.group(registry, second ?? '');
  if (first === 'apis' && path.length === 3) return discovery.resourceList(registry, second ?? '', third ?? '');
  if (first !== 'openapi' || second !== 'v3') return undefined;
  if (third === 'api') return discovery.openApiDocument(registry, '', fourth ?? '');
  return discovery.openApiDocument(registry, fourth ?? '', fifth ?? '');
}

/** Finds what a path names: `/api/v1/…`, `/apis/<group>/<version>/…`, with or without `namespaces/<namespace>/`. */
function resolve({ registry }: api.Cluster, path: string[]): Route {
  const core = path[0] === 'api';
  if (!core && path[0] !== 'apis') throw noSuchPath();
  const group = core ? '' : (path[1] ?? '');
  const version = (core ? path[1] : path[2]) ?? '';
  let rest = path.slice(core ? 2 : 3);
  let namespace = '';
  const spaced = rest[0] === 'namespaces' && rest.length > 2 && !['status', 'finalize'].includes(rest[2] ?? '');
  if (spaced) {
    namespace = rest[1] ?? '';
    rest = rest.slice(2);
  }
  const [plural = '', name = '', subresource = ''] = rest;
  const resource = registry.find(group, version, plural);
  if (!resource || rest.length > 3 || (spaced && !resource.namespaced)) throw noSuchPath();
  if (resource.namespaced && name && !namespace) throw noSuchPath();
  const known = subresource === '' || (subresource === 'status' && resource.status);
  if (!known && !(subresource === 'scale' && resource.scale)) throw noSuchPath();
  return { resource, version, namespace, name, subresource };
}

function review(body: unknown): KubeObject {
  const spec = isFields(body) ? body.spec : undefined;
  const kind = 'SelfSubjectAccessReview';
  const metadata = {} as KubeObject['metadata'];
  return { apiVersion: 'authorization.k8s.io/v1', kind, metadata, spec, status: { allowed: true } };
}

// Reading.

type Format = { key: string; entry: (entry: Entry) => string; list: (entries: Entry[], metadata: object) => string };

/** The forms that the Accept header can ask for: plain JSON, or kubectl's tables. */
function formatFor({ resource, version }: Route, query: URLSearchParams, request: Request): Format {
  const table = /as=Table/.test(request.headers.accept ?? '');
  const apiVersion = api.groupVersion(resource, version);
  const storedVersion = api.groupVersion(resource, resource.versions[0]!);
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

function answerRead(router: Router, route: Route, query: URLSearchParams, request: Request, response: Response): void {
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

function matcherFor({ resource, namespace, name }: Route, query: URLSearchParams): ObjectMatcher {
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

/** One page of a list in the order of namespace and name, read as it is now: a later page may see later changes. */
function page(cluster: api.Cluster, { resource, namespace }: Route, matches: ObjectMatcher, query: URLSearchParams) {
  const { store } = cluster;
  const limit = Number(query.get('limit') ?? 0) || Number.POSITIVE_INFINITY;
  const after = query.get('continue');
  const start = after ? Buffer.from(after, 'base64url').toString() : '';
  const all = store
    .list(resource.id, namespace || undefined)
    .filter((entry) => matches(entry.object))
    .map((entry) => ({ entry, key: keyOf(entry) }))
    .filter(({ key }) => key > start)
    .sort((a, b) => (a.key < b.key ? -1 : 1));
  const shown = all.slice(0, limit);
  const left = all.length - shown.length;
  const more =
    left > 0 ? { continue: Buffer.from(shown.at(-1)!.key).toString('base64url'), remainingItemCount: left } : {};
  return { entries: shown.map(({ entry }) => entry), metadata: { resourceVersion: String(store.version()), ...more } };
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
      return JSON.stringify({ kind: resource.kind, apiVersion: api.groupVersion(resource, version), metadata });
    },
  };
  const close = hub.open(watch, startStream(response));
  response.on('close', close);
}

function isTrue(value: string | null): boolean {
  return value === 'true' || value === '1' || value === '';
}

// Writing.

const patchTypes: Record<string, api.PatchType> = {
  'application/merge-patch+json': 'merge',
  'application/json-patch+json': 'json',
  'application/strategic-merge-patch+json': 'strategic',
  'application/apply-patch+yaml': 'apply',
};

async function answerWrite(
  router: Router,
  target: Route,
  url: URL,
  request: Request,
  response: Response,
): Promise<void> {
  const verb = verbOf(request.method ?? '', target);
  const body = await readBody(request);
  const intercepted: InterceptedRequest = { verb, path: url.pathname, body };
  if ((await router.intercept()?.(intercepted, 'before')) === 'drop') return drop(response);
  let answer: Answer;
  try {
    answer = perform(router.cluster, target, verb, url.searchParams, request, body);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    answer = { code: error.status.code, text: JSON.stringify(error.status) };
  }
  if ((await router.intercept()?.(intercepted, 'after')) === 'drop') return drop(response);
  sendText(response, answer.code, answer.text);
}

function verbOf(method: string, { name, subresource }: Route): InterceptedRequest['verb'] {
  if (method === 'POST' && !name) return 'create';
  if (method === 'PUT' && name) return 'update';
  if (method === 'PATCH' && name) return 'patch';
  if (method === 'DELETE' && !subresource) return name ? 'delete' : 'deletecollection';
  throw methodNotAllowed();
}

type Answer = { code: number; text: string };

function perform(
  cluster: api.Cluster,
  route: Route,
  verb: InterceptedRequest['verb'],
  query: URLSearchParams,
  request: Request,
  body: unknown,
): Answer {
  const format = formatFor(route, query, request);
  const manager = query.get('fieldManager') || (request.headers['user-agent'] ?? 'unknown').split('/')[0] || 'unknown';
  const options: api.WriteOptions = {
    manager,
    dryRun: query.get('dryRun') === 'All',
    force: isTrue(query.get('force')),
  };
  if (query.get('force') === null) options.force = false;
  const { subresource } = route;
  if (subresource === 'status' || subresource === 'scale') options.subresource = subresource;
  const render = (code: number, entry: Entry): Answer => ({ code, text: entryText(route, format, entry) });

  if (verb === 'create') return render(201, api.create(cluster, route, body, options));
  if (verb === 'update') return render(200, api.replace(cluster, route, body, options));
  if (verb === 'patch') {
    const mediaType = (request.headers['content-type'] ?? '').split(';')[0]!.trim();
    const type = patchTypes[mediaType];
    if (!type) {
      const accepted = Object.keys(patchTypes).join(', ');
      throw unsupportedMediaType(
        `the body of the request was in an unknown format - accepted media types include: ${accepted}`,
      );
    }
    if (type === 'apply' && !query.get('fieldManager')) throw badRequest('fieldManager is required for apply patch');
    const { entry, created } = api.patch(cluster, route, type, body, options);
    return render(created ? 201 : 200, entry);
  }
  const deletion = deleteOptions(query, body);
  if (verb === 'deletecollection') {
    const matches = matcherFor(route, query);
    const doomed = cluster.store.list(route.resource.id, route.namespace || undefined);
    const entries = doomed.filter((entry) => matches(entry.object));
    for (const { object } of entries) {
      const { namespace = '', name } = object.metadata;
      if (!options.dryRun) api.remove(cluster, { ...route, namespace, name }, deletion);
    }
    return { code: 200, text: format.list(entries, { resourceVersion: String(cluster.store.version()) }) };
  }
  if (options.dryRun) return { code: 200, text: JSON.stringify(success(route, api.read(cluster, route))) };
  const { entry, gone } = api.remove(cluster, route, deletion);
  return gone && route.resource.id !== 'pods'
    ? { code: 200, text: JSON.stringify(success(route, entry)) }
    : render(200, entry);
}

function entryText(route: Route, format: Format, entry: Entry): string {
  if (route.subresource === 'scale') return JSON.stringify(api.scaleOf(route.resource, entry.object));
  return format.entry(entry);
}

function success({ resource }: Route, { object }: Entry): Status {
  const { name, uid } = object.metadata;
  const details = { name, ...(resource.group ? { group: resource.group } : {}), kind: resource.plural, uid };
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details, code: 200 };
}

/** `DeleteOptions` from the body, or what of it the query carries. */
function deleteOptions(query: URLSearchParams, body: unknown): api.DeleteOptions {
  const given = isFields(body) ? (body as api.DeleteOptions) : {};
  const policy = given.propagationPolicy ?? query.get('propagationPolicy') ?? undefined;
  const seconds = given.gracePeriodSeconds ?? numberOf(query.get('gracePeriodSeconds'));
  return {
    ...(isFields(given.preconditions) ? { preconditions: given.preconditions } : {}),
    ...(policy === undefined ? {} : { propagationPolicy: policy }),
    ...(seconds === undefined ? {} : { gracePeriodSeconds: seconds }),
  };
}

function numberOf(text: string | null): number | undefined {
  return text === null ? undefined : Number(text);
}

function methodNotAllowed(): ApiError {
  const message = 'the server does not allow this method on the requested resource';
  return new ApiError(405, 'MethodNotAllowed', message, {});
}
