import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { deploymentKey, fenceKey, hashKey, instanceKey } from '@cdaas/pipeline/marks.ts';
import { type Change, hashOf, type Moment, momentOf, momentsOf, type Recording } from './recorder.ts';

/**
 * The laws of a canary (docs/architecture.md), judged from a recording alone: what the cluster was at every moment, and
 * which requests it got. Each function answers what breaks a law, in words; nothing is good.
 */

export type Expectation = {
  /** Defaults: `web`, `<root>-canary` and the root's name. */
  root?: string;
  canary?: string;
  split?: string;
  /** Pods of the new version. */
  replicas: number;
  end: 'succeeded' | 'rolledBack';
  /** Weights of the canary that the file asks for after a higher one: down to these its share may fall. */
  lowered?: number[];
  /** The file names a canary Service, which exists before and must be as it was in the end. */
  canaryGiven?: boolean;
  /** Pods died by themselves or somebody else wrote: what follows from that is not of our making. */
  disturbed?: boolean;
  /** The root Service is in the file's manifests: what applying adds to it may stay after a success. */
  rootApplied?: boolean;
  /** A worker or the cluster was cut off: a weight may have been asked for twice, and still be stored once. */
  interrupted?: boolean;
};

export function checkLaws(recording: Recording, expected: Expectation): string[] {
  const root = expected.root ?? 'web';
  const names = { root, canary: expected.canary ?? `${root}-canary`, split: expected.split ?? root };
  const run = { recording, expected, names, newHash: newHashOf(recording) };
  return [
    ...checkBlackHoles(run),
    ...checkMonotone(run),
    ...checkConfirmed(run),
    ...checkCreatesAreInert(run),
    ...checkForeignFields(run),
    ...checkRequests(run),
    ...checkEnd(run),
  ];
}

type Run = {
  recording: Recording;
  expected: Expectation;
  names: { root: string; canary: string; split: string };
  newHash: string | null;
};

function newHashOf({ changes }: Recording): string | null {
  const created = changes.find(({ kind, type }) => kind === 'ReplicaSet' && type === 'ADDED');
  return created ? hashOf(created.object) : null;
}

/** Law 1: no weight on a backend without enough ready pods, and no ready pod taken from a backend with weight. */
function checkBlackHoles({ recording, expected, names }: Run): string[] {
  const broken: string[] = [];
  let before: Moment | undefined;
  const start = momentOf(recording.before);
  const readyAtStart = start.readyPods(names.root).length;
  let weights: Weights = null;
  for (const { change, moment } of momentsOf(recording)) {
    const lost = moment.shares(names.root)[''] ?? 0;
    if (lost > 0 && readyAtStart > 0 && !expected.disturbed) {
      broken.push(`law 1: ${lost * 100} % of requests had no pod to go to ${words(change)}`);
    }
    const plain = moment.plainShares(names.root)[''] ?? 0;
    if (plain > 0 && readyAtStart > 0 && !expected.disturbed) {
      broken.push(`law 1: a client without a mesh had no pod to go to ${words(change)}`);
    }
    if (change && before) broken.push(...checkWrite(change, before, moment, weights, names, expected, readyAtStart));
    if (change?.kind === 'TrafficSplit') weights = change.type === 'DELETED' ? null : weightsOf(change.object, names);
    before = moment;
  }
  return broken;
}

type Weights = { stable: number; canary: number } | null;

