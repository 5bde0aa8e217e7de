import { isRecord } from '@cdaas/pipeline/is-record.ts';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { fieldManager as ownManager } from '@cdaas/pipeline/marks.ts';
import type { ClusterAccess } from '../clusters/kubeconfig.ts';
import { toObject } from './kube-answer.ts';
import type { Answered, AskedFor, Outcome, Unreachable } from './kube-exchange.ts';
import { createKubeTransport, type KubeRequest, type KubeTransport, type TransportOptions } from './kube-transport.ts';

/*
 * The few verbs of the Kubernetes API that this project uses, on top of kube-transport.ts. Expected outcomes, errors
 * of the API server included, are values: `answered` with its status, or `unreachable`, which says whether the request
 * may have had an effect. Nothing here retries a write.
 */

/** All objects of one resource, in one namespace or (without) in all or none. `plural` as in URLs, e.g. `replicasets`. */
export type ResourceCollection = { apiVersion: string; plural: string; namespace?: string | undefined };
export type ResourceRef = ResourceCollection & { name: string };

export type CallOptions = { signal?: AbortSignal; timeoutMs?: number };
export type WriteOptions = CallOptions & { fieldManager?: string };
export type DeleteOptions = CallOptions & {
  /** Preconditions: another object of that name, or a later state, answers 409. */
  uid?: string;
  resourceVersion?: string;
  propagationPolicy?: 'Orphan' | 'Background' | 'Foreground';
};
export type ListOptions = CallOptions & {
  labelSelector?: string | undefined;
  /** Objects per request, so that no answer grows large. Default 250. */
  pageSize?: number;
  /** A longer list is refused as `answer.tooLarge`. Default 20,000. */
  maxObjects?: number;
  /** So is one whose pages together are larger. Default 32 MiB, or 128 MiB where only parts are kept. */
  maxBytes?: number;
  /** The part of each object that is kept, so that a list of large ones costs little memory. */
  keep?: ((object: KubernetesObject) => KubernetesObject) | undefined;
};

export type Listed = { kind: 'listed'; objects: KubernetesObject[]; resourceVersion: string };
export type FoundResource = { kind: 'found'; plural: string; namespaced: boolean };

export type KubeClient = {
  request(request: KubeRequest): Promise<Outcome>;
  stream: KubeTransport['stream'];
  get(ref: ResourceRef, options?: CallOptions): Promise<Outcome>;
  list(collection: ResourceCollection, options?: ListOptions): Promise<Listed | Outcome>;
  create(collection: ResourceCollection, object: unknown, options?: WriteOptions): Promise<Outcome>;
  /** Replaces the object; with `metadata.resourceVersion` in it only if it is still that version. */
  put(ref: ResourceRef, object: unknown, options?: WriteOptions): Promise<Outcome>;
  /** JSON merge patch (RFC 7396); `metadata.resourceVersion` in it is a precondition. */
  patch(ref: ResourceRef, mergePatch: unknown, options?: WriteOptions): Promise<Outcome>;
  /** Server-side apply. `force` takes fields over from other managers. */
  apply(
    ref: ResourceRef,
    object: unknown,
    options: WriteOptions & { fieldManager: string; force?: boolean },
  ): Promise<Outcome>;
  delete(ref: ResourceRef, options?: DeleteOptions): Promise<Outcome>;
  /** How a kind is served here; `absent` if it is not. Cached; a kind that is not in the cache is asked for anew. */
  findResource(
    apiVersion: string,
    kind: string,
    options?: CallOptions,
  ): Promise<FoundResource | { kind: 'absent' } | Outcome>;
  /** Versions of an API group that are served, preferred first; none if the group is not. */
  servedVersions(group: string, options?: CallOptions): Promise<{ kind: 'served'; versions: string[] } | Outcome>;
  /** The same of all groups but the core's, in one request. */
  servedGroups(options?: CallOptions): Promise<{ kind: 'groups'; groups: ReadonlyMap<string, string[]> } | Outcome>;
  /** The schema of a kind as the cluster publishes it (OpenAPI v3); undefined where it publishes none. Cached. */
  findSchema(
    apiVersion: string,
    kind: string,
    options?: CallOptions,
  ): Promise<{ kind: 'schema'; schema: unknown } | Outcome>;
  /** GET /version. */
  version(options?: CallOptions): Promise<Outcome>;
  /**
   * From now on reaches the same cluster in another way. Requests under way finish as they were sent, those that wait are
   * sent anew, watches end. Whoever holds this client goes on with it.
   */
  replaceAccess(access: ClusterAccess): void;
  /** Somebody saw the cluster answer: if it counts as away here, the next request finds out. */
  hurry(): void;
  /** Refuses new requests as `client.closed`, lets those under way finish, ends watches. */
  close(): Promise<void>;
};

