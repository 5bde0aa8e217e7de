/** From a request's path and query to a verb of the API and its answer. */
import { setTimeout } from 'node:timers/promises';
import type { Cluster } from './api.ts';
import * as discovery from './discovery.ts';
import { ApiError, methodNotAllowed, noSuchPath } from './errors.ts';
import { drop, isAuthorised, type Request, type Response, readBody, sendJson, sendStatus, sendText } from './http.ts';
import type { Answers, Requests } from './mesh.ts';
import { isFields, type KubeObject } from './objects.ts';
import { answerRead } from './reads.ts';
import type { Resource } from './resources.ts';
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
  const authorised = isAuthorised(request, router.token);
  if (!authorised && !(authorised === undefined && (health || path === '/version'))) {
    throw new ApiError(401, 'Unauthorized', 'Unauthorized');
  }
  if (health) return sendText(response, 200, 'ok', 'text/plain');
  if (path === '/sandbox/requests' && request.method === 'POST') {
    return sendJson(response, 200, router.send((await readBody(request)) as Requests));
  }
  await route(router, request, response);
}

async function route(router: Router, request: Request, response: Response): Promise<void> {
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
  if (!known && !(subresource === 'scale' && resource.scale)) throw noSuchPath();
  return { resource, version, namespace, name, subresource };
}

function review(body: unknown): KubeObject {
  const spec = isFields(body) ? body.spec : undefined;
  const kind = 'SelfSubjectAccessReview';
  const metadata = {} as KubeObject['metadata'];
  return { apiVersion: 'authorization.k8s.io/v1', kind, metadata, spec, status: { allowed: true } };
}
