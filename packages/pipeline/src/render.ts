import { assertNever } from './assert-never.ts';
import { formOfDeployment, formOfTemplate, freedReplicaSets, labelsBeside } from './deployment-object.ts';
import {
  type DeploymentState,
  newReplicaSetName,
  type ObjectFacts,
  partOf,
  type Slot,
  type WriteEffect,
} from './deployment-state.ts';
import { entryAt } from './entry-at.ts';
import { managerOf } from './field-managers.ts';
import { markOf } from './held.ts';
import type { KubernetesObject, ObjectRef } from './kubernetes.ts';
import { annotationKeys, deploymentKey, fenceKey, hashKey, instanceKey } from './marks.ts';
import type { DeploymentPlan, SmiRoute } from './plan.ts';
import { renderDeployment } from './render-deployment.ts';
import { slotOfObject } from './slot-of-object.ts';
import { splitSpec, splitWeights } from './traffic/smi.ts';

/** A write as it goes to the cluster. Bodies of `patch` are JSON merge patches (RFC 7386). */
export type ClusterWrite =
  | { verb: 'create' | 'put' | 'apply' | 'patch'; ref: ObjectRef; body: Record<string, unknown> }
  /** `orphan`: what it owns is set free. */
  | { verb: 'delete'; ref: ObjectRef; uid: string; resourceVersion: string; orphan?: true };

/** `version`: of the row that committed the effect; with the deployment's id it is the fence. */
export type Mark = { instance: string; version: number };

/** Which object a slot stands for. */
export function refOf(state: DeploymentState, slot: Slot): ObjectRef {
  const { outline, survey } = state;
  const { namespace } = outline;
  const { part, index } = partOf(slot);
  switch (part) {
    case 'root':
      return { apiVersion: 'v1', kind: 'Service', namespace, name: entryAt(outline.routes, index).rootServiceName };
    case 'canary':
      return { apiVersion: 'v1', kind: 'Service', namespace, name: entryAt(outline.routes, index).canaryServiceName };
    case 'split':
      return {
        apiVersion: survey?.splitApiVersion ?? '',
        kind: 'TrafficSplit',
        namespace,
        name: entryAt(outline.routes, index).trafficSplitName,
      };
    case 'newReplicaSet':
      return { apiVersion: 'apps/v1', kind: 'ReplicaSet', namespace, name: newReplicaSetName(state, index) };
    case 'oldReplicaSet':
      return { apiVersion: 'apps/v1', kind: 'ReplicaSet', namespace, name: survey?.workloads[index]?.old?.name ?? '' };
    case 'deployment':
      return { apiVersion: 'apps/v1', kind: 'Deployment', namespace, name: entryAt(outline.workloads, index).name };
    case 'freed':
      return {
        apiVersion: 'apps/v1',
        kind: 'ReplicaSet',
        namespace,
        name: freedReplicaSets(survey)[index]?.name ?? '',
      };
    case 'object':
      return entryAt(outline.objects, index);
    default:
      return assertNever(part);
  }
}

/** An object as people know it, e.g. `Service web`. */
export function objectWords(state: DeploymentState, slot: Slot): string {
  const { kind, name } = refOf(state, slot);
  return `${kind} ${name}`;
}

/**
 * The request of a write. Creates are inert (ReplicaSets at 0 replicas, splits at 100/0); everything that has effect is
 * a PATCH that carries the resourceVersion of its intent (design.md, law 5).
 * `root`: the root Service as stored, needed to create the canary Service from. `replicaSet`: the one that a Deployment object
 * is to stand over. `previous`: the saved form, for `restore` and for a Deployment object that is made again.
 */
