import type { Condition } from '@cdaas/pipeline/deployment-state.ts';
import { deploymentKey, hashKey } from '@cdaas/pipeline/marks.ts';
import type { Logger } from 'pino';
import type { ClusterKey, KubeClients } from '../drivers/kube-clients.ts';
import { watchResource } from '../drivers/kube-watch.ts';
import { type ClusterCache, createClusterCache, type WatchedKind } from './cluster-cache.ts';

/**
 * The watches of one cluster: each resource once for all deployments there, cluster-wide or per namespace that the
 * cluster was registered for. ServiceProfiles and other people's Deployments carry no label of ours and are watched per
 * namespace in use; TrafficSplits from when the first run needs them, because only some clusters serve them, and not all in
 * one version.
 */
export type ClusterWatches = {
  cache: ClusterCache;
  /** Whether everything that a condition looks at is current. */
  isFresh(condition: Condition): boolean;
  /** Since when (epoch ms) something has not been current, and why; null where everything is. */
  staleSince(): { at: number; reason: string } | null;
  /** The namespaces whose Deployments and ServiceProfiles are needed now; others are let go in a while. */
  watchNamespaces(needed: NamespacesInUse): void;
  /** TrafficSplits are needed, in this version. */
  watchSplits(apiVersion: string): void;
  stop(): void;
};

export type NamespacesInUse = { Deployment: ReadonlySet<string>; ServiceProfile: ReadonlySet<string> };

export type ClusterWatchesOptions = {
  clients: KubeClients;
  key: ClusterKey;
  /** Empty: all. */
  namespaces: readonly string[];
  log: Logger;
  onTouched(interests: Iterable<string>): void;
  /** A watch is current again after it was not: everything may have turned. */
  onFresh(): void;
};

type Resource = { apiVersion: string; plural: string; labelSelector?: string; namespace?: string };

const watchedResources: ({ kind: WatchedKind } & Resource)[] = [
  { kind: 'Service', apiVersion: 'v1', plural: 'services', labelSelector: deploymentKey },
  { kind: 'EndpointSlice', apiVersion: 'discovery.k8s.io/v1', plural: 'endpointslices', labelSelector: deploymentKey },
  { kind: 'Pod', apiVersion: 'v1', plural: 'pods', labelSelector: hashKey },
  { kind: 'ReplicaSet', apiVersion: 'apps/v1', plural: 'replicasets', labelSelector: deploymentKey },
];

const perNamespace: ({ kind: keyof NamespacesInUse } & Resource)[] = [
  { kind: 'Deployment', apiVersion: 'apps/v1', plural: 'deployments' },
  { kind: 'ServiceProfile', apiVersion: 'linkerd.io/v1alpha2', plural: 'serviceprofiles' },
];

/**
 * What is kept of one cluster at most, in bytes of memory: some 100,000 pods. A cluster that shows more has its watches given
 * up for a while; its deployments are looked after by asking.
 */
const maxWeight = 64 * 1024 * 1024;
/** After which a watch that was given up, or that failed here, is begun again. */
const restartAfterMs = 60_000;
/** How long a watch of one namespace goes on that nobody needs: the next run there begins with what it knows. */
const lingerMs = 60_000;

