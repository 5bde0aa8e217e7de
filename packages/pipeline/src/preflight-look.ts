import { isLive } from './conditions.ts';
import { type FoundDeployment, type MeshConfirmation, newReplicaSetName, type Outline } from './deployment-state.ts';
import { entryAt } from './entry-at.ts';
import { isHeldOurs, writerOfHeld, writerWords } from './field-managers.ts';
import type { KubernetesObject } from './kubernetes.ts';
import { annotationKeys, deploymentKey, hashKey } from './marks.ts';
import type { DeploymentPlan, Workload } from './plan.ts';
import { versionsWithDeployment } from './preflight-deployments.ts';

/**
 * What a preflight reads from the cluster, all of one namespace: the root Services and everything that could make a
 * canary over them go wrong (design.md, "Preflight P"). `undefined` where an object does not exist.
 */
export type Surroundings = {
  services: KubernetesObject[];
  pods: KubernetesObject[];
  /** Those that runs of ours made; all of them where a Deployment of a workload's name is there. */
  replicaSets: KubernetesObject[];
  splits: KubernetesObject[];
  /** Linkerd's ServiceProfiles. */
  serviceProfiles: KubernetesObject[];
  /** Those with the names of the workloads whole, others perhaps without their templates. */
  deployments: KubernetesObject[];
  /** HorizontalPodAutoscalers and KEDA ScaledObjects. */
  autoscalers: KubernetesObject[];
  /** The plan's other objects as they are now, in the plan's order. */
  existing: (KubernetesObject | undefined)[];
  /** The plan's other objects whose kinds the cluster does not serve, by their place in the plan. */
  unserved?: readonly number[];
  splitApiVersion: string | undefined;
  /** The schema of TrafficSplits that the cluster publishes, where it publishes one. */
  splitSchema?: unknown;
  meshConfirmation: MeshConfirmation;
  /** The id of this control plane, as on objects that it wrote. */
  instance: string;
  /** Of the deployments that objects in the namespace are marked with: those that are over. */
  finalDeployments: ReadonlySet<string>;
};

/** One look at a target: what is to be deployed, what is there, and where to say what is wrong. */
export type Look = {
  plan: DeploymentPlan;
  run: { id: string; hashes: string[]; outline: Outline };
  seen: Surroundings;
  /** Fails the target. `object` names what is in the way; the message says what to do. */
  say(object: string, message: string): void;
  warn(text: string): void;
};

/** What runs of one workload now. `oldHash` is null where nothing does. */
export type Versions = {
  workload: Workload;
  /** Labels of the new pods. */
  labels: Record<string, string>;
  mode: 'first' | 'canary' | 'adopt';
  old: KubernetesObject | undefined;
  oldHash: string | null;
  /** Those that serve now, of whichever version they are. */
  oldPods: KubernetesObject[];
  deployment?: FoundDeployment;
};

export function versionsOf(look: Look, index: number): Versions {
  const { plan, seen, say, warn } = look;
  const workload = entryAt(plan.workloads, index);
  const { name, replicas } = workload;
  const previous = previousReplicaSets(look, index);
  const deployment = seen.deployments.find(({ metadata }) => metadata.name === name);
  if (deployment) return versionsWithDeployment(look, { workload, labels: podLabels(workload), previous, deployment });
  if (previous.length > 1) {
    const names = previous.map(({ metadata }) => metadata.name).join(', ');
    say(`ReplicaSet ${plan.namespace}/${name}`, `several earlier versions have pods: ${names}; scale all but one to 0`);
  }
  const old = previous[0];
  const oldHash = old ? (old.metadata.labels?.[hashKey] ?? '') : null;
  const oldPods = seen.pods.filter((pod) => isLive(pod) && pod.metadata.labels?.[hashKey] === oldHash);
  const mode = old && oldPods.length > 0 && replicas > 0 ? 'canary' : 'first';
  if (old && mode === 'first') {
    warn(
      `${name}: the earlier version has no pods or the new one asks for none: it is replaced without splitting traffic`,
    );
  }
  checkAutoscalers(look, workload, old);
  warnOfScale(look, workload, old);
  return { workload, labels: podLabels(workload), mode, old, oldHash, oldPods };
}

/**
 * The number of pods is the file's. Where somebody else gave what runs another one, the run would undo that without a
 * word. A file that asks for another number than the last one did is meant so.
 *
 * @param scaled what runs now: a ReplicaSet, or the Deployment over it
 */
export function warnOfScale({ plan, warn }: Look, workload: Workload, scaled: KubernetesObject | undefined): void {
  if (!scaled || isHeldOurs(scaled)) return;
  const { replicas = 1 } = scaled.spec as { replicas?: number };
  if (replicas === workload.replicas || replicas === 0) return;
  const { kind, metadata } = scaled;
  const writer = writerOfHeld(scaled);
  const who = writer ? `, as ${writerWords(writer)} asked for` : '';
  warn(
    `${workload.name} runs ${replicas} ${replicas === 1 ? 'pod' : 'pods'} (${kind} ${plan.namespace}/${metadata.name}${who}), the file asks for ${workload.replicas}: that many the new version gets; for another number change replicas in the file`,
  );
}

/** ReplicaSets of this application, target and Deployment that still have pods or want some (behaviour.md §2, ownership). */
function previousReplicaSets({ plan, run, seen }: Look, index: number): KubernetesObject[] {
  const workload = entryAt(plan.workloads, index);
  const ours = seen.replicaSets.filter((replicaSet) => {
    const { name, labels, annotations } = replicaSet.metadata;
    const hash = labels?.[hashKey];
    return (
      labels?.[deploymentKey] !== undefined &&
      hash !== undefined &&
      name === `${workload.name}-${hash}` &&
      name !== newReplicaSetName(run, index) &&
      annotations?.[annotationKeys.application] === plan.application &&
      annotations?.[annotationKeys.environment] === plan.target
    );
  });
  const wanted = ours.filter((replicaSet) => ((replicaSet.spec as { replicas?: number }).replicas ?? 1) > 0);
  return wanted.length > 0 ? wanted : ours.slice(-1);
}

export function checkAutoscalers({ seen, say }: Look, workload: Workload, old: KubernetesObject | undefined): void {
  for (const scaler of seen.autoscalers) {
    const target = (scaler.spec as { scaleTargetRef?: { name?: string } } | undefined)?.scaleTargetRef?.name;
    if (target !== workload.name && (old === undefined || target !== old.metadata.name)) continue;
    say(
      `${scaler.kind} ${scaler.metadata.namespace}/${scaler.metadata.name}`,
      'not supported yet: it scales this workload; delete it before deploying',
    );
  }
}

export function podLabels({ manifest }: Workload): Record<string, string> {
  const spec = manifest.spec as { template?: { metadata?: { labels?: Record<string, string> } } };
  return spec.template?.metadata?.labels ?? {};
}
