import {
  type AdaptorLimits,
  authorityOf,
  createPace,
  specAfter,
  workload,
  workloadImage,
  workloadLabels,
} from '@cdaas/sandbox/adaptor-rules.ts';
import type { KubeObject, ServiceProfile, TrafficSplit } from '@cdaas/sandbox/objects.ts';
import { type ClusterAddress, type Collection, createClusterClient, type WatchEvent } from './cluster-client.ts';

/** Stands in for Linkerd's SMI adaptor 0.2.7 beside any cluster; its limits can be changed while it runs. */
export type SmiAdaptor = AdaptorLimits & { stop(): Promise<void> };

export type SmiAdaptorOptions = Partial<AdaptorLimits> & {
  /** The namespaces that it cares for. Default: all. */
  serves?: (namespace: string) => boolean;
};

/** The real one reads this version, and there is nothing for it where the cluster does not serve it. */
const splits: Collection = ['apis/split.smi-spec.io/v1alpha1', 'trafficsplits'];
const deployments: Collection = ['apis/apps/v1', 'deployments'];
const retryMs = 50;

/**
 * Sees to it that its workload is there, by which a control plane finds it, and starts. It is up while that has an
 * available pod, so that scaling it to 0 takes it down as it would the real one.
 */
export async function startSmiAdaptor(
  cluster: ClusterAddress,
  { serves = () => true, ...limits }: SmiAdaptorOptions = {},
): Promise<SmiAdaptor> {
  const client = createClusterClient(cluster);
  const known = new Map<string, TrafficSplit>();
  const timers = new Set<NodeJS.Timeout>();
  let [down, available, stopped] = [limits.down ?? false, false, false];
  /** One after the other, as the real one's only worker. */
  let working: Promise<void> = Promise.resolve();
  const isUp = () => !down && available;

  const adaptor: SmiAdaptor = {
    lagMs: 5,
    perSecond: 0,
    forgetsDeletes: false,
    ...limits,
    get down() {
      return down;
    },
    set down(value) {
      const wasUp = isUp();
      down = value;
      if (!wasUp && isUp()) takeAll();
    },
    async stop() {
      stopped = true;
      for (const timer of timers) clearTimeout(timer);
      client.close();
      await working;
    },
  };
  const pace = createPace(adaptor);

  function takeAll(): void {
    for (const split of known.values()) ask(split);
  }

  function ask({ metadata: { namespace = '', name }, spec: { service } }: TrafficSplit, afterMs = pace()): void {
    const timer = setTimeout(() => {
      timers.delete(timer);
      working = working.then(() => sync(namespace, name, service)).catch(ended);
    }, afterMs);
    timers.add(timer);
  }

  async function sync(namespace: string, name: string, service: string): Promise<void> {
    if (stopped || !isUp()) return;
    const split = known.get(`${namespace}/${name}`);
    const root = authorityOf(split?.spec.service ?? service, namespace);
    const profiles = `/apis/linkerd.io/v1alpha2/namespaces/${namespace}/serviceprofiles`;
    const found = await client.send('GET', `${profiles}/${root}`);
    const profile = found.status === 200 ? (found.body as ServiceProfile) : undefined;
    const spec = specAfter(split, profile, namespace, adaptor);
    if (spec === undefined) return;
    const answer = profile
      ? await client.send('PUT', `${profiles}/${root}`, { ...profile, spec })
      : await client.send('POST', profiles, profileNamed(root, spec));
    // Somebody else wrote in between; a namespace that is going takes nothing new, and needs nothing.
    if (answer.status === 409) ask({ metadata: { namespace, name }, spec: { service } } as TrafficSplit, retryMs);
  }

  function onSplit({ type, object }: WatchEvent): void {
    const split = object as unknown as TrafficSplit;
    const { namespace = '', name } = split.metadata;
    if (!serves(namespace) || !split.spec?.service) return;
    if (type === 'DELETED') known.delete(`${namespace}/${name}`);
    else known.set(`${namespace}/${name}`, split);
    if (isUp()) ask(split);
  }

  function onDeployment({ type, object }: WatchEvent): void {
    if (object.metadata.name !== workload.name) return;
    const wasUp = isUp();
    const { availableReplicas = 0 } = (object.status ?? {}) as { availableReplicas?: number };
    available = type !== 'DELETED' && availableReplicas > 0;
    if (!wasUp && isUp()) takeAll();
  }

  /** A request that was cut off by `stop` is no trouble. */
  function ended(error: unknown): void {
    if (!stopped) throw error;
  }

  await client.send('POST', '/api/v1/namespaces', { metadata: { name: workload.namespace } });
  await client.send('POST', `/apis/apps/v1/namespaces/${workload.namespace}/deployments`, workloadDeployment);
  for (const [collection, namespace, onEvent] of [
    [splits, '', onSplit],
    [deployments, workload.namespace, onDeployment],
  ] as const) {
    const listed = await client.list(collection, namespace);
    for (const object of listed.objects) onEvent({ type: 'ADDED', object });
    client.watch(collection, namespace, listed, onEvent);
  }
  return adaptor;
}

function profileNamed(name: string, spec: Record<string, unknown>): Partial<KubeObject> {
  return {
    apiVersion: 'linkerd.io/v1alpha2',
    kind: 'ServiceProfile',
    metadata: { name } as KubeObject['metadata'],
    spec,
  };
}

const workloadDeployment = {
  metadata: { name: workload.name, labels: workloadLabels },
  spec: {
    replicas: 1,
    selector: { matchLabels: workloadLabels },
    template: {
      metadata: { labels: workloadLabels },
      spec: { containers: [{ name: workload.name, image: workloadImage }] },
    },
  },
};