export function renderWrite(input: {
  plan: DeploymentPlan;
  state: DeploymentState;
  effect: WriteEffect;
  mark: Mark;
  root?: KubernetesObject | undefined;
  replicaSet?: KubernetesObject | undefined;
  previous?: KubernetesObject | undefined;
}): ClusterWrite {
  const { plan, state, effect } = input;
  const { change, slot } = effect;
  const ref = refOf(state, slot);
  const guarded = (metadata: Record<string, unknown>) => ({ ...metadata, resourceVersion: effect.resourceVersion });
  const fence = { [fenceKey]: `${state.id}.${input.mark.version}` };
  // Others may have taken the label off, by which it is watched.
  const mark = markOf(state, slot);
  const label = mark === null ? {} : { labels: { [deploymentKey]: mark } };
  const owned = {
    labels: { [deploymentKey]: state.id },
    annotations: { ...fence, [instanceKey]: input.mark.instance },
  };
  switch (change.op) {
    case 'create':
      return { verb: 'create', ref, body: renderCreate(input, ref) };
    case 'apply': {
      const object = marked(manifestOf(plan, state, slot), notesOf(plan, state, slot));
      // Without the uid an apply that arrives late would create anew what was deleted meanwhile, whatever its version.
      const metadata = guarded({ ...object.metadata, uid: effect.uid });
      return { verb: 'apply', ref, body: { ...object, metadata } };
    }
    case 'weights':
      return {
        verb: 'patch',
        ref,
        body: {
          metadata: guarded({ ...label, annotations: fence }),
          spec: splitSpec(entryAt(plan.routes, partOf(slot).index), change.weights, state.survey?.stringWeights),
        },
      };
    case 'pin':
      return {
        verb: 'patch',
        ref,
        body: { metadata: guarded(owned), spec: { selector: { [hashKey]: change.hash } } },
      };
    case 'unpin':
      return {
        verb: 'patch',
        ref,
        body: {
          metadata: guarded({
            labels: { [deploymentKey]: null },
            annotations: { [fenceKey]: null, [instanceKey]: null },
          }),
          spec: { selector: { [hashKey]: null } },
        },
      };
    case 'scale':
      return {
        verb: 'patch',
        ref,
        // By its label it is watched until it is empty.
        body: {
          metadata: guarded({
            ...(partOf(slot).part === 'freed' ? { labels: { [deploymentKey]: state.id } } : label),
            annotations: fence,
          }),
          spec: { replicas: change.replicas },
        },
      };
    case 'label':
      return { verb: 'patch', ref, body: { metadata: guarded({ labels: change.labels }) } };
    case 'resume': {
      // A manifest's own pause is ignored; one of somebody's in the Deployment that was there before is put back.
      const { paused } = (state.track === 'rollBack' ? originOf(input).spec : {}) as { paused?: boolean };
      const spec = { paused: paused === true ? true : null };
      return { verb: 'patch', ref, body: { metadata: guarded({ labels: { [deploymentKey]: null } }), spec } };
    }
    case 'restore': {
      if (!input.previous) throw new Error(`deployment ${state.id}: no saved form of ${slot}`);
      const { uid, name, namespace, labels, annotations, ownerReferences, finalizers } = input.previous.metadata;
      const kept = { labels, annotations, ownerReferences, finalizers };
      const metadata = { name, namespace, ...kept, uid, resourceVersion: effect.resourceVersion };
      return { verb: 'put', ref, body: { ...input.previous, metadata } };
    }
    case 'delete':
      return {
        verb: 'delete',
        ref,
        uid: effect.uid ?? '',
        resourceVersion: effect.resourceVersion ?? '',
        ...(change.orphan ? { orphan: true } : {}),
      };
    default:
      return assertNever(change);
  }
}

/** What a Deployment object is made from: the manifest, or in a roll back the one that was there before. */
function originOf({ plan, state, effect, previous }: Parameters<typeof renderWrite>[0]): KubernetesObject {
  if (state.track === 'forward') return entryAt(plan.workloads, partOf(effect.slot).index).manifest;
  if (!previous) throw new Error(`deployment ${state.id}: no saved form of ${effect.slot}`);
  return previous;
}

function renderCreate(input: Parameters<typeof renderWrite>[0], ref: ObjectRef): Record<string, unknown> {
  const { plan, state, mark } = input;
  const { slot } = input.effect;
  const { part, index } = partOf(slot);
  const annotations = notesOf(plan, state, slot);
  if (part === 'deployment') {
    if (!input.replicaSet) throw new Error(`deployment ${state.id}: no ReplicaSet for ${slot}`);
    const own = state.track === 'forward' ? annotations : {};
    const atLeast =
      state.track === 'forward'
        ? entryAt(state.outline.workloads, index).replicas
        : (state.survey?.workloads[index]?.old?.pods ?? 0);
    return renderDeployment(originOf(input), input.replicaSet, { run: state.id, annotations: own, atLeast });
  }
  const metadata = {
    name: ref.name,
    namespace: ref.namespace,
    labels: { [deploymentKey]: state.id } as Record<string, string>,
    annotations: {
      ...annotations,
      [fenceKey]: `${state.id}.${mark.version}`,
      [instanceKey]: mark.instance,
    } as Record<string, string>,
  };
  if (part === 'newReplicaSet') return renderReplicaSet(plan, state, index, { metadata, annotations });
  if (part === 'split') {
    const spec = splitSpec(entryAt(plan.routes, index), { stable: 100, canary: 0 }, state.survey?.stringWeights);
    return { apiVersion: ref.apiVersion, kind: ref.kind, metadata, spec };
  }
  if (part === 'canary' && !plan.routes[index]?.canaryServiceGiven) {
    return renderCanaryService(input.root, state, entryAt(state.hashes, workloadOf(state, slot)), metadata);
  }
  return marked(manifestOf(plan, state, slot), annotations);
}

