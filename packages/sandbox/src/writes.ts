/** POST, PUT, PATCH and DELETE. */
import * as api from './api.ts';
import { type DeleteOptions, remove } from './deletion.ts';
import { ApiError, methodNotAllowed, type Status, unsupportedMediaType } from './errors.ts';
import { drop, type Request, type Response, readBody, sendText } from './http.ts';
import { isFields } from './objects.ts';
import { type Format, formatFor, isTrue, matcherFor } from './reads.ts';
import type { Route, Router } from './router.ts';
import type { Cluster, Entry } from './store.ts';

/** A request that changes something, as an interceptor sees it. */
export type InterceptedRequest = {
  verb: 'create' | 'update' | 'patch' | 'delete' | 'deletecollection';
  path: string;
  body: unknown;
};

/** What becomes of an intercepted request: it goes on, its connection is cut, or it is answered with an error. */
export type Verdict = 'continue' | 'drop' | { code: number; reason: string; message: string };

/**
 * Called around every request that changes something: before it is performed, and after the change is stored but
 * before the answer is sent. May wait as long as it likes.
 */
export type Intercept = (request: InterceptedRequest, phase: 'before' | 'after') => Promise<Verdict>;

const patchTypes: Record<string, api.PatchType> = {
  'application/merge-patch+json': 'merge',
  'application/json-patch+json': 'json',
  'application/strategic-merge-patch+json': 'strategic',
  'application/apply-patch+yaml': 'apply',
};

type Write = {
  cluster: Cluster;
  route: Route;
  verb: InterceptedRequest['verb'];
  query: URLSearchParams;
  body: unknown;
  format: Format;
  options: api.WriteOptions;
  mediaType: string;
};

type Answer = { code: number; text: string };

export async function answerWrite(
  router: Router,
  route: Route,
  url: URL,
  request: Request,
  response: Response,
): Promise<void> {
  const { cluster } = router;
  const verb = verbOf(request.method ?? '', route);
  const query = url.searchParams;
  const body = await readBody(request);
  const format = formatFor(route, query, request);
  const mediaType = (request.headers['content-type'] ?? '').split(';')[0]!.trim();
  const options = writeOptions(route, query, request);
  const write: Write = { cluster, route, verb, query, body, format, options, mediaType };
  const intercepted: InterceptedRequest = { verb, path: url.pathname, body };

  const before = (await router.intercept()?.(intercepted, 'before')) ?? 'continue';
  if (before === 'drop') return drop(response);
  let answer = before === 'continue' ? attempt(write) : refusal(before);
  const after = (await router.intercept()?.(intercepted, 'after')) ?? 'continue';
  if (after === 'drop') return drop(response);
  if (after !== 'continue') answer = refusal(after);
  sendText(response, answer.code, answer.text);
}

function verbOf(method: string, { name, subresource }: Route): InterceptedRequest['verb'] {
  if (method === 'POST' && !name) return 'create';
  if (method === 'PUT' && name) return 'update';
  if (method === 'PATCH' && name) return 'patch';
  if (method === 'DELETE' && !subresource) return name ? 'delete' : 'deletecollection';
  throw methodNotAllowed();
}

/** Who writes is what `fieldManager` says, else the program that the user agent names, as in the real API. */
function writeOptions({ subresource }: Route, query: URLSearchParams, request: Request): api.WriteOptions {
  const program = (request.headers['user-agent'] ?? '').split('/')[0];
  return {
    manager: query.get('fieldManager') || program || 'unknown',
    dryRun: query.get('dryRun') === 'All',
    force: isTrue(query.get('force')),
    ...(subresource === 'status' || subresource === 'scale' ? { subresource } : {}),
  };
}

function refusal({ code, reason, message }: { code: number; reason: string; message: string }): Answer {
  return { code, text: JSON.stringify(new ApiError(code, reason, message).status) };
}

function attempt(write: Write): Answer {
  try {
    return perform(write);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return { code: error.status.code, text: JSON.stringify(error.status) };
  }
}

function perform(write: Write): Answer {
  const { cluster, route, verb, body, options } = write;
  switch (verb) {
    case 'create':
      return answered(write, 201, api.create(cluster, route, body, options));
    case 'update':
      return answered(write, 200, api.replace(cluster, route, body, options));
    case 'patch': {
      const { entry, created } = api.patch(cluster, route, patchTypeOf(write), body, options);
      return answered(write, created ? 201 : 200, entry);
    }
    case 'delete':
      return performDelete(write);
    case 'deletecollection':
      return performDeleteCollection(write);
  }
}

function patchTypeOf({ mediaType, query }: Write): api.PatchType {
  const type = patchTypes[mediaType];
  if (!type) {
    const accepted = Object.keys(patchTypes).join(', ');
    const message = `the body of the request was in an unknown format - accepted media types include: ${accepted}`;
    throw unsupportedMediaType(message);
  }
  if (type === 'apply' && !query.get('fieldManager')) {
    const cause = {
      reason: 'FieldValueRequired',
      message: 'Required value: is required for apply patch',
      field: 'fieldManager',
    };
    const message = `PatchOptions.meta.k8s.io "" is invalid: ${cause.field}: ${cause.message}`;
    throw new ApiError(422, 'Invalid', message, { group: 'meta.k8s.io', kind: 'PatchOptions', causes: [cause] });
  }
  return type;
}

function performDelete(write: Write): Answer {
  const { cluster, route, query, body, options } = write;
  if (options.dryRun) return { code: 200, text: JSON.stringify(success(route, api.read(cluster, route))) };
  const { entry, gone } = remove(cluster, route, deleteOptions(query, body));
  // The real API answers with the object where it lingers, and for pods always.
  if (!gone || route.resource.id === 'pods') return answered(write, 200, entry);
  return { code: 200, text: JSON.stringify(success(route, entry)) };
}

function performDeleteCollection({ cluster, route, query, body, options, format }: Write): Answer {
  const matches = matcherFor(route, query);
  const all = cluster.store.list(route.resource.id, route.namespace || undefined);
  const doomed = all.filter((entry) => matches(entry.object));
  for (const { object } of options.dryRun ? [] : doomed) {
    const { namespace = '', name } = object.metadata;
    remove(cluster, { ...route, namespace, name }, deleteOptions(query, body));
  }
  return { code: 200, text: format.list(doomed, { resourceVersion: String(cluster.store.version()) }) };
}

function answered({ route, format }: Write, code: number, entry: Entry): Answer {
  const scale = route.subresource === 'scale';
  return { code, text: scale ? JSON.stringify(api.scaleOf(route.resource, entry.object)) : format.entry(entry) };
}

function success({ resource }: Route, { object }: Entry): Status {
  const { name, uid } = object.metadata;
  const details = { name, ...(resource.group ? { group: resource.group } : {}), kind: resource.plural, uid };
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details, code: 200 };
}

/** `DeleteOptions` from the body, or what of it the query carries. */
function deleteOptions(query: URLSearchParams, body: unknown): DeleteOptions {
  const given = isFields(body) ? (body as DeleteOptions) : {};
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
