import type { ClusterView } from './conditions.ts';
import { isLive } from './conditions.ts';
import { removalLine, reshapedWords } from './deployment-object.ts';
import type { Condition } from './deployment-state.ts';
import { managerOf } from './field-managers.ts';
import type { KubernetesObject } from './kubernetes.ts';
import { type LabelSelector, matchesSelector } from './label-selector.ts';
import { deploymentKey, fieldManager, hashKey } from './marks.ts';

/** Conditions about Deployment objects and the ReplicaSets that they control. */

type Kind = 'noDeployment' | 'intruder' | 'claimant' | 'sharer' | 'noStrangers' | 'empty' | 'adopted';
export type DeploymentCondition = Extract<Condition, { kind: Kind }>;

export function isOfDeployments(condition: Condition): boolean {
  return ['noDeployment', 'intruder', 'claimant', 'sharer', 'adopted'].includes(condition.kind);
}

export function evaluateDeployment(
  condition: DeploymentCondition,
  view: ClusterView,
): { holds: boolean; detail: string } {
  const { namespace } = condition;
  switch (condition.kind) {
    case 'noDeployment': {
      const found = view.deployment(namespace, condition.deployment);
      if (!found) return { holds: true, detail: `Deployment ${condition.deployment} is gone` };
      const { uid, deletionTimestamp } = found.metadata;
      if (condition.uid !== undefined && uid !== condition.uid) return { holds: true, detail: besideWords(found) };
      return { holds: false, detail: deletionTimestamp ? `${wordsOf(found)} is on its way out` : besideWords(found) };
    }
    case 'intruder': {
      const found = view.deployment(namespace, condition.deployment);
      const known = found?.metadata.uid === condition.uid || found?.metadata.labels?.[deploymentKey] === condition.run;
      if (!found || known) return { holds: false, detail: `no other Deployment ${condition.deployment}` };
      return { holds: true, detail: besideWords(found) };
    }
    case 'claimant':
    case 'sharer':
      return evaluateClaim(condition, view);
    case 'noStrangers':
      return evaluateStrangers(condition, view);
    case 'empty': {
      const replicaSet = view.replicaSet(namespace, condition.replicaSet);
      const { replicas, observedGeneration } = statusOf(replicaSet);
      const current = observedGeneration >= (replicaSet?.metadata.generation ?? 0);
      const wanted = (replicaSet?.spec as { replicas?: number } | undefined)?.replicas ?? 1;
      const holds = replicaSet !== undefined && wanted === 0 && current && replicas === 0;
      return { holds, detail: `${replicas} pods of ReplicaSet ${condition.replicaSet} left` };
    }
    case 'adopted':
      return evaluateAdopted(condition, view);
  }
}

/** In parentheses what is news when it changes. */
function besideWords(deployment: KubernetesObject): string {
  const { name, namespace = '' } = deployment.metadata;
  return `${wordsOf(deployment)} stands beside this run (made by ${managerOf(deployment)}); remove it: ${removalLine(name, namespace)}`;
}

function wordsOf({ metadata }: KubernetesObject): string {
  return `Deployment ${metadata.name}`;
}

type DeploymentSpec = {
  selector?: LabelSelector;
  replicas?: number;
  template?: { metadata?: { labels?: Record<string, string> } };
};

/** Deployments of other names whose controllers, or pods, would get in the way of what the run is about to let go of. */
function evaluateClaim(
  condition: Extract<Condition, { kind: 'claimant' | 'sharer' }>,
  view: ClusterView,
): { holds: boolean; detail: string } {
  const { namespace, but, run } = condition;
  const matches = (spec: DeploymentSpec): boolean => {
    if (condition.kind === 'claimant') return !!spec.selector && matchesSelector(spec.selector, condition.labels);
    const selector = Object.entries(selectorWithoutPin(view, namespace, condition.service));
    const labels = spec.template?.metadata?.labels ?? {};
    const wantsPods = (spec.replicas ?? 1) > 0;
    return wantsPods && selector.length > 0 && selector.every(([key, value]) => labels[key] === value);
  };
  const found = view.deployments(namespace).find(({ metadata, spec }) => {
    if (but.includes(metadata.name) || metadata.deletionTimestamp !== undefined) return false;
    return metadata.labels?.[deploymentKey] !== run && matches((spec as DeploymentSpec | undefined) ?? {});
  });
  if (found) {
    const harm =
      condition.kind === 'claimant'
        ? `would take ReplicaSet ${condition.replicaSet} for its own`
        : `has pods that Service ${condition.service} would send traffic to`;
    const way = `${wordsOf(found)} (made by ${managerOf(found)}) ${harm}; remove it, or have it select by other labels`;
    return { holds: true, detail: `${way}: ${removalLine(found.metadata.name, namespace)}` };
  }
  const what = condition.kind === 'claimant' ? `claims ReplicaSet ${condition.replicaSet}` : 'shares the Service';
  return { holds: false, detail: `no other Deployment ${what}` };
}