export function watchCluster(options: ClusterWatchesOptions): ClusterWatches {
  const { clients, key, namespaces, log, onTouched, onFresh } = options;
  const cache = createClusterCache();
  const running = new Map<string, AbortController>();
  /** Since when each watch that has not delivered its list, or whose connection is broken, has been so. */
  const stale = new Map<string, { at: number; reason: string }>();

  /** Since when nobody has needed a watch of one namespace. */
  const unneeded = new Map<string, number>();

  const start = (kind: WatchedKind, resource: Resource): void => {
    const name = `${kind}/${resource.namespace ?? ''}`;
    if (running.has(name)) return;
    const stop = new AbortController();
    running.set(name, stop);
    stale.set(name, { at: Date.now(), reason: 'its objects were not listed yet' });
    const live = () => !stop.signal.aborted;
    const touched = (interests: Set<string>) => {
      if (cache.weight() > maxWeight) throw new Error('it shows more than can be kept');
      onTouched(interests);
    };
    watchResource(() => clients.get(key), {
      ...resource,
      kind,
      signal: stop.signal,
      onSnapshot(objects, resourceVersion) {
        if (!live()) return;
        cache.reach(kind, resourceVersion, resource.namespace);
        touched(cache.replace(kind, objects, resource.namespace));
      },
      onEvent(type, object) {
        if (!live()) return;
        cache.reach(kind, object.metadata.resourceVersion ?? '', resource.namespace);
        touched(type === 'DELETED' ? cache.remove(kind, object) : cache.put(kind, object));
      },
      onState(state, _since, reason = '') {
        if (!live()) return;
        if (state === 'broken') {
          stale.set(name, { at: stale.get(name)?.at ?? Date.now(), reason });
          log.warn({ clusterId: key.clusterId, resource: name, reason }, 'a watch is broken');
          return;
        }
        stale.delete(name);
        onFresh();
      },
    }).catch((err) => {
      log.error({ err, clusterId: key.clusterId, resource: name }, 'a watch ended, and is begun again in a minute');
      if (!live()) return;
      stale.set(name, { at: Date.now(), reason: err instanceof Error ? err.message : String(err) });
      cache.replace(kind, [], resource.namespace);
      const again = () => {
        if (!live()) return;
        running.delete(name);
        start(kind, resource);
      };
      setTimeout(again, restartAfterMs).unref();
    });
  };

  const end = (name: string): void => {
    running.get(name)?.abort();
    running.delete(name);
    stale.delete(name);
    unneeded.delete(name);
  };

  let splitApiVersion: string | null = null;
  const scopes = namespaces.length > 0 ? namespaces.map((namespace) => ({ namespace })) : [{}];
  for (const { kind, ...resource } of watchedResources)
    for (const scope of scopes) start(kind, { ...resource, ...scope });

  return {
    cache,
    isFresh: (condition) =>
      kindsOf(condition).every((kind) => !stale.has(`${kind}/`) && !stale.has(`${kind}/${condition.namespace}`)),
    staleSince: () => [...stale.values()].sort((a, b) => a.at - b.at)[0] ?? null,
    watchNamespaces(needed) {
      for (const { kind, ...resource } of perNamespace) {
        for (const name of [...running.keys()]) {
          const [running, namespace = ''] = name.split('/');
          if (running !== kind) continue;
          if (needed[kind].has(namespace)) {
            unneeded.delete(name);
            continue;
          }
          const since = unneeded.get(name) ?? Date.now();
          unneeded.set(name, since);
          if (Date.now() - since < lingerMs) continue;
          end(name);
          cache.replace(kind, [], namespace);
        }
        for (const namespace of needed[kind]) start(kind, { ...resource, namespace });
      }
    },
    watchSplits(apiVersion) {
      if (apiVersion === splitApiVersion) return;
      splitApiVersion = apiVersion;
      const resource = { apiVersion, plural: 'trafficsplits', labelSelector: deploymentKey };
      for (const scope of scopes) {
        end(`TrafficSplit/${'namespace' in scope ? scope.namespace : ''}`);
        start('TrafficSplit', { ...resource, ...scope });
      }
    },
    stop() {
      for (const name of [...running.keys()]) end(name);
    },
  };
}

function kindsOf(condition: Condition): WatchedKind[] {
  switch (condition.kind) {
    case 'endpoints':
    case 'enough':
    case 'starved':
    case 'short':
      return ['Service', 'EndpointSlice', 'Pod'];
    case 'changed':
      return [condition.object.kind];
    case 'unseen':
      return [];
    case 'podsReady':
      return ['Pod'];
    case 'noted':
      return ['ReplicaSet'];
    case 'gone':
      return ['ReplicaSet', 'Pod'];
    case 'noDeployment':
    case 'intruder':
    case 'claimant':
      return ['Deployment'];
    case 'sharer':
      return ['Deployment', 'Service'];
    case 'adopted':
      return ['Deployment', 'ReplicaSet'];
    case 'empty':
      return ['ReplicaSet'];
    case 'noStrangers':
      return ['Service', 'Pod'];
    case 'mesh':
    case 'meshDropped':
      return ['ServiceProfile'];
  }
}