/** A client for one cluster and one credential. Connects on first use. */
export function createKubeClient(options: TransportOptions): KubeClient {
  let transport = createKubeTransport(options);
  const request: KubeTransport['request'] = async (asked) => {
    const used = transport;
    const outcome = await used.request(asked);
    const isReplaced = outcome.kind === 'unreachable' && outcome.code === 'client.closed' && used !== transport;
    return isReplaced && !outcome.sent ? request(asked) : outcome;
  };
  const discovery = createDiscovery(request, options.now ?? Date.now);

  const write = async (
    asked: AskedFor,
    path: string,
    body: unknown,
    { fieldManager = ownManager, signal, timeoutMs }: WriteOptions = {},
    contentType = 'application/json',
    query: KubeRequest['query'] = {},
  ): Promise<Outcome> => {
    const method = asked.verb === 'create' ? 'POST' : asked.verb === 'update' ? 'PUT' : 'PATCH';
    const full = { fieldManager, ...query };
    return named(await request({ method, path, query: full, body, contentType, signal, timeoutMs }), asked);
  };

  return {
    request,
    stream: (asked, sink) => transport.stream(asked, sink),
    get: async (ref, { signal, timeoutMs } = {}) =>
      named(await request({ method: 'GET', path: resourcePath(ref), signal, timeoutMs }), askedFor('get', ref)),
    list: (collection, listOptions = {}) => listAll(request, collection, listOptions),
    create: (collection, object, writeOptions) =>
      write(askedFor('create', collection, nameIn(object)), collectionPath(collection), object, writeOptions),
    put: (ref, object, writeOptions) => write(askedFor('update', ref), resourcePath(ref), object, writeOptions),
    patch: (ref, mergePatch, writeOptions) =>
      write(askedFor('patch', ref), resourcePath(ref), mergePatch, writeOptions, 'application/merge-patch+json'),
    // JSON is YAML, and this is the content type that every version that has apply takes.
    apply: (ref, object, { force, ...writeOptions }) =>
      write(askedFor('patch', ref), resourcePath(ref), object, writeOptions, 'application/apply-patch+yaml', {
        force: force ? true : undefined,
      }),
    delete: async (ref, { uid, resourceVersion, propagationPolicy, signal, timeoutMs } = {}) => {
      const preconditions = uid === undefined && resourceVersion === undefined ? undefined : { uid, resourceVersion };
      const body = { kind: 'DeleteOptions', apiVersion: 'v1', preconditions, propagationPolicy };
      const outcome = await request({ method: 'DELETE', path: resourcePath(ref), body, signal, timeoutMs });
      return named(outcome, askedFor('delete', ref));
    },
    ...discovery,
    version: ({ signal, timeoutMs } = {}) => request({ method: 'GET', path: '/version', signal, timeoutMs }),
    replaceAccess({ server, caData, credential }) {
      const before = transport;
      transport = createKubeTransport({ ...options, server, caData, credential, isReplacement: true });
      void before.close();
    },
    hurry: () => transport.hurry(),
    close: () => transport.close(),
  };
}

function askedFor(
  verb: AskedFor['verb'],
  { apiVersion, plural, namespace, name }: ResourceCollection & { name?: string },
  named = name,
): AskedFor {
  const [group, version] = apiVersion.split('/');
  return { verb, resource: version === undefined ? plural : `${plural}.${group}`, namespace, name: named };
}

function nameIn(object: unknown): string | undefined {
  const metadata = isRecord(object) ? object.metadata : undefined;
  return isRecord(metadata) && typeof metadata.name === 'string' ? metadata.name : undefined;
}

/** An error with what was asked for: API servers name it in most of their texts, and others in none. */
function named(outcome: Outcome, asked: AskedFor): Outcome {
  return outcome.kind === 'answered' && outcome.status >= 400 ? { ...outcome, asked } : outcome;
}

/**
 * The URL path of a collection or object. Every part is encoded; '.' and '..' as a name are refused, since a URL would
 * swallow them and address something else.
 */
export function resourcePath(ref: ResourceCollection & { name?: string }): string {
  const parts = groupParts(ref.apiVersion);
  if (ref.namespace !== undefined) parts.push('namespaces', ref.namespace);
  parts.push(ref.plural);
  if (ref.name !== undefined) parts.push(ref.name);
  for (const part of parts) {
    if (part === '' || part === '.' || part === '..')
      throw new TypeError(`'${part}' cannot stand in the path of an object`);
  }
  return pathOf(parts);
}

/** Where the kinds of an API version are found. */
function groupPath(apiVersion: string): string {
  return pathOf(groupParts(apiVersion));
}

