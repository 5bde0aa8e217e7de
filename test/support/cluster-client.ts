import type { IncomingMessage } from 'node:http';
import { Agent, request } from 'node:https';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';

/** How a person or a controller reaches a cluster beside the control plane. `caData`: PEM in base64. */
export type ClusterAddress = { server: string; caData: string; token: string };

export type ClusterAnswer = { status: number; body: Record<string, unknown> };

/** Kinds that tests read and write, with the collection that the API serves them in. */
const collections = {
  Namespace: ['api/v1', 'namespaces'],
  Service: ['api/v1', 'services'],
  Pod: ['api/v1', 'pods'],
  ConfigMap: ['api/v1', 'configmaps'],
  Secret: ['api/v1', 'secrets'],
  ReplicaSet: ['apis/apps/v1', 'replicasets'],
  Deployment: ['apis/apps/v1', 'deployments'],
  EndpointSlice: ['apis/discovery.k8s.io/v1', 'endpointslices'],
  HorizontalPodAutoscaler: ['apis/autoscaling/v2', 'horizontalpodautoscalers'],
  CustomResourceDefinition: ['apis/apiextensions.k8s.io/v1', 'customresourcedefinitions'],
  TrafficSplit: ['apis/split.smi-spec.io/v1alpha2', 'trafficsplits'],
  ServiceProfile: ['apis/linkerd.io/v1alpha2', 'serviceprofiles'],
} as const;

export type Kind = keyof typeof collections;
/** A collection that is not of those kinds: `['apis/split.smi-spec.io/v1alpha1', 'trafficsplits']`. */
export type Collection = readonly [groupVersion: string, plural: string];
export const kinds = Object.keys(collections) as Kind[];

export type Listed = { objects: KubernetesObject[]; resourceVersion: string };
export type WatchEvent = { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: KubernetesObject };

export type ClusterClient = ReturnType<typeof createClusterClient>;

