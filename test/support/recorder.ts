import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { hashKey } from '@cdaas/pipeline/marks.ts';
import type { ClusterClient, Kind } from './cluster-client.ts';

/**
 * What happened in one namespace, from watches of the cluster's own API. A cluster counts all its changes with one
 * resourceVersion, so that the changes of all kinds, put in that order, say what the cluster was at every moment.
 */

export const recordedKinds = [
  'Service',
  'EndpointSlice',
  'Pod',
  'ReplicaSet',
  'Deployment',
  'TrafficSplit',
  'ServiceProfile',
] as const satisfies Kind[];
export type RecordedKind = (typeof recordedKinds)[number];

export type Change = {
  version: number;
  kind: RecordedKind;
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  object: KubernetesObject;
  previous: KubernetesObject | undefined;
};

/** A request of the control plane that changes something, as the cluster got it. `at`: milliseconds since the epoch. */
export type SentWrite = { verb: string; path: string; body: unknown; at: number };

export type Recording = {
  namespace: string;
  before: ReadonlyMap<string, KubernetesObject>;
  changes: Change[];
  writes: SentWrite[];
};

export type Recorder = {
  /** The cluster as the watches know it now. */
  now(): Moment;
  /** Waits until the cluster, as watched, is such. */
  until(what: string, holds: (moment: Moment) => boolean, timeoutMs?: number): Promise<Moment>;
  writes: SentWrite[];
  /** Waits until the watches have delivered everything, and ends them. */
  stop(): Promise<Recording>;
};

export async function startRecorder(client: ClusterClient, namespace: string): Promise<Recorder> {
  const before = new Map<string, KubernetesObject>();
  const changes: Omit<Change, 'previous'>[] = [];
  const current = new Map<string, KubernetesObject>();
  const waiting = new Set<() => void>();
  const writes: SentWrite[] = [];
  const watches = await Promise.all(
    recordedKinds.map(async (kind) => {
      const listed = await client.list(kind, namespace);
      for (const object of listed.objects) {
        before.set(idOf(kind, object), object);
        current.set(idOf(kind, object), object);
      }
      return client.watch(kind, namespace, listed, ({ type, object }) => {
        changes.push({ version: Number(object.metadata.resourceVersion), kind, type, object });
        if (type === 'DELETED') current.delete(idOf(kind, object));
        else current.set(idOf(kind, object), object);
        for (const look of waiting) look();
      });
    }),
  );

  const until: Recorder['until'] = (what, holds, timeoutMs = 20_000) =>
    new Promise((resolve, reject) => {
      const look = () => {
        const moment = momentOf(current);
        if (!holds(moment)) return;
        clearTimeout(timer);
        waiting.delete(look);
        resolve(moment);
      };
      const timer = setTimeout(() => {
        waiting.delete(look);
        reject(new Error(`not seen in ${namespace} within ${timeoutMs} ms: ${what}`));
      }, timeoutMs);
      waiting.add(look);
      look();
    });

  return {
    now: () => momentOf(current),
    until,
    writes,
    async stop() {
      for (const kind of recordedKinds) {
        const { objects, resourceVersion } = await client.list(kind, namespace);
        const listed = new Map(objects.map((object) => [object.metadata.name, versionOf(object)]));
        const later = (name: string, version: number) =>
          changes.some((change) => change.object.metadata.name === name && change.version >= version);
        await until(`every change of ${kind}`, (moment) => {
          const stale = moment.objects(kind).some(({ metadata }) => {
            return !listed.has(metadata.name) && Number(metadata.resourceVersion) <= Number(resourceVersion);
          });
          const behind = [...listed].some(([name, version]) => {
            const known = moment.get(kind, name);
            return known ? versionOf(known) < version : !later(name, version);
          });
          return !stale && !behind;
        });
      }
      for (const watch of watches) watch.close();
      const sorted = changes.toSorted((a, b) => a.version - b.version);
      const seen = new Map(before);
      const complete = sorted.map((change): Change => {
        const id = idOf(change.kind, change.object);
        const previous = seen.get(id);
        if (change.type === 'DELETED') seen.delete(id);
        else seen.set(id, change.object);
        return { ...change, previous };
      });
      return { namespace, before, changes: complete, writes };
    },
  };
}

function versionOf({ metadata }: KubernetesObject): number {
  return Number(metadata.resourceVersion);
}

function idOf(kind: string, { metadata }: KubernetesObject): string {
  return `${kind}/${metadata.name}`;
}

