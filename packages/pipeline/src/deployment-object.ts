import { heldByClaim } from './deployment-claims.ts';
import type {
  Condition,
  DeploymentState,
  FoundDeployment,
  ObjectFacts,
  OldVersion,
  Survey,
} from './deployment-state.ts';
import { entryAt } from './entry-at.ts';
import { isRecord } from './is-record.ts';
import type { KubernetesObject } from './kubernetes.ts';
import { keysOf, type LabelSelector } from './label-selector.ts';
import { deploymentKey, hashKey } from './marks.ts';

/** What a run knows of Deployment objects: those it takes over, those it keeps, and those that others put beside it. */

/** Label that the Deployment controller adds to what it makes. */
const templateHashLabel = 'pod-template-hash';

export type FreedReplicaSet = FoundDeployment['replicaSets'][number] & { workload: number };

/** The ReplicaSets that the Deployment objects of a target leave behind, in the order of their slots. */
export function freedReplicaSets(survey: Survey | null): FreedReplicaSet[] {
  return (survey?.workloads ?? []).flatMap(({ deployment }, workload) =>
    (deployment?.replicaSets ?? []).map((replicaSet) => ({ ...replicaSet, workload })),
  );
}

/** Labels of a ReplicaSet beside our own, null where there are none. */
export function labelsBeside({ metadata }: KubernetesObject): Record<string, string> | null {
  const { [deploymentKey]: _run, [hashKey]: _hash, ...labels } = metadata.labels ?? {};
  return Object.keys(labels).length > 0 ? labels : null;
}

/**
 * Labels of a ReplicaSet by which a Deployment like the one that it was made from would take it for its own, null where
 * there are none. What a webhook or a person put on it beside these is theirs, and stays.
 */
export function claimedBy(replicaSet: KubernetesObject): Record<string, string> | null {
  const { selector } = (replicaSet.spec as { selector?: LabelSelector } | undefined) ?? {};
  const keys = keysOf(selector);
  const labels = Object.entries(labelsBeside(replicaSet) ?? {}).filter(([key]) => keys.includes(key));
  return labels.length > 0 ? Object.fromEntries(labels) : null;
}

/** The same labels, as a change that takes them off. */
export function takenOff({ labels = {} }: OldVersion): Record<string, null> {
  return Object.fromEntries(Object.keys(labels).map((key) => [key, null]));
}

/** What a Deployment asks for, as a short text to compare: neither its number of pods nor whether it is paused counts. */
export function formOfDeployment(deployment: KubernetesObject): string {
  const { replicas: _pods, paused: _rest, ...spec } = isRecord(deployment.spec) ? deployment.spec : {};
  return fingerprint(JSON.stringify(sorted(spec)));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isRecord(value)) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, entry]) => [key, sorted(entry)]));
}

/** 64 bits of FNV-1a in two halves: tells two texts apart, and says nothing of what is in them. */
function fingerprint(text: string): string {
  let low = 0x811c9dc5;
  let high = 0x01000193;
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    low = Math.imul(low ^ code, 0x01000193);
    high = Math.imul(high ^ (code + index), 0x85ebca6b);
  }
  return [low, high].map((half) => (half >>> 0).toString(16).padStart(8, '0')).join('');
}

/** The template of a ReplicaSet as a Deployment's that takes it for its newest. */
export function templateFor(replicaSet: KubernetesObject): Record<string, unknown> {
  const { template = {} } = replicaSet.spec as { template?: Record<string, unknown> & { metadata?: ObjectMeta } };
  const { [templateHashLabel]: _, ...labels } = template.metadata?.labels ?? {};
  return { ...template, metadata: { ...template.metadata, labels } };
}

type ObjectMeta = { labels?: Record<string, string> };

/**
 * Whether somebody made a Deployment object of a workload's name beside the run. Its controller takes nothing of ours, but
 * starts pods that the user's Services select: behind a pinned Service they get no traffic, behind a free one their share.
 */
export function deploymentGuards(state: DeploymentState): Condition[] {
  const { survey, outline } = state;
  if (survey === null || state.at === 'P.survey') return [];
  return outline.workloads.flatMap(({ name }, index): Condition[] => {
    // Once it is made, the Deployment object is the run's own.
    const own = state.objects[`deployment.${index}`];
    const uid = (own?.made === 'created' ? own.uid : survey.workloads[index]?.deployment?.uid) ?? null;
    const asked = { kind: 'intruder', deployment: name, uid, run: state.id } as const;
    return [{ key: `guard.deployment.${index}`, namespace: outline.namespace, ...asked }];
  });
}

