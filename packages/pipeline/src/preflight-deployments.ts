import { isLive } from './conditions.ts';
import { formOfDeployment, removalLine } from './deployment-object.ts';
import type { FoundDeployment } from './deployment-state.ts';
import { entryAt } from './entry-at.ts';
import { managerOf } from './field-managers.ts';
import type { KubernetesObject } from './kubernetes.ts';
import { type LabelSelector, matchesSelector } from './label-selector.ts';
import { annotationKeys, deploymentKey, hashKey } from './marks.ts';
import { keptLabelsOf, type Workload } from './plan.ts';
import { checkAutoscalers, type Look, type Versions, warnOfScale } from './preflight-look.ts';

/** The rows of a preflight about Deployment objects (design.md, "ReplicaSets and adoption"). */

type Found = {
  workload: Workload;
  labels: Record<string, string>;
  /** ReplicaSets of ours, with pods if there are such. */
  previous: KubernetesObject[];
  deployment: KubernetesObject;
};

/**
 * What runs of a workload that a Deployment object stands for. One that an earlier run kept, with a single version behind
 * it, is that version: a canary. Any other is taken over, unless it stands beside a version of ours.
 */
export function versionsWithDeployment(look: Look, { workload, labels, previous, deployment }: Found): Versions {
  const { plan, seen, say, warn } = look;
  const { name } = workload;
  const words = `Deployment ${plan.namespace}/${name}`;
  const controlled = seen.replicaSets.filter((replicaSet) => ownerOf(replicaSet) === deployment.metadata.uid);
  const podsOf = (sets: KubernetesObject[]) =>
    seen.pods.filter((pod) => isLive(pod) && sets.some(({ metadata }) => metadata.uid === ownerOf(pod)));
  const isRunning = (replicaSet: KubernetesObject) => wantedOf(replicaSet) > 0 || podsOf([replicaSet]).length > 0;
  const own = previous.filter((replicaSet) => !controlled.includes(replicaSet));
  const running = [...own, ...controlled].filter(isRunning);
  const common = { workload, labels };
  const isKept = isOurs(look, deployment);

  if (own.some(isRunning) && (!isKept || running.length > 1)) {
    const names = own.map(({ metadata }) => metadata.name).join(', ');
    say(
      words,
      `made by ${managerOf(deployment)}, stands beside the version that was deployed before (ReplicaSet ${names}); remove it: ${removalLine(name, plan.namespace)}`,
    );
  }
  const [old] = running;
  const hash = old?.metadata.labels?.[hashKey];
  if (isKept && old && running.length === 1 && hash !== undefined && workload.replicas > 0) {
    const pods = seen.pods.filter((pod) => isLive(pod) && pod.metadata.labels?.[hashKey] === hash);
    if (pods.length > 0 && pods.every((pod) => ownerOf(pod) === old.metadata.uid)) {
      checkAutoscalers(look, workload, old);
      warnOfScale(look, workload, controlled.includes(old) ? deployment : old);
      const others = controlled.filter((replicaSet) => replicaSet !== old);
      const found = foundForm(deployment, others, controlled.includes(old));
      return { ...common, mode: 'canary', old, oldHash: hash, oldPods: pods, deployment: found };
    }
  }
  warn(
    `${words} is taken over: its pods serve until the new ones are ready, then they and it are removed; the steps of the strategy are skipped`,
  );
  checkAutoscalers(look, workload, own[0]);
  warnOfScale(look, workload, deployment);
  return {
    ...common,
    mode: 'adopt',
    old: own[0],
    oldHash: own[0]?.metadata.labels?.[hashKey] ?? null,
    oldPods: podsOf(controlled),
    deployment: foundForm(deployment, controlled, false),
  };
}

/** A Deployment that a run of this application and target made, of whatever became of it since. */
function isOurs({ plan, seen }: Look, { metadata }: KubernetesObject): boolean {
  const { annotations, labels } = metadata;
  const maker = labels?.[deploymentKey];
  return (
    annotations?.[annotationKeys.application] === plan.application &&
    annotations?.[annotationKeys.environment] === plan.target &&
    (maker === undefined || seen.finalDeployments.has(maker))
  );
}

/** Old revisions that are cleared away; Kubernetes keeps ten of a Deployment unless told otherwise. */
const mostReplicaSets = 50;

function foundForm(deployment: KubernetesObject, sets: KubernetesObject[], ownsOld: boolean): FoundDeployment {
  const { uid = '', resourceVersion = '' } = deployment.metadata;
  const kept = sets.toSorted((a, b) => Number(wantedOf(b) > 0) - Number(wantedOf(a) > 0)).slice(0, mostReplicaSets);
  return {
    uid,
    resourceVersion,
    form: formOfDeployment(deployment),
    manager: managerOf(deployment),
    ownsOld,
    replicaSets: kept.map((replicaSet) => ({
      name: replicaSet.metadata.name,
      uid: replicaSet.metadata.uid ?? '',
      resourceVersion: replicaSet.metadata.resourceVersion ?? '',
      replicas: wantedOf(replicaSet),
    })),
  };
}

function ownerOf({ metadata }: KubernetesObject): string | undefined {
  return metadata.ownerReferences?.find(({ controller }) => controller)?.uid;
}

function wantedOf({ spec }: KubernetesObject): number {
  return (spec as { replicas?: number } | undefined)?.replicas ?? 1;
}

/** Deployments that would take the ReplicaSets of this run for their own, and scale them down. */
export function checkDeployments({ plan, run, seen, say }: Look): void {
  for (const deployment of seen.deployments) {
    const { selector } = (deployment.spec as { selector?: LabelSelector } | undefined) ?? {};
    if (!selector) continue;
    for (const [index, workload] of plan.workloads.entries()) {
      const own = { [deploymentKey]: run.id, [hashKey]: entryAt(run.hashes, index) };
      const isKept = plan.keepDeploymentObject && deployment.metadata.name !== workload.name;
      const worn = isKept ? { ...own, ...keptLabelsOf(workload) } : own;
      if (!matchesSelector(selector, worn)) continue;
      say(
        `Deployment ${plan.namespace}/${deployment.metadata.name}`,
        `its selector matches the ReplicaSet that this deployment makes for ${workload.name}, so that it would take it over; narrow its selector`,
      );
    }
  }
}