function checkWrite(
  change: Change,
  before: Moment,
  after: Moment,
  weights: Weights,
  names: Run['names'],
  expected: Expectation,
  readyAtStart: number,
): string[] {
  const inForce = (service: string): boolean => {
    const split = service === names.root ? weights?.stable : service === names.canary ? weights?.canary : 0;
    return (before.meshWeights(names.root)[service] ?? 0) > 0 || (split ?? 0) > 0;
  };
  if (change.kind === 'TrafficSplit' && change.type !== 'DELETED' && !expected.disturbed) {
    const next = weightsOf(change.object, names);
    const was = weights ?? { stable: 100, canary: 0 };
    const ready = { root: before.readyPods(names.root).length, canary: before.readyPods(names.canary).length };
    const raised: string[] = [];
    if (next && next.canary > was.canary && ready.canary < expected.replicas) {
      raised.push(`law 1: weight ${next.canary} for ${ready.canary} of ${expected.replicas} ready pods`);
    }
    if (next && next.stable > was.stable && ready.root < Math.min(readyAtStart, ready.canary)) {
      raised.push(`law 1: weight ${next.stable} given back to ${ready.root} ready old pods`);
    }
    return raised;
  }
  const backends = [names.root, names.canary].filter(inForce);
  if (change.kind === 'Service' && backends.includes(change.object.metadata.name) && change.type !== 'ADDED') {
    const selector = change.type === 'DELETED' ? null : (selectorOf(change.object) ?? null);
    const ready = before.readyPods(change.object.metadata.name);
    const lost = ready.filter((name) => {
      const labels = before.get('Pod', name)?.metadata.labels ?? {};
      return selector === null || Object.entries(selector).some(([key, value]) => labels[key] !== value);
    });
    // A pin that others took out brought pods of the other version in; putting it back takes these out again.
    const isPutBack = expected.disturbed === true && lost.length < ready.length;
    if (lost.length > 0 && !isPutBack) {
      return [
        `law 1: Service ${change.object.metadata.name} lost ${lost.length} ready pods under weight ${words(change)}`,
      ];
    }
  }
  if (change.kind === 'ReplicaSet' && change.type !== 'ADDED') {
    const [had, has] = [replicasOf(change.previous), change.type === 'DELETED' ? 0 : replicasOf(change.object)];
    if (has >= had) return [];
    const hash = hashOf(change.object);
    // Whoever took a pin out let these pods in, while the write that ends them was on its way.
    const isFreed = (service: string) => {
      const found = before.get('Service', service);
      return expected.disturbed === true && found !== undefined && selectorOf(found)?.[hashKey] === undefined;
    };
    return backends
      .filter((service) => !isFreed(service))
      .filter((service) => after.readyPods(service).some((pod) => hashOf(after.get('Pod', pod)) === hash))
      .map((service) => `law 1: ReplicaSet ${change.object.metadata.name} scaled down under the weight of ${service}`);
  }
  return [];
}

/** Law 2: the new version's share never falls but in a roll back, or where the file asks for less. */
function checkMonotone({ recording, expected, names, newHash }: Run): string[] {
  const broken: string[] = [];
  if (newHash === null) return broken;
  const allowed = new Set(expected.lowered ?? []);
  const track = { meshed: 0, plain: 0, intended: 0 };
  let turned = false;
  let split: KubernetesObject | undefined;
  for (const { change, moment } of momentsOf(recording)) {
    if (change?.kind === 'TrafficSplit') split = change.type === 'DELETED' ? undefined : change.object;
    if (change?.kind === 'TrafficSplit' && expected.end === 'rolledBack') {
      const asked = split ? (weightsOf(split, names)?.canary ?? 0) : 0;
      if (asked < track.intended * 100 && !allowed.has(asked)) turned = true;
    }
    const seen = {
      meshed: moment.shares(names.root)[newHash] ?? 0,
      plain: moment.plainShares(names.root)[newHash] ?? 0,
      intended: intendedShare(split, moment, names, newHash),
    };
    for (const key of ['meshed', 'plain', 'intended'] as const) {
      const fell = seen[key] < track[key] - 1e-4;
      const rose = seen[key] > track[key] + 1e-4;
      const asked = allowed.has(Math.round(seen[key] * 100));
      if (fell && !asked && !turned && !expected.disturbed) {
        broken.push(`law 2: ${key} share fell from ${track[key]} to ${seen[key]} ${words(change)}`);
      }
      // The mesh may still take a weight that was written before the way back began.
      if (rose && turned && key === 'intended') {
        broken.push(`law 2: the share rose to ${seen[key]} in a roll back ${words(change)}`);
      }
      track[key] = seen[key];
    }
  }
  return broken;
}

/** By what is written: the split's weights and what the Services select. */
function intendedShare(
  split: KubernetesObject | undefined,
  moment: Moment,
  names: Run['names'],
  newHash: string,
): number {
  const selects = (service: string) => selectorOf(moment.get('Service', service))?.[hashKey] === newHash;
  const weights = split && weightsOf(split, names);
  if (!weights) {
    // Without a pin the root leads to whatever there is: only the new pods, once the old ones are gone.
    const pods = moment.readyPods(names.root);
    return pods.length > 0 && pods.every((pod) => hashOf(moment.get('Pod', pod)) === newHash) ? 1 : 0;
  }
  const total = weights.stable + weights.canary;
  return (
    ((selects(names.root) ? weights.stable : 0) + (selects(names.canary) ? weights.canary : 0)) /
    (total === 0 ? 1 : total)
  );
}

