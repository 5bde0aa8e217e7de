import { randomUUID } from 'node:crypto';
import { type Answer, apply, type Body, type Client, merge } from '../sandbox/client.ts';
import { until } from '../support/until.ts';

/** Where one case takes place: a namespace of its own in one of the clusters. */
export type Place = Client & {
  cluster: ClusterName;
  namespace: string;
  /** Collections of the namespace. */
  core: string;
  apps: string;
  slices: string;
  splits: string;
  /** A call that must succeed; answers the body. */
  done(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Body>;
  /** JSON merge patch, as the engine sends it; `manager` is its field manager. */
  mergePatch(path: string, patch: unknown, manager?: string): Promise<Answer>;
  /** Server-side apply. */
  applyAs(manager: string, path: string, object: object, force?: boolean): Promise<Answer>;
  /** Makes admission control refuse every ConfigMap of the namespace, with these words. */
  refuseConfigMaps(message: string): Promise<void>;
};

export type ClusterName = 'sandbox' | 'real';

/** Cases by the sentence that each proves. */
export type Cases = Record<string, (at: Place) => Promise<void>>;

type Whole = { client: Client; refuseConfigMaps(namespace: string, message: string): Promise<void> };

export async function openPlace(cluster: ClusterName, { client, refuseConfigMaps }: Whole): Promise<Place> {
  const namespace = `conf-${randomUUID().slice(0, 8)}`;
  const { code, body } = await client.call('POST', '/api/v1/namespaces', { metadata: { name: namespace } });
  if (code !== 201) throw new Error(`namespace ${namespace}: ${code} ${body.message}`);
  return {
    ...client,
    cluster,
    namespace,
    core: `/api/v1/namespaces/${namespace}`,
    apps: `/apis/apps/v1/namespaces/${namespace}`,
    slices: `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`,
    splits: `/apis/split.smi-spec.io/v1alpha2/namespaces/${namespace}/trafficsplits`,
    async done(method, path, sent, headers) {
      const answer = await client.call(method, path, sent, headers);
      if (answer.code >= 300) throw new Error(`${method} ${path}: ${answer.code} ${answer.body.message}`);
      return answer.body;
    },
    mergePatch: (path, patch, manager = 'cdaas') =>
      client.call('PATCH', `${path}?fieldManager=${manager}`, patch, merge),
    applyAs: (manager, path, object, force = false) =>
      client.call('PATCH', `${path}?fieldManager=${manager}${force ? '&force=true' : ''}`, object, apply),
    refuseConfigMaps: (message) => refuseConfigMaps(namespace, message),
  };
}

/** Waits until an object, or whatever a path answers, is such. */
export function eventually(
  at: Pick<Place, 'call'>,
  what: string,
  path: string,
  holds: (body: Body) => boolean | undefined,
): Promise<Body> {
  return until(async () => {
    const { body } = await at.call('GET', path);
    return holds(body) ? body : undefined;
  }, what);
}

export { type Answer, apply, type Body, merge };