function groupParts(apiVersion: string): string[] {
  return [apiVersion.includes('/') ? 'apis' : 'api', ...apiVersion.split('/')];
}

function pathOf(parts: readonly string[]): string {
  return `/${parts.map(encodeURIComponent).join('/')}`;
}

/** A caller's ref with a name in it is a collection to the compiler; its name must not reach the path. */
function collectionPath({ apiVersion, plural, namespace }: ResourceCollection): string {
  return resourcePath({ apiVersion, plural, namespace });
}

const maxPages = 1000;
/** For all pages together. */
const listMs = 60_000;
const mebibyte = 1024 * 1024;

async function listAll(
  request: KubeTransport['request'],
  collection: ResourceCollection,
  options: ListOptions,
): Promise<Listed | Outcome> {
  const { labelSelector, pageSize = 250, maxObjects = 20_000, keep, signal, timeoutMs } = options;
  const maxBytes = options.maxBytes ?? (keep ? 128 : 32) * mebibyte;
  const path = collectionPath(collection);
  const deadline = performance.now() + listMs;
  let restarted = false;
  let objects: KubernetesObject[] = [];
  let bytes = 0;
  let next: string | undefined;
  for (let page = 0; page < maxPages; page += 1) {
    if (performance.now() > deadline) {
      const late = `the cluster did not list all ${collection.plural} within ${listMs / 1000} s`;
      return { kind: 'unreachable', code: 'timeout', reason: late, sent: true };
    }
    const query = { labelSelector, limit: pageSize, continue: next };
    const outcome = await request({ method: 'GET', path, query, signal, timeoutMs });
    if (outcome.kind === 'unreachable') return outcome;
    if (outcome.status === 410 && next !== undefined && !restarted) {
      // The continue token expired while we paged: begin again, once.
      restarted = true;
      objects = [];
      bytes = 0;
      next = undefined;
      continue;
    }
    if (outcome.status !== 200) return named(outcome, askedFor('list', collection));
    const read = readList(outcome.body, collection.namespace);
    if (!read) return notAList(collection);
    objects.push(...(keep ? read.objects.map(keep) : read.objects));
    bytes += outcome.bytes ?? 0;
    if (objects.length > maxObjects || bytes > maxBytes) break;
    if (read.next === '') return { kind: 'listed', objects, resourceVersion: read.resourceVersion };
    next = read.next;
  }
  const found = `${objects.length} objects in ${Math.ceil(bytes / mebibyte)} MiB, and more`;
  const reason = `the cluster lists too many ${collection.plural} for this server: ${found}`;
  return { kind: 'unreachable', code: 'answer.tooLarge', reason, sent: true };
}

function notAList({ plural }: ResourceCollection): Outcome {
  return misunderstood(`the server answered a list of ${plural} with something else`);
}

/** The outcome of a request whose answer is JSON, but not what a Kubernetes API server answers to it. */
export function misunderstood(what: string): Unreachable {
  const reason = `${what}: is it a Kubernetes API server?`;
  return { kind: 'unreachable', code: 'answer.notKubernetes', reason, sent: true };
}

function readList(
  body: unknown,
  namespace: string | undefined,
): { objects: KubernetesObject[]; resourceVersion: string; next: string } | undefined {
  if (!isRecord(body) || !isRecord(body.metadata) || typeof body.kind !== 'string') return undefined;
  const items = body.items ?? [];
  if (!Array.isArray(items)) return undefined;
  const { resourceVersion, continue: next } = body.metadata;
  // Lists of built-in kinds leave apiVersion and kind out of their items.
  const defaults = { apiVersion: body.apiVersion, kind: body.kind.replace(/List$/, '') };
  const objects: KubernetesObject[] = [];
  for (const item of items) {
    const object = isRecord(item) ? toObject({ ...defaults, ...item }) : undefined;
    if (!object || object.kind !== defaults.kind) return undefined;
    if (namespace !== undefined && (object.metadata.namespace ?? namespace) !== namespace) return undefined;
    objects.push(object);
  }
  return {
    objects,
    resourceVersion: typeof resourceVersion === 'string' ? resourceVersion : '',
    next: typeof next === 'string' ? next : '',
  };
}

const discoveryTtlMs = 10 * 60_000;