/** The cluster at one moment. Hashes are values of the label that tells versions apart. */
export type Moment = {
  get(kind: RecordedKind, name: string): KubernetesObject | undefined;
  objects(kind: RecordedKind): KubernetesObject[];
  /** Where a meshed client's requests to a root Service go: shares of 1 by version; `''` goes to no ready pod. */
  shares(root: string): Record<string, number>;
  /** Where the requests of a client without a mesh go. */
  plainShares(root: string): Record<string, number>;
  /** Weights that the mesh follows, by Service; the root Service alone where nothing is split. */
  meshWeights(root: string): Record<string, number>;
  /** Names of the ready pods behind a Service. */
  readyPods(service: string): string[];
};

/** The moments of a recording: before the first change, and after each. */
export function* momentsOf({ before, changes }: Recording): Generator<{ change: Change | null; moment: Moment }> {
  let current = new Map(before);
  yield { change: null, moment: momentOf(current) };
  for (const change of changes) {
    // Those who hold on to the moment before must not see it change.
    current = new Map(current);
    const id = idOf(change.kind, change.object);
    if (change.type === 'DELETED') current.delete(id);
    else current.set(id, change.object);
    yield { change, moment: momentOf(current) };
  }
}

export function momentOf(current: ReadonlyMap<string, KubernetesObject>): Moment {
  const get = (kind: RecordedKind, name: string) => current.get(`${kind}/${name}`);
  const objects = (kind: RecordedKind) =>
    [...current.entries()].filter(([id]) => id.startsWith(`${kind}/`)).map(([, object]) => object);

  const readyPods = (service: string): string[] => {
    const names = new Set<string>();
    for (const slice of objects('EndpointSlice')) {
      if (slice.metadata.labels?.['kubernetes.io/service-name'] !== service) continue;
      for (const { conditions, targetRef } of (slice.endpoints ?? []) as Endpoint[]) {
        if (conditions.ready && targetRef && get('Pod', targetRef.name)) names.add(targetRef.name);
      }
    }
    return [...names];
  };

  const meshWeights = (root: string): Record<string, number> => {
    const profile = objects('ServiceProfile').find(({ metadata }) => metadata.name.startsWith(`${root}.`));
    const overrides = (profile?.spec as { dstOverrides?: { authority: string; weight: string }[] } | undefined)
      ?.dstOverrides;
    if (!overrides?.length) return { [root]: 1 };
    return Object.fromEntries(overrides.map(({ authority, weight }) => [authority.split('.')[0], Number(weight)]));
  };

  const sharesOf = (weights: Record<string, number>): Record<string, number> => {
    const total = Object.values(weights).reduce((sum, weight) => sum + weight, 0);
    const shares: Record<string, number> = {};
    const add = (hash: string, share: number) => {
      shares[hash] = (shares[hash] ?? 0) + share;
    };
    for (const [service, weight] of Object.entries(weights)) {
      if (weight === 0) continue;
      const pods = readyPods(service);
      if (pods.length === 0) add('', weight / total);
      for (const pod of pods) add(hashOf(get('Pod', pod)), weight / total / pods.length);
    }
    return Object.fromEntries(Object.entries(shares).map(([hash, share]) => [hash, round(share)]));
  };

  return {
    get,
    objects,
    readyPods,
    meshWeights,
    shares: (root) => sharesOf(meshWeights(root)),
    plainShares: (root) => sharesOf({ [root]: 1 }),
  };
}

type Endpoint = { conditions: { ready?: boolean }; targetRef?: { name: string } };

export function hashOf(object: KubernetesObject | undefined): string {
  return object?.metadata.labels?.[hashKey] ?? 'none';
}

function round(share: number): number {
  return Math.round(share * 1e6) / 1e6;
}

/** The fewest pods labelled `app: <app>` that were ready at any moment. */
export function fewestReady(recording: Recording, app = 'web'): number {
  let fewest = Number.POSITIVE_INFINITY;
  for (const { moment } of momentsOf(recording)) {
    const ready = moment.objects('Pod').filter(({ metadata, status }) => {
      const { conditions = [] } = (status ?? {}) as { conditions?: { type: string; status: string }[] };
      const isReady = conditions.some(({ type, status: is }) => type === 'Ready' && is === 'True');
      return metadata.labels?.app === app && metadata.deletionTimestamp === undefined && isReady;
    });
    fewest = Math.min(fewest, ready.length);
  }
  return fewest;
}
