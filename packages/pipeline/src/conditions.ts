import { assertNever } from './assert-never.ts';
import { changedConditions, evaluateChanged } from './changed.ts';
import { claimGuards } from './deployment-claims.ts';
import { evaluateDeployment } from './deployment-conditions.ts';
import { deploymentGuards } from './deployment-object.ts';
import {
  type Condition,
  type DeploymentState,
  type HeldKind,
  isFinal,
  type Sighted,
  type Weights,
} from './deployment-state.ts';
import { entryAt } from './entry-at.ts';
import type { KubernetesObject } from './kubernetes.ts';
import { hashKey } from './marks.ts';
import { currentInstruction } from './moves.ts';
import { type Pair, pairsOf } from './pairs.ts';
import { isPastReturn } from './programme.ts';
import { meshWeights, sameWeights } from './traffic/smi.ts';

/** What the watches of a cluster know, by namespace. */
export type ClusterView = {
  /** The resourceVersion up to which all changes of objects of a kind show; null where they do up to now. */
  shownUpTo(kind: HeldKind, namespace: string): string | null;
  service(namespace: string, name: string): KubernetesObject | undefined;
  /** The EndpointSlices of a Service. */
  endpointSlices(namespace: string, service: string): KubernetesObject[];
  /** The pods whose hash label has that value. */
  pods(namespace: string, hash: string): KubernetesObject[];
  replicaSet(namespace: string, name: string): KubernetesObject | undefined;
  /** Why the ReplicaSet of these pods gets no more of them; undefined where it does. */
  replicaFailure?(namespace: string, hash: string): string | undefined;
  trafficSplit(namespace: string, name: string): KubernetesObject | undefined;
  deployment(namespace: string, name: string): KubernetesObject | undefined;
  deployments(namespace: string): KubernetesObject[];
  /** All pods, those without a mark of ours too; absent where they are not known. */
  everyPod?(namespace: string): KubernetesObject[];
  /** Linkerd's ServiceProfile of a Service: the one named `<service>.<namespace>.svc.<cluster domain>`. */
  serviceProfile(namespace: string, service: string): KubernetesObject | undefined;
  /** Since when and why this view is out of date, in words; null where it is not. */
  unseen?(): string | null;
};

/**
 * What was seen, in words; `object`: of a condition on one object, the version of that in which it holds; `seen`: see
 * Observation.
 */
export type Sight = { holds: boolean; detail: string; object?: Sighted; seen?: string };

/** Whether a sight tells a deployment anything, given what it was told of the same condition last. */
export function isTurn(told: { holds: boolean; seen?: string } | undefined, sight: Sight): boolean {
  if (!told) return sight.holds;
  return told.holds !== sight.holds || (sight.holds && (sight.seen ?? '') !== (told.seen ?? ''));
}

/** All that a deployment must be told of: what it waits for now, and its guards. */
export function activeConditions(state: DeploymentState): Condition[] {
  if (isFinal(state.status) || state.startedAt === null) return [];
  const instruction = currentInstruction(state);
  const waitsFor = instruction.kind === 'wait' ? [instruction.condition] : [];
  const unseen: Condition = { key: unseenGuard, namespace: state.outline.namespace, kind: 'unseen' };
  return [...waitsFor, ...guardConditions(state), unseen];
}

/** Told on both ways and past the point of no return; nothing but words follows from it. */
export const unseenGuard = 'guard.unseen';

/**
 * What may go wrong with a route while the versions share traffic (design.md, law 1): `old`, the old version has traffic
 * but no ready pod; `starved`, the same of the new one; `short`, the new one has fewer ready pods than asked for.
 * `deployment`: of a workload, see `deploymentGuards`; `claimant` and `sharer`: see `claimGuards`. `changed`, for as long
 * as the run holds an object: it is not as the run left it.
 */
export type Guard = 'old' | 'starved' | 'short' | 'deployment' | 'claimant' | 'sharer' | 'changed';

export function isGuard(key: string, guard: Guard): boolean {
  return key.startsWith(`guard.${guard}.`);
}

export function guardConditions(state: DeploymentState): Condition[] {
  const always = [...deploymentGuards(state), ...claimGuards(state), ...changedConditions(state)];
  if (state.track === 'rollBack' || isPastReturn(state)) return always;
  return [...pairsOf(state).flatMap((pair) => guardsOf(state, pair)), ...always];
}

function guardsOf(state: DeploymentState, { index, route, replicas, hash, old }: Pair): Condition[] {
  const { namespace } = state.outline;
  const { weights } = entryAt(state.routes, index);
  const key = (guard: Guard) => `guard.${guard}.${index}`;
  const guards: Condition[] = [];
  if (state.objects[`split.${index}`] !== undefined || state.at.startsWith('S6.create.')) {
    // The old version has traffic: if it was well at the start, somebody must hear when it has no pods left.
    if (old.ready > 0 && (weights?.stable ?? 100) > 0) {
      guards.push({ key: key('old'), kind: 'starved', namespace, service: route.rootServiceName, hash: old.hash });
    }
    const canary = { namespace, service: route.canaryServiceName, hash };
    if ((weights?.canary ?? 0) > 0) guards.push({ key: key('starved'), kind: 'starved', ...canary });
    guards.push({ key: key('short'), kind: 'short', ready: replicas, ...canary });
  }
  return guards;
}