function createDiscovery(
  request: KubeTransport['request'],
  now: () => number,
): Pick<KubeClient, 'findResource' | 'servedVersions' | 'servedGroups' | 'findSchema'> {
  const cache = new Map<string, { at: number; kinds: Map<string, FoundResource> }>();
  const schemas = new Map<string, { at: number; schema: unknown }>();

  return {
    async findResource(apiVersion, kind, options = {}) {
      const known = cache.get(apiVersion);
      const found = known && now() - known.at < discoveryTtlMs ? known.kinds.get(kind) : undefined;
      if (found) return found;
      const outcome = await request({ method: 'GET', path: groupPath(apiVersion), ...options });
      if (outcome.kind === 'unreachable') return outcome;
      if (outcome.status === 404) {
        cache.delete(apiVersion);
        return { kind: 'absent' };
      }
      if (outcome.status !== 200) return outcome;
      const kinds = readResources(outcome, apiVersion);
      if (!kinds) return misunderstood(`the server does not say what it serves of ${apiVersion}`);
      cache.set(apiVersion, { at: now(), kinds });
      return kinds.get(kind) ?? { kind: 'absent' };
    },
    async findSchema(apiVersion, kind, options = {}) {
      const key = `${apiVersion} ${kind}`;
      const known = schemas.get(key);
      if (known && now() - known.at < discoveryTtlMs) return { kind: 'schema', schema: known.schema };
      const outcome = await request({ method: 'GET', path: `/openapi/v3${groupPath(apiVersion)}`, ...options });
      if (outcome.kind === 'unreachable' || (outcome.status !== 200 && outcome.status !== 404)) return outcome;
      const schema = outcome.status === 200 ? readSchema(outcome, apiVersion, kind) : undefined;
      schemas.set(key, { at: now(), schema });
      return { kind: 'schema', schema };
    },
    async servedVersions(group, options = {}) {
      const outcome = await request({ method: 'GET', path: `/apis/${encodeURIComponent(group)}`, ...options });
      if (outcome.kind === 'unreachable') return outcome;
      if (outcome.status === 404) return { kind: 'served', versions: [] };
      if (outcome.status !== 200) return outcome;
      const versions = readVersions(outcome.body);
      if (!versions) return misunderstood(`the server does not say which versions of ${group} it serves`);
      return { kind: 'served', versions };
    },
    async servedGroups(options = {}) {
      const outcome = await request({ method: 'GET', path: '/apis', ...options });
      if (outcome.kind === 'unreachable' || outcome.status !== 200) return outcome;
      const listed = isRecord(outcome.body) ? outcome.body.groups : undefined;
      const groups = new Map<string, string[]>();
      for (const entry of Array.isArray(listed) ? listed : [undefined]) {
        const versions = readVersions(entry);
        if (!versions || !isRecord(entry) || typeof entry.name !== 'string') {
          return misunderstood('the server does not say which groups it serves');
        }
        groups.set(entry.name, versions);
      }
      return { kind: 'groups', groups };
    },
  };
}

/** The versions of an APIGroup (meta/v1), preferred first. */
function readVersions(group: unknown): string[] | undefined {
  if (!isRecord(group) || !Array.isArray(group.versions)) return undefined;
  const versions = group.versions.flatMap((entry: unknown) =>
    isRecord(entry) && typeof entry.version === 'string' ? [entry.version] : [],
  );
  const preferred = isRecord(group.preferredVersion) ? group.preferredVersion.version : undefined;
  return versions.sort((a, b) => Number(b === preferred) - Number(a === preferred));
}

/** Out of an OpenAPI v3 document the schema that says it is of that kind. */
function readSchema({ body }: Answered, apiVersion: string, kind: string): unknown {
  const components = isRecord(body) && isRecord(body.components) ? body.components : {};
  const schemas = isRecord(components.schemas) ? Object.values(components.schemas) : [];
  return schemas.find((schema) => {
    const marks = isRecord(schema) ? schema['x-kubernetes-group-version-kind'] : undefined;
    return (Array.isArray(marks) ? marks : []).some((mark: unknown) => {
      if (!isRecord(mark) || mark.kind !== kind) return false;
      return apiVersion === (mark.group ? `${mark.group}/${mark.version}` : mark.version);
    });
  });
}

/** The kinds in an APIResourceList (meta/v1); subresources, which have a '/', are left out. */
function readResources({ body }: Answered, apiVersion: string): Map<string, FoundResource> | undefined {
  if (!isRecord(body) || !Array.isArray(body.resources)) return undefined;
  if (body.groupVersion !== undefined && body.groupVersion !== apiVersion) return undefined;
  const kinds = new Map<string, FoundResource>();
  for (const entry of body.resources) {
    if (!isRecord(entry) || typeof entry.name !== 'string' || typeof entry.kind !== 'string') continue;
    // It becomes part of a path.
    if (!/^[a-z0-9.-]{1,253}$/.test(entry.name)) continue;
    kinds.set(entry.kind, { kind: 'found', plural: entry.name, namespaced: entry.namespaced === true });
  }
  return kinds;
}