function selectorWithoutPin(view: ClusterView, namespace: string, service: string): Record<string, string> {
  const spec = view.service(namespace, service)?.spec as { selector?: Record<string, string> } | undefined;
  const { [hashKey]: _, ...selector } = spec?.selector ?? {};
  return selector;
}

function evaluateStrangers(condition: Extract<Condition, { kind: 'noStrangers' }>, view: ClusterView) {
  const { namespace, service, hash } = condition;
  const selector = selectorWithoutPin(view, namespace, service);
  const pods = view.everyPod?.(namespace);
  if (!pods) return { holds: false, detail: `the pods behind Service ${service} are not known` };
  const strangers = pods.filter(
    (pod) =>
      isLive(pod) &&
      pod.metadata.labels?.[hashKey] !== hash &&
      Object.entries(selector).every(([key, value]) => pod.metadata.labels?.[key] === value),
  );
  const names = strangers.slice(0, 3).map(({ metadata }) => metadata.name);
  const more = strangers.length > names.length ? ', …' : '';
  return {
    holds: strangers.length === 0,
    detail:
      strangers.length === 0
        ? `Service ${service} selects only pods of the new version`
        : `Service ${service} would select pods of another version: ${names.join(', ')}${more}; remove them`,
  };
}

function evaluateAdopted(condition: Extract<Condition, { kind: 'adopted' }>, view: ClusterView) {
  const deployment = view.deployment(condition.namespace, condition.deployment);
  const replicaSet = view.replicaSet(condition.namespace, condition.replicaSet);
  const names = `Deployment ${condition.deployment}, ReplicaSet ${condition.replicaSet}`;
  if (!deployment || !replicaSet) return { holds: false, detail: `${names}: not there yet` };
  const owner = replicaSet.metadata.ownerReferences?.find(({ controller }) => controller);
  if (owner?.uid !== deployment.metadata.uid) return { holds: false, detail: `${names}: not taken over yet` };
  const { observedGeneration, replicas, updatedReplicas } = statusOf(deployment);
  const wanted = (replicaSet.spec as { replicas?: number } | undefined)?.replicas ?? 1;
  const current = observedGeneration >= (deployment.metadata.generation ?? 0);
  const same = replicas === wanted && updatedReplicas === wanted;
  const manager = managerOf(deployment);
  if (current && !same && manager !== fieldManager) {
    // Its pods are not in sight here, but what its controller makes of them is.
    return {
      holds: false,
      detail: reshapedWords({ name: condition.deployment, namespace: condition.namespace }, manager),
    };
  }
  const least = condition.atLeast ?? 0;
  if (wanted < least) {
    const way = `kubectl scale deployment ${condition.deployment} -n ${condition.namespace} --replicas=${least}`;
    return { holds: false, detail: `${names}: asks for ${wanted} pods instead of ${least} (${manager}): ${way}` };
  }
  const isScaled = condition.asked !== undefined && condition.asked !== wanted;
  const others = isScaled
    ? `; somebody had it ask for ${wanted} pods instead of ${condition.asked}, and that is left so`
    : '';
  const detail = `${names}: ${updatedReplicas} of ${wanted} pods are its own${others}`;
  return { holds: current && same, detail, ...(isScaled ? { seen: scaledByOthers } : {}) };
}

/** Of a Deployment that owns its ReplicaSet: somebody gave it another number of pods. */
export const scaledByOthers = 'scaled';

function statusOf(object: KubernetesObject | undefined) {
  type Status = { observedGeneration?: number; replicas?: number; updatedReplicas?: number };
  const { observedGeneration = 0, replicas = 0, updatedReplicas = 0 } = (object?.status as Status | undefined) ?? {};
  return { observedGeneration, replicas, updatedReplicas };
}