/** Whether a condition holds, and what was seen in words. */
export function evaluate(condition: Condition, view: ClusterView): Sight {
  const { namespace } = condition;
  switch (condition.kind) {
    case 'endpoints': {
      const seen = endpointsOf(view, namespace, condition.service, condition.hash);
      const pods = livePods(view, namespace, condition.hash);
      // The Service as watched must already select these pods: an older view would show its endpoints of before.
      const pinned = selectorOf(view.service(namespace, condition.service))?.[hashKey] === condition.hash;
      // A pod that is not ready need not be listed: one that was never scheduled has no address.
      const listed = pods.every((pod) => !isReady(pod) || seen.pods.has(pod.metadata.name));
      const exact = condition.amongOthers === true || (pinned && seen.foreign === 0 && listed);
      const enough = condition.ready === null || seen.ready >= condition.ready;
      const words = `${seen.ready} of ${condition.ready ?? pods.length} pods ready behind Service ${condition.service}`;
      return { holds: exact && enough, detail: withTrouble(words, view, namespace, condition.hash) };
    }
    case 'enough': {
      const old = endpointsOf(view, namespace, condition.service, condition.hash).ready;
      const other = endpointsOf(view, namespace, condition.other.service, condition.other.hash).ready;
      return {
        holds: old >= condition.atLeast || old >= other,
        detail: `${old} old pods ready behind Service ${condition.service}, ${condition.atLeast} when the deployment began, ${other} new ones`,
      };
    }
    case 'podsReady': {
      const ready = livePods(view, namespace, condition.hash).filter(isReady).length;
      const words = `${ready} of ${condition.ready} pods ready`;
      return { holds: ready >= condition.ready, detail: withTrouble(words, view, namespace, condition.hash) };
    }
    case 'gone':
      return evaluateGone(condition, view);
    case 'noted': {
      const replicaSet = view.replicaSet(namespace, condition.replicaSet);
      const holds = replicaSet !== undefined && isNoted(replicaSet);
      const words = `${holds ? 'is' : 'is not yet'} known to its controller`;
      return { holds, detail: `ReplicaSet ${condition.replicaSet} ${words}`, ...(holds ? sighted(replicaSet) : {}) };
    }
    case 'mesh': {
      const taken = meshWeights(view.serviceProfile(namespace, condition.root), condition.root, condition.canary);
      const dropped = condition.orNone === true && overridesOf(view, condition).length === 0;
      return { holds: dropped || sameWeights(condition.weights, taken), detail: meshWords(taken) };
    }
    case 'meshDropped': {
      const holds = overridesOf(view, condition).length === 0;
      const words = holds ? 'the mesh dropped the split' : 'the mesh still has the last weights';
      return { holds, detail: `${words} of Service ${condition.root}` };
    }
    case 'changed':
      return evaluateChanged(condition, view);
    case 'unseen': {
      const words = view.unseen?.() ?? null;
      return { holds: words !== null, detail: words ?? 'the cluster is seen again' };
    }
    case 'starved': {
      const { ready } = endpointsOf(view, namespace, condition.service, condition.hash);
      const words = `${ready === 0 ? 'no' : ready} ready pods behind Service ${condition.service}`;
      return { holds: ready === 0, detail: withTrouble(words, view, namespace, condition.hash) };
    }
    case 'short': {
      const { ready } = endpointsOf(view, namespace, condition.service, condition.hash);
      const words = `${ready} of ${condition.ready} new pods ready`;
      return { holds: ready < condition.ready, detail: withTrouble(words, view, namespace, condition.hash) };
    }
    case 'noDeployment':
    case 'intruder':
    case 'claimant':
    case 'sharer':
    case 'noStrangers':
    case 'empty':
    case 'adopted':
      return evaluateDeployment(condition, view);
    default:
      return assertNever(condition);
  }
}

function evaluateGone(condition: Extract<Condition, { kind: 'gone' }>, view: ClusterView) {
  const replicaSet = view.replicaSet(condition.namespace, condition.replicaSet);
  const status = replicaSet?.status as { replicas?: number } | undefined;
  const spec = replicaSet?.spec as { replicas?: number } | undefined;
  const scaled = !replicaSet || (spec?.replicas === 0 && isNoted(replicaSet) && (status?.replicas ?? 0) === 0);
  const left = livePods(view, condition.namespace, condition.hash).length;
  const detail = `${left} pods of ReplicaSet ${condition.replicaSet} left`;
  const holds = scaled && left === 0;
  return { holds, detail, ...(holds ? sighted(replicaSet) : {}) };
}