export function intruderOf(state: DeploymentState, workload: number) {
  const seen = state.observed[`guard.deployment.${workload}`];
  return seen?.holds ? seen : null;
}

/**
 * What a run does not do while somebody's Deployment stands beside it: look for the ground to begin on, set root free,
 * make a Deployment object of its own, and end. Weights and F2 are held like by any other guard. One of another name is in
 * the way of less (`heldByClaim`).
 */
export function heldByDeployment(state: DeploymentState, { id }: { id: string }): Condition | null {
  const claim = heldByClaim(state, id);
  if (claim !== null || state.track === 'rollBack') return claim;
  if (!/^(S1\.survey$|F7\.unpin\.|F8\.(create|label)\.|end$)/.test(id)) return null;
  return deploymentGuards(state).find(({ key }) => state.observed[key]?.holds) ?? null;
}

/** How long until pods of somebody's Deployment that is gone are looked for again. */
export const strangersSeconds = 5;

/**
 * After somebody's Deployment is gone its pods may live on, for a moment or because it was removed without them: before root
 * is free for them the cluster is asked, and at the end wherever a Deployment was taken over. Watches do not tell, because
 * these pods carry no mark of ours.
 */
export function strangersToLookFor(state: DeploymentState, { id }: { id: string }): Condition | null {
  const { outline, survey, hashes, observed } = state;
  if (state.track === 'rollBack' || !/^(F7\.unpin\.|end$)/.test(id)) return null;
  const routes = outline.routes.map(({ rootServiceName: service }, index): Condition | null => {
    const workload = survey?.pairs[index] ?? 0;
    const key = `strangers.${index}`;
    const hash = entryAt(hashes, workload);
    const isTakenOver = survey?.workloads[workload]?.mode === 'adopt';
    if ((!isTakenOver && observed[`guard.deployment.${workload}`] === undefined) || observed[key]?.holds) return null;
    return { key, kind: 'noStrangers', namespace: outline.namespace, service, hash };
  });
  return routes.find((condition) => condition !== null) ?? null;
}

/** Pods that were looked for, and are still there. */
export function strangersSeen({ observed }: DeploymentState): string[] {
  return Object.entries(observed).flatMap(([key, { holds, detail }]) =>
    key.startsWith('strangers.') && !holds ? [detail] : [],
  );
}

/** A Deployment came or went: what was known of its pods says nothing any more. */
export function forgetStrangers(state: DeploymentState, guard: string): void {
  if (!guard.startsWith('guard.deployment.')) return;
  for (const key of Object.keys(state.observed)) if (key.startsWith('strangers.')) delete state.observed[key];
}

/** How people remove a Deployment that stands beside a run, with the pods that it brought. */
export function removalLine(name: string, namespace: string): string {
  return `kubectl delete deployment ${name} -n ${namespace}`;
}

/** What a roll back leaves of a Deployment that others made: with the pin gone its pods get traffic. */
export function intruderLines(state: DeploymentState): string[] {
  const { outline } = state;
  return outline.workloads.flatMap(({ name }, index) => {
    const seen = intruderOf(state, index);
    if (seen === null) return [];
    const line = removalLine(name, outline.namespace);
    return [
      `Deployment ${name} was made by somebody else, and its pods get traffic beside the previous version: ${line}`,
    ];
  });
}

/** What others changed in a Deployment since the preflight; null where it asks for the same. */
export function changedWords(
  { name, namespace }: { name: string; namespace: string },
  known: FoundDeployment,
  now: Pick<ObjectFacts, 'form' | 'manager'>,
): string | null {
  if (now.form === known.form) return null;
  return `Deployment ${name} was changed by ${now.manager ?? 'somebody'} while it was being taken over; put it back as it was, or remove it with its pods: ${removalLine(name, namespace)}`;
}

/** A Deployment that a run made over its ReplicaSet asks for other pods than that. */
export function reshapedWords({ name, namespace }: { name: string; namespace: string }, manager = 'somebody'): string {
  return `Deployment ${name} was changed by ${manager} and asks for other pods than those that run; put it back, or have it made anew: kubectl delete deployment ${name} -n ${namespace} --cascade=orphan`;
}

/** The pods that a ReplicaSet or a Deployment asks for, as a short text to compare. */
export function formOfTemplate(object: KubernetesObject): string {
  return fingerprint(JSON.stringify(sorted(templateFor(object))));
}