/**
 * The new version's ReplicaSet, at 0 replicas. Its own labels are only ours: with the user's selector labels the
 * Deployment controller would adopt it and scale it down (design.md, "ReplicaSets and adoption").
 */
function renderReplicaSet(
  plan: DeploymentPlan,
  state: DeploymentState,
  index: number,
  { metadata, annotations }: { metadata: { labels: Record<string, string> }; annotations: Record<string, string> },
): Record<string, unknown> {
  const hash = { [hashKey]: entryAt(state.hashes, index) };
  const spec = entryAt(plan.workloads, index).manifest.spec as {
    minReadySeconds?: number;
    selector?: { matchLabels?: Record<string, string>; matchExpressions?: unknown[] };
    template: PodTemplate;
  };
  const { template } = spec;
  return {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: { ...metadata, labels: { ...metadata.labels, ...hash } },
    spec: {
      replicas: 0,
      ...(spec.minReadySeconds === undefined ? {} : { minReadySeconds: spec.minReadySeconds }),
      selector: { ...spec.selector, matchLabels: { ...spec.selector?.matchLabels, ...hash } },
      template: {
        ...template,
        metadata: {
          ...template.metadata,
          labels: { ...template.metadata?.labels, ...hash },
          annotations: { ...template.metadata?.annotations, ...annotations },
        },
        spec: {
          ...template.spec,
          containers: template.spec.containers.map((container) => ({
            ...container,
            env: containerEnv(container.env ?? [], plan, state, index),
          })),
        },
      },
    },
  };
}

type Env = { name: string; [field: string]: unknown };
type PodTemplate = {
  metadata?: { labels?: Record<string, string>; annotations?: Record<string, string> };
  spec: { containers: { env?: Env[]; [field: string]: unknown }[]; [field: string]: unknown };
};

/** The four variables of spec/behaviour.md §2; a variable that the user defines wins. */
function containerEnv(env: Env[], plan: DeploymentPlan, state: DeploymentState, index: number): Env[] {
  const ours = [
    { name: 'ARMORY_APPLICATION_NAME', value: plan.application },
    { name: 'ARMORY_DEPLOYMENT_ID', value: state.id },
    { name: 'ARMORY_ENVIRONMENT_NAME', value: plan.target },
    { name: 'ARMORY_REPLICA_SET_NAME', value: newReplicaSetName(state, index) },
  ];
  return [...env, ...ours.filter(({ name }) => !env.some((variable) => variable.name === name))];
}

/** ClusterIP with all of root's ports, no nodePort; selects only the new pods. */
function renderCanaryService(
  root: KubernetesObject | undefined,
  state: DeploymentState,
  hash: string,
  metadata: { annotations: Record<string, string> },
): Record<string, unknown> {
  const spec = root?.spec as { ports?: Record<string, unknown>[]; selector?: Record<string, string> } | undefined;
  if (!root || !spec) throw new Error(`deployment ${state.id}: the root Service is needed to make the canary Service`);
  const opaquePorts = root.metadata.annotations?.['config.linkerd.io/opaque-ports'];
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      ...metadata,
      annotations: {
        ...metadata.annotations,
        ...(opaquePorts === undefined ? {} : { 'config.linkerd.io/opaque-ports': opaquePorts }),
      },
    },
    spec: {
      type: 'ClusterIP',
      ports: (spec.ports ?? []).map(({ name, port, targetPort, protocol, appProtocol }) => ({
        ...(name === undefined ? {} : { name }),
        port,
        ...(targetPort === undefined ? {} : { targetPort }),
        ...(protocol === undefined ? {} : { protocol }),
        ...(appProtocol === undefined ? {} : { appProtocol }),
      })),
      selector: { ...spec.selector, [hashKey]: hash },
    },
  };
}