/** Whether an object's controller has seen it as it is now. */
function isNoted({ metadata, status }: KubernetesObject): boolean {
  const { observedGeneration = 0 } = (status as { observedGeneration?: number } | undefined) ?? {};
  return observedGeneration >= (metadata.generation ?? 0);
}

function sighted(object: KubernetesObject | undefined): { object?: Sighted } {
  const { uid, resourceVersion } = object?.metadata ?? {};
  return uid === undefined || resourceVersion === undefined ? {} : { object: { uid, resourceVersion } };
}

/** The endpoints of a Service that are not terminating, told apart by the hash label of the pods behind them. */
function endpointsOf(view: ClusterView, namespace: string, service: string, hash: string) {
  const ours = new Set(view.pods(namespace, hash).map((pod) => pod.metadata.name));
  const live = new Set(livePods(view, namespace, hash).map((pod) => pod.metadata.name));
  const pods = new Set<string>();
  const readyPods = new Set<string>();
  let foreign = 0;
  for (const slice of view.endpointSlices(namespace, service)) {
    for (const endpoint of (slice.endpoints as Endpoint[] | null | undefined) ?? []) {
      if (endpoint.conditions?.terminating === true) continue;
      const pod = endpoint.targetRef?.name;
      if (pod === undefined || !ours.has(pod)) {
        foreign += 1;
        continue;
      }
      pods.add(pod);
      // A slice that lags behind may still call a pod ready that is on its way out.
      if (endpoint.conditions?.ready !== false && live.has(pod)) readyPods.add(pod);
    }
  }
  return { pods, ready: readyPods.size, foreign };
}

/** discovery.k8s.io/v1 Endpoint, the part used here. Absent `ready` means true. */
type Endpoint = {
  conditions?: { ready?: boolean; terminating?: boolean };
  targetRef?: { kind?: string; name?: string };
};

function livePods(view: ClusterView, namespace: string, hash: string): KubernetesObject[] {
  return view.pods(namespace, hash).filter(isLive);
}

/** A pod that ended, or is on its way out, is no longer one of its ReplicaSet's replicas. */
export function isLive(pod: KubernetesObject): boolean {
  const phase = (pod.status as { phase?: string } | undefined)?.phase;
  return pod.metadata.deletionTimestamp === undefined && phase !== 'Succeeded' && phase !== 'Failed';
}

export function isReady(pod: KubernetesObject): boolean {
  const conditions = (pod.status as { conditions?: { type: string; status: string }[] } | undefined)?.conditions ?? [];
  return conditions.some(({ type, status }) => type === 'Ready' && status === 'True');
}

/** Adds why pods are not ready, in Kubernetes' own words: `ImagePullBackOff` says more than `0 of 3`. */
function withTrouble(words: string, view: ClusterView, namespace: string, hash: string): string {
  const reasons = new Map<string, number>();
  for (const pod of livePods(view, namespace, hash)) {
    if (isReady(pod)) continue;
    const reason = waitingReason(pod);
    if (reason !== undefined) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  }
  const refused = view.replicaFailure?.(namespace, hash);
  const told = [...[...reasons].map(([reason, count]) => `${count} ${reason}`), ...(refused ? [refused] : [])];
  return told.length === 0 ? words : `${words} (${told.join(', ')})`;
}

function waitingReason(pod: KubernetesObject): string | undefined {
  type ContainerStatus = {
    state?: { waiting?: { reason?: string } };
    lastState?: { terminated?: { exitCode?: number } };
  };
  type Condition = { type: string; status: string; reason?: string };
  const status = pod.status as
    | { phase?: string; containerStatuses?: ContainerStatus[]; conditions?: Condition[] }
    | undefined;
  const waiting = status?.containerStatuses?.find(({ state }) => state?.waiting?.reason);
  const reason = waiting?.state?.waiting?.reason;
  // The back-off is Kubernetes' doing; how the container ended says more of why.
  const exitCode = waiting?.lastState?.terminated?.exitCode;
  if (reason === 'CrashLoopBackOff' && exitCode !== undefined) return `in ${reason} exit code ${exitCode}`;
  if (reason !== undefined) return `in ${reason}`;
  const unscheduled = status?.conditions?.find(
    ({ type, status: value }) => type === 'PodScheduled' && value === 'False',
  );
  if (unscheduled?.reason !== undefined) return `in ${unscheduled.reason}`;
  // Its probe says no, or has not been asked yet.
  return status?.phase === 'Running' ? 'running, not ready' : undefined;
}

function overridesOf(view: ClusterView, { namespace, root }: { namespace: string; root: string }): unknown[] {
  const spec = view.serviceProfile(namespace, root)?.spec as { dstOverrides?: unknown[] } | undefined;
  return spec?.dstOverrides ?? [];
}

function meshWords(taken: Weights | null): string {
  return taken === null ? 'the mesh has no weights for this Service' : `the mesh has ${taken.stable}/${taken.canary}`;
}

function selectorOf(service: KubernetesObject | undefined): Record<string, string> | undefined {
  return (service?.spec as { selector?: Record<string, string> } | undefined)?.selector;
}