/** Law 3: no weight is written before the mesh has taken the one before it. */
function checkConfirmed({ recording, expected, names }: Run): string[] {
  const broken: string[] = [];
  let last: Weights = null;
  let taken = true;
  let fell = false;
  for (const { change, moment } of momentsOf(recording)) {
    if (!change) continue;
    if (last && !taken) taken = meshHas(moment, names, last);
    if (change.kind !== 'TrafficSplit' || change.type === 'DELETED') continue;
    const next = weightsOf(change.object, names);
    if (!next || (last && next.canary === last.canary)) continue;
    if (last && next.canary < last.canary) fell = true;
    // A roll back does not wait for the weight that it takes back.
    if (!taken && !(fell && expected.end === 'rolledBack')) {
      broken.push(
        `law 3: ${next.stable}/${next.canary} was written before the mesh took ${last?.stable}/${last?.canary}`,
      );
    }
    last = next;
    taken = meshHas(moment, names, next);
  }
  return broken;
}

function meshHas(
  moment: Moment,
  { root, canary }: Run['names'],
  { stable, canary: share }: NonNullable<Weights>,
): boolean {
  const mesh = moment.meshWeights(root);
  return (mesh[root] ?? 0) === stable && (mesh[canary] ?? 0) === share;
}

/** Law 5: what is created has no effect by itself. */
function checkCreatesAreInert({ recording, names }: Run): string[] {
  return recording.changes.flatMap(({ kind, type, object }) => {
    if (type !== 'ADDED' || object.metadata.labels?.[deploymentKey] === undefined) return [];
    if (kind === 'ReplicaSet' && replicasOf(object) > 0)
      return [`law 5: ReplicaSet ${object.metadata.name} was created with pods`];
    if (kind !== 'TrafficSplit') return [];
    const weights = weightsOf(object, names);
    return weights?.stable === 100 && weights.canary === 0
      ? []
      : [`law 5: the TrafficSplit was created with ${JSON.stringify(object.spec)}`];
  });
}

/** Law 5: of the Services that were there before, only the fields that are ours change. */
function checkForeignFields({ recording, expected }: Run): string[] {
  if (expected.disturbed) return [];
  return recording.changes.flatMap((change) => {
    const known = recording.before.get(`${change.kind}/${change.object.metadata.name}`);
    if (change.kind !== 'Service' || !known || known.metadata.uid !== change.object.metadata.uid) return [];
    const [was, is] = [withoutOurs(known), withoutOurs(change.object)];
    return JSON.stringify(was) === JSON.stringify(is)
      ? []
      : [`law 5: Service ${change.object.metadata.name} became ${JSON.stringify(is)}, it was ${JSON.stringify(was)}`];
  });
}

/** A Service without what this project may write on it. */
function withoutOurs({ metadata, spec }: KubernetesObject): unknown {
  const keep = (entries: Record<string, string> | undefined) =>
    Object.entries(entries ?? {})
      .filter(([key]) => key !== deploymentKey && key !== fenceKey && key !== instanceKey)
      .filter(([key]) => !key.startsWith('deploy.armory.io/') && key !== hashKey)
      .sort();
  const { selector, ...rest } = spec as { selector?: Record<string, string> };
  return {
    labels: keep(metadata.labels),
    annotations: keep(metadata.annotations),
    selector: keep(selector),
    rest: sorted(rest),
  };
}