function manifestOf(plan: DeploymentPlan, state: DeploymentState, slot: Slot): KubernetesObject {
  const index = plan.objects.findIndex((_, candidate) => slotOfObject(state.outline, candidate) === slot);
  const object = plan.objects[index];
  if (!object) throw new Error(`deployment ${state.id}: no manifest for ${slot}`);
  return object;
}

/** A manifest with the annotations that say who applied it, without what only the cluster may set. */
function marked(object: KubernetesObject, annotations: Record<string, string>): KubernetesObject {
  const { uid, resourceVersion, generation, managedFields, creationTimestamp, selfLink, ...written } = object.metadata;
  return { ...object, metadata: { ...written, annotations: { ...written.annotations, ...annotations } } };
}

/** The workload that an object belongs to; the first one where it belongs to the target as a whole. */
function workloadOf({ survey }: DeploymentState, slot: Slot): number {
  const { part, index } = partOf(slot);
  if (part === 'object') return 0;
  if (part === 'freed') return freedReplicaSets(survey)[index]?.workload ?? 0;
  const isOfWorkload = ['newReplicaSet', 'oldReplicaSet', 'deployment'].includes(part);
  return isOfWorkload ? index : (survey?.pairs[index] ?? 0);
}

function notesOf(plan: DeploymentPlan, state: DeploymentState, slot: Slot): Record<string, string> {
  return {
    [annotationKeys.application]: plan.application,
    [annotationKeys.deploymentId]: state.id,
    [annotationKeys.environment]: plan.target,
    [annotationKeys.replicaSetName]: newReplicaSetName(state, workloadOf(state, slot)),
  };
}

/** What the machine needs to know of an object that the cluster answered. */
export function factsOf(object: KubernetesObject, routes: readonly SmiRoute[]): ObjectFacts {
  const { uid = '', resourceVersion = '', labels, annotations } = object.metadata;
  const route = routes.find(({ trafficSplitName }) => trafficSplitName === object.metadata.name);
  const spec = object.spec as { selector?: Record<string, unknown>; replicas?: number } | undefined;
  const pin = spec?.selector?.[hashKey];
  return {
    uid,
    resourceVersion,
    deployment: labels?.[deploymentKey] ?? null,
    appliedBy: annotations?.[annotationKeys.deploymentId] ?? null,
    ...(annotations?.[fenceKey] === undefined ? {} : { fenced: true }),
    ...(object.kind === 'TrafficSplit' ? { weights: route ? splitWeights(object, route) : null } : {}),
    ...(object.kind === 'Service' ? { pin: typeof pin === 'string' ? pin : null } : {}),
    ...(object.kind === 'ReplicaSet' ? { replicas: spec?.replicas ?? 1, ...ownershipOf(object) } : {}),
    ...(object.kind === 'Deployment' ? deploymentFacts(object) : {}),
    ...(object.metadata.deletionTimestamp === undefined ? {} : { deleting: true }),
  };
}

function deploymentFacts(deployment: KubernetesObject): Pick<ObjectFacts, 'form' | 'manager' | 'paused' | 'template'> {
  const { paused = false } = (deployment.spec as { paused?: boolean } | undefined) ?? {};
  return {
    form: formOfDeployment(deployment),
    manager: managerOf(deployment),
    paused,
    template: formOfTemplate(deployment),
  };
}

function ownershipOf(replicaSet: KubernetesObject): Pick<ObjectFacts, 'labels' | 'controller' | 'template'> {
  const labels = labelsBeside(replicaSet);
  const owner = replicaSet.metadata.ownerReferences?.find(({ controller }) => controller);
  return {
    ...(labels ? { labels } : {}),
    ...(owner ? { controller: owner.uid } : {}),
    template: formOfTemplate(replicaSet),
  };
}

/** The version in an object's fence, where this deployment wrote it; null for anybody else's object. */
export function fenceVersion(object: KubernetesObject, deploymentId: string): number | null {
  const fence = object.metadata.annotations?.[fenceKey];
  if (fence === undefined || !fence.startsWith(`${deploymentId}.`)) return null;
  const version = Number(fence.slice(deploymentId.length + 1));
  return Number.isInteger(version) ? version : null;
}