/** A client of its own, as kubectl would be: nothing of the control plane's is used to check the control plane. */
export function createClusterClient({ server, caData, token }: ClusterAddress) {
  const ca = Buffer.from(caData, 'base64').toString();
  const agent = new Agent({ ca, keepAlive: true });
  const watches = new Set<{ close(): void }>();
  /** Writes of this client that have not been answered: `PATCH /api/v1/…`. The control plane's are told apart by it. */
  const inFlight = new Set<string>();

  const open = (method: string, path: string, body?: unknown, contentType = 'application/json') =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const text = body === undefined ? undefined : JSON.stringify(body);
      const headers = {
        authorization: `Bearer ${token}`,
        accept: 'application/json',
        'user-agent': 'kubectl/v1.35.4',
        ...(text === undefined ? {} : { 'content-type': contentType, 'content-length': Buffer.byteLength(text) }),
      };
      const sent = request(`${server}${path}`, { method, headers, agent }, resolve);
      sent.on('error', reject);
      sent.end(text);
    });

  const send = async (method: string, path: string, body?: unknown, contentType?: string): Promise<ClusterAnswer> => {
    const key = `${method} ${path.split('?')[0]}`;
    if (method !== 'GET') inFlight.add(key);
    try {
      const response = await open(method, path, body, contentType);
      let text = '';
      response.setEncoding('utf8');
      for await (const chunk of response) text += chunk;
      // What no API group answers (a path that is not served) is plain text.
      const isJson = response.headers['content-type']?.startsWith('application/json');
      const content = isJson ? (JSON.parse(text) as Record<string, unknown>) : { message: text.trim() };
      return { status: response.statusCode ?? 0, body: content };
    } finally {
      inFlight.delete(key);
    }
  };

  const expectDone = (answer: ClusterAnswer, what: string): KubernetesObject => {
    if (answer.status >= 300) throw new Error(`${what}: HTTP ${answer.status} ${String(answer.body.message)}`);
    return answer.body as KubernetesObject;
  };

  return {
    inFlight,
    send,

    async get(kind: Kind, namespace: string, name: string): Promise<KubernetesObject | undefined> {
      const answer = await send('GET', pathOf(kind, namespace, name));
      return answer.status === 404 ? undefined : expectDone(answer, `get ${kind} ${name}`);
    },

    /** @param namespace empty for all namespaces */
    async list(kind: Kind | Collection, namespace: string): Promise<Listed> {
      const { items, metadata } = expectDone(
        await send('GET', pathOf(kind, namespace)),
        `list ${kind}`,
      ) as unknown as ListOfObjects;
      return { objects: items, resourceVersion: metadata.resourceVersion };
    },

    async create(kind: Kind, namespace: string, object: Record<string, unknown>): Promise<KubernetesObject> {
      return expectDone(await send('POST', pathOf(kind, namespace), object), `create ${kind}`);
    },

    /** A JSON merge patch. */
    async patch(kind: Kind, namespace: string, name: string, patch: unknown): Promise<KubernetesObject> {
      const answer = await send('PATCH', pathOf(kind, namespace, name), patch, 'application/merge-patch+json');
      return expectDone(answer, `patch ${kind} ${name}`);
    },

    /** A forced server-side apply, as GitOps tools send it. */
    async apply(kind: Kind, namespace: string, name: string, object: unknown): Promise<KubernetesObject> {
      const path = `${pathOf(kind, namespace, name)}?fieldManager=argocd-controller&force=true`;
      return expectDone(await send('PATCH', path, object, 'application/apply-patch+yaml'), `apply ${kind} ${name}`);
    },

    async delete(kind: Kind, namespace: string, name: string): Promise<void> {
      expectDone(await send('DELETE', pathOf(kind, namespace, name)), `delete ${kind} ${name}`);
    },

    /**
     * Follows a collection from a list of it, over interruptions too, until it is closed. Where the cluster no longer
     * keeps the changes that were missed, they are made up from what is different.
     */
    watch(
      kind: Kind | Collection,
      namespace: string,
      from: Listed,
      onEvent: (event: WatchEvent) => void,
    ): { close(): void } {
      let version = from.resourceVersion;
      let closed = false;
      let response: IncomingMessage | undefined;
      const known = new Map(from.objects.map((object) => [object.metadata.name, object]));
      const deliver = (event: WatchEvent) => {
        if (event.type === 'DELETED') known.delete(event.object.metadata.name);
        else known.set(event.object.metadata.name, event.object);
        onEvent(event);
      };
      const catchUp = async () => {
        const { objects, resourceVersion } = await this.list(kind, namespace);
        for (const object of objects) {
          const before = known.get(object.metadata.name);
          if (before?.metadata.resourceVersion === object.metadata.resourceVersion) continue;
          deliver({ type: before ? 'MODIFIED' : 'ADDED', object });
        }
        const names = new Set(objects.map(({ metadata }) => metadata.name));
        for (const object of [...known.values()].filter(({ metadata }) => !names.has(metadata.name))) {
          deliver({ type: 'DELETED', object: { ...object, metadata: { ...object.metadata, resourceVersion } } });
        }
        version = resourceVersion;
      };
      const handle = {
        close() {
          closed = true;
          watches.delete(handle);
          response?.destroy();
        },
      };
      watches.add(handle);
      const follow = async () => {
        while (!closed) {
          try {
            const query = `watch=true&allowWatchBookmarks=true&timeoutSeconds=600&resourceVersion=${version}`;
            response = await open('GET', `${pathOf(kind, namespace)}?${query}`);
            if (closed) response.destroy();
            response.setEncoding('utf8');
            let rest = '';
            for await (const chunk of response) {
              const lines = `${rest}${chunk}`.split('\n');
              rest = lines.pop() ?? '';
              for (const line of lines) {
                const { type, object } = JSON.parse(line) as { type: string; object: KubernetesObject };
                if (type === 'ERROR') {
                  await catchUp();
                  break;
                }
                version = object.metadata.resourceVersion ?? version;
                if (type !== 'BOOKMARK') deliver({ type: type as WatchEvent['type'], object });
              }
            }
          } catch (error) {
            // The cluster was stopped, or is not there yet: the next try comes when the event loop has served others.
            if (!closed && !isInterruption(error)) throw error;
            await new Promise((resolve) => setTimeout(resolve, 20));
          }
        }
      };
      void follow();
      return handle;
    },

    /** Every object of the kinds above in a namespace, as `<kind>/<name>` with its resourceVersion. */
    async versions(namespace: string): Promise<Record<string, string>> {
      const lists = await Promise.all(
        kinds
          .filter((kind) => !isClusterScoped(kind))
          .map(async (kind) => ({ kind, ...(await this.list(kind, namespace)) })),
      );
      const entries = lists.flatMap(({ kind, objects }) =>
        objects.map(({ metadata }) => [`${kind}/${metadata.name}`, metadata.resourceVersion ?? '']),
      );
      return Object.fromEntries(entries.sort()) as Record<string, string>;
    },

    close() {
      for (const watch of watches) watch.close();
      agent.destroy();
    },
  };
}

type ListOfObjects = { items: KubernetesObject[]; metadata: { resourceVersion: string } };

function isClusterScoped(kind: Kind): boolean {
  return kind === 'Namespace' || kind === 'CustomResourceDefinition';
}

function pathOf(kind: Kind | Collection, namespace: string, name?: string): string {
  const [group, plural] = typeof kind === 'string' ? collections[kind] : kind;
  const isInNamespace = namespace !== '' && !(typeof kind === 'string' && isClusterScoped(kind));
  const space = isInNamespace ? `/namespaces/${namespace}` : '';
  return `/${group}${space}/${plural}${name === undefined ? '' : `/${name}`}`;
}

function isInterruption(error: unknown): boolean {
  const code = (error as { code?: string }).code ?? '';
  return ['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE'].includes(code);
}