/** One request for each weight; every change of what exists carries its precondition. */
function checkRequests({ recording, expected, names }: Run): string[] {
  const broken: string[] = [];
  const asked = new Map<string, number>();
  for (const { verb, path, body } of recording.writes) {
    const sent = (body ?? {}) as { metadata?: { resourceVersion?: string }; preconditions?: Record<string, string> } & {
      spec?: { backends?: { service: string; weight: number }[] };
    };
    if ((verb === 'patch' || verb === 'update') && !sent.metadata?.resourceVersion) {
      broken.push(`law 5: ${verb} ${path} without a resourceVersion`);
    }
    if (verb === 'delete' && !(sent.preconditions?.uid && sent.preconditions.resourceVersion)) {
      broken.push(`law 5: delete ${path} without uid and resourceVersion`);
    }
    if (verb !== 'patch' || !path.endsWith(`/trafficsplits/${names.split}`)) continue;
    const weights = (sent.spec?.backends ?? []).map(({ weight }) => weight).join('/');
    asked.set(weights, (asked.get(weights) ?? 0) + 1);
  }
  const written = weightsWritten(recording, names);
  for (const weights of new Set(written)) {
    const times = written.filter((entry) => entry === weights).length;
    const requests = asked.get(weights) ?? 0;
    if (requests > times && !expected.interrupted && recording.writes.length > 0) {
      broken.push(`one request per weight: ${weights} was asked for ${requests} times and stored ${times} times`);
    }
  }
  const repeated = written.filter((weights, index) => weights === written[index - 1]);
  // A roll back writes 100/0 even where it stands, to refuse what may still be on its way.
  const mayRepeat = expected.end === 'rolledBack' ? ['100/0'] : [];
  for (const weights of repeated)
    if (!mayRepeat.includes(weights)) broken.push(`the weights ${weights} were written again`);
  return broken;
}

/** The weights of the split as stored, in order, `100/0` of its creation first. */
export function weightsWritten(recording: Recording, names = { root: 'web', canary: 'web-canary' }): string[] {
  return recording.changes.flatMap((change) => {
    if (change.kind !== 'TrafficSplit' || change.type === 'DELETED') return [];
    const weights = weightsOf(change.object, names);
    return weights ? [`${weights.stable}/${weights.canary}`] : [];
  });
}

/** Law 5: in the end everything is as before, but for the version that runs. */
function checkEnd({ recording, expected, names, newHash }: Run): string[] {
  const broken: string[] = [];
  const end = [...momentsOf(recording)].at(-1)?.moment ?? momentOf(recording.before);
  const start = momentOf(recording.before);
  if (end.objects('TrafficSplit').length > 0) broken.push('end: a TrafficSplit is left');
  if (!expected.canaryGiven && end.get('Service', names.canary)) broken.push('end: the canary Service is left');
  if (Object.keys(end.meshWeights(names.root)).length > 1) broken.push('end: the mesh still splits traffic');
  const services = [names.root, ...(expected.canaryGiven ? [names.canary] : [])];
  for (const service of services) {
    const [was, is] = [start.get('Service', service), end.get('Service', service)];
    if (!was || !is) {
      if (!is) broken.push(`end: Service ${service} is gone`);
      continue;
    }
    const exactly = ({ metadata, spec }: KubernetesObject) => {
      const kept = expected.end === 'succeeded' && (expected.rootApplied ?? true);
      const annotations = Object.entries(metadata.annotations ?? {}).filter(
        ([key]) => !kept || !key.startsWith('deploy.armory.io/'),
      );
      return JSON.stringify(
        sorted({ labels: metadata.labels ?? {}, annotations: Object.fromEntries(annotations), spec }),
      );
    };
    if (exactly(was) !== exactly(is)) broken.push(`end: Service ${service} is ${exactly(is)}, it was ${exactly(was)}`);
  }
  const replicaSets = end.objects('ReplicaSet');
  const [one] = replicaSets;
  if (replicaSets.length !== 1 || !one) {
    broken.push(`end: ${replicaSets.length} ReplicaSets are left: ${replicaSets.map(({ metadata }) => metadata.name)}`);
  } else if ((hashOf(one) === newHash) !== (expected.end === 'succeeded')) {
    broken.push(`end: the wrong version is left: ${one.metadata.name}`);
  }
  return broken;
}

function weightsOf(split: KubernetesObject, names: { root: string; canary: string }): Weights {
  const backends = (split.spec as { backends?: { service: string; weight: number | string }[] }).backends ?? [];
  const of = (service: string) => Number(backends.find((backend) => backend.service === service)?.weight);
  const weights = { stable: of(names.root), canary: of(names.canary) };
  return Number.isNaN(weights.stable + weights.canary) ? null : weights;
}

function selectorOf(service: KubernetesObject | undefined): Record<string, string> | undefined {
  return (service?.spec as { selector?: Record<string, string> } | undefined)?.selector;
}

function replicasOf(object: KubernetesObject | undefined): number {
  return (object?.spec as { replicas?: number } | undefined)?.replicas ?? 0;
}

function words(change: Change | null | undefined): string {
  return change
    ? `(after ${change.kind} ${change.object.metadata.name} was ${change.type}, version ${change.version})`
    : '';
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, entry]) => [key, sorted(entry)]),
  );
}
