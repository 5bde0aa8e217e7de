/** From a request's path and query to a verb of the API and its answer. */
import { setTimeout } from 'node:timers/promises';
import * as api from './api.ts';
import { type Attributes, authorize, requestToken, review, reviewRules, type User, userOf } from './authorization.ts';
import * as discovery from './discovery.ts';
import { ApiError, badRequest, methodNotAllowed, noSuchPath } from './errors.ts';
import { drop, type Request, type Response, readBody, sendJson, sendStatus, sendText } from './http.ts';
import type { Answers, Requests } from './mesh.ts';
import { answerRead, isTrue } from './reads.ts';
import type { Registry, Resource } from './resources.ts';
import type { Cluster } from './store.ts';
import type { WatchHub } from './watch.ts';
import { answerWrite, type Intercept } from './writes.ts';

export type Router = {
  cluster: Cluster;
  hub: WatchHub;
  token: string;
  intercept: () => Intercept | null;
  delayMs: () => number;
  send: (requests: Requests) => Answers;
  log: (line: string) => void;
};

/** What a path names; the name is empty for a whole collection, the namespace for all of them. */
export type Route = { resource: Resource; version: string; namespace: string; name: string; subresource: string };

/** Answers a request, whatever comes. */
export async function serve(router: Router, request: Request, response: Response): Promise<void> {
  try {
    if (router.delayMs() > 0) await setTimeout(router.delayMs());
    await admit(router, request, response);
  } catch (error) {
    if (error instanceof ApiError) return sendStatus(response, error.status);
    const message = error instanceof Error ? error.message : String(error);
    router.log(`${request.method} ${request.url}: ${error instanceof Error ? error.stack : message}`);
    const status = new ApiError(500, 'InternalError', `Internal error occurred: ${message}`).status;
    if (response.headersSent) drop(response);
    else sendStatus(response, status);
  }
}

/** As in a real cluster, health and version are for everybody, but a wrong token is refused even there. */
async function admit(router: Router, request: Request, response: Response): Promise<void> {
  const path = request.url?.split('?')[0] ?? '';
  const health = ['/healthz', '/livez', '/readyz'].includes(path);
  const header = request.headers.authorization;
  const user = header === undefined ? undefined : userOf(header, router.token, router.cluster.store);
  if (!user && (header !== undefined || !(health || path === '/version'))) {
    throw new ApiError(401, 'Unauthorized', 'Unauthorized');
  }
  if (health) return sendText(response, 200, 'ok', 'text/plain');
  if (request.headers['impersonate-user']) throw badRequest('the sandbox does not let one user act as another');
  await route(router, user ?? nobody, request, response);
}

const nobody: User = { name: 'system:anonymous', groups: [] };

async function route(router: Router, user: User, request: Request, response: Response): Promise<void> {
  const { store, registry } = router.cluster;
  const url = new URL(request.url ?? '/', 'https://sandbox');
  const path = url.pathname
    .split('/')
    .filter((part) => part !== '')
    .map(decodeURIComponent);
  if (url.pathname === '/sandbox/requests' && request.method === 'POST') {
    authorize(store, user, { ...noAttributes, verb: 'create', resource: 'requests', group: 'sandbox' });
    return sendJson(response, 200, router.send((await readBody(request)) as Requests));
  }
  if (path.length === 1 && request.method === 'GET' && discovery.wantsAggregated(request.headers.accept)) {
    const document = discovery.aggregated(registry, path[0] ?? '');
    if (document) return sendText(response, 200, JSON.stringify(document), discovery.aggregatedType);
  }
  const document = fixedDocument(router.cluster, path);
  if (document) {
    if (request.method !== 'GET') throw methodNotAllowed();
    return sendJson(response, 200, document);
  }
  const answerReview = reviews[path.join('/')];
  if (answerReview) {
    if (request.method !== 'POST') throw methodNotAllowed();
    return sendJson(response, 201, answerReview(store, user, await readBody(request)));
  }
  if (!isApiPath(path, registry)) return sendText(response, 404, '404 page not found\n', 'text/plain; charset=utf-8');
  const target = resolve(router.cluster, path);
  const asked = attributesOf(target, request.method ?? '', url.searchParams);
  authorize(store, user, asked);
  if (target.subresource === 'token') {
    if (request.method !== 'POST') throw methodNotAllowed();
    const account = api.read(router.cluster, target).object;
    return sendJson(response, 201, requestToken(account, await readBody(request), router.token));
  }
  if (request.method === 'GET') return answerRead(router, target, url.searchParams, request, response);
  const isApply = (request.headers['content-type'] ?? '').startsWith('application/apply-patch');
  if (isApply && !store.get(target.resource.id, target.namespace, target.name)) {
    authorize(store, user, { ...asked, verb: 'create' });
  }
  return answerWrite(router, target, url, request, response);
}

const reviews: Record<string, typeof review> = {
  'apis/authorization.k8s.io/v1/selfsubjectaccessreviews': review,
  'apis/authorization.k8s.io/v1/selfsubjectrulesreviews': reviewRules,
};

const noAttributes = { verb: '', group: '', resource: '', subresource: '', namespace: '', name: '' };

function attributesOf(target: Route, method: string, query: URLSearchParams): Attributes {
  const { resource, namespace, name, subresource } = target;
  const reads = isTrue(query.get('watch')) ? 'watch' : name ? 'get' : 'list';
  const verbs: Record<string, string> = { GET: reads, POST: 'create', PUT: 'update', PATCH: 'patch' };
  const verb = verbs[method] ?? (name ? 'delete' : 'deletecollection');
  // A namespace lies in itself, so that a Role in it can speak of it.
  const space = resource.id === 'namespaces' ? name : namespace;
  return { verb, group: resource.group, resource: resource.plural, subresource, namespace: space, name };
}

/** Whether a path is one of an API group that is served; of others a real cluster knows no Status. */
function isApiPath([first, second = '']: string[], registry: Registry): boolean {
  if (first === 'api') return second === 'v1';
  return first === 'apis' && registry.all().some(({ group }) => group === second);
}

function fixedDocument({ registry }: Cluster, path: string[]): unknown {
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
function resolve({ registry }: Cluster, path: string[]): Route {
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
  const special = subresource === 'scale' ? resource.scale : subresource === 'token' && plural === 'serviceaccounts';
  if (!known && !special) throw noSuchPath();
  return { resource, version, namespace, name, subresource };
}
