import { createHash } from 'node:crypto';
import * as api from '../api.ts';
import { managersAfterUpdate } from '../apply.ts';
import { removeEntry } from '../deletion.ts';
import {
  type Condition,
  conditionOf,
  controllerOf,
  type Deployment,
  equal,
  type PodTemplate,
  type ReplicaSet,
  timestamp,
} from '../objects.ts';
import { matchesSelector } from '../selectors.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { createQueue, keyFor, splitKey } from './queue.ts';
import { ownerReference } from './replicasets.ts';

const id = 'deployments.apps';
const hashLabel = 'pod-template-hash';
const writer = { manager: 'kube-controller-manager' };
const revisionAnnotation = 'deployment.kubernetes.io/revision';

/** Keeps one ReplicaSet for each Deployment's template and moves the pods to it, adopting sets that match. */
export function deploymentController({ cluster, log }: ControllerContext): Controller {
  const { store, registry } = cluster;
  const replicaSets = registry.byId('replicasets.apps');
  const queue = createQueue(reconcile, log);

  function reconcile(key: string): void {
    const deployment = store.get(id, ...splitKey(key))?.object as Deployment | undefined;
    if (!deployment) return;
    if (deployment.metadata.deletionTimestamp) return;
    const sets = claim(deployment);
    const current = sets.find((set) => sameTemplate(set.spec.template, deployment.spec.template));
    const old = sets.filter((set) => set !== current);
    if (!deployment.spec.paused || current) roll(deployment, current ?? createSet(deployment, old), old);
    writeStatus(key);
  }

  function claim(deployment: Deployment): ReplicaSet[] {
    const { uid, namespace = '' } = deployment.metadata;
    return store.list(replicaSets.id, namespace).flatMap((entry) => {
      const set = entry.object as ReplicaSet;
      const owner = controllerOf(set);
      const matches = matchesSelector(deployment.spec.selector, set.metadata.labels);
      if (set.metadata.deletionTimestamp || (owner && owner.uid !== uid) || !matches) return [];
      if (owner) return [set];
      const ownerReferences = [...(set.metadata.ownerReferences ?? []), ownerReference(deployment)];
      const metadata = { ...set.metadata, ownerReferences };
      return [change(set, { ...set, metadata })];
    });
  }

  function createSet(deployment: Deployment, old: ReplicaSet[]): ReplicaSet {
    const { template, selector } = deployment.spec;
    const { namespace = '', name } = deployment.metadata;
    // A ReplicaSet of this name that is not ours, perhaps one that was freed, takes the name: the hash is drawn anew.
    let collisions = 0;
    while (store.get(replicaSets.id, namespace, `${name}-${hashOf(template, collisions)}`)) collisions++;
    const hash = hashOf(template, collisions);
    const labels = { ...template.metadata?.labels, [hashLabel]: hash };
    const body = {
      metadata: {
        name: `${name}-${hash}`,
        labels,
        annotations: { [revisionAnnotation]: String(Math.max(0, ...old.map(revisionOf)) + 1) },
        ownerReferences: [ownerReference(deployment)],
      },
      spec: {
        replicas: 0,
        selector: { ...selector, matchLabels: { ...selector.matchLabels, [hashLabel]: hash } },
        template: { ...template, metadata: { ...template.metadata, labels } },
      },
    };
    const target = { resource: replicaSets, version: 'v1', namespace };
    return api.create(cluster, target, body, writer).object as ReplicaSet;
  }

  /** One move of a roll-out; the changes of pods that it causes bring the next. */
  function roll({ spec }: Deployment, current: ReplicaSet, old: ReplicaSet[]): void {
    const wanted = spec.replicas;
    const running = old.reduce((sum, set) => sum + set.spec.replicas, 0);
    if (spec.strategy?.type === 'Recreate') {
      for (const set of old) scale(set, 0);
      const left = old.some((set) => store.dependants(set.metadata.uid).length > 0);
      if (!left) scale(current, wanted);
      return;
    }
    let surge = share(spec.strategy?.rollingUpdate?.maxSurge, wanted, Math.ceil);
    const unavailable = share(spec.strategy?.rollingUpdate?.maxUnavailable, wanted, Math.floor);
    if (surge === 0 && unavailable === 0) surge = 1;
    const room = wanted + surge - running - current.spec.replicas;
    const next = Math.min(wanted, current.spec.replicas + Math.max(0, room));
    scale(current, running === 0 ? wanted : current.spec.replicas > wanted ? wanted : next);
    const available = [current, ...old].reduce((sum, set) => sum + (set.status?.availableReplicas ?? 0), 0);
    let spare = available - (wanted - unavailable);
    for (const set of [...old].sort((a, b) => revisionOf(a) - revisionOf(b))) {
      // Pods that are not ready serve nobody, so they go first and cost nothing.
      const unready = set.spec.replicas - Math.min(set.spec.replicas, set.status?.availableReplicas ?? 0);
      const fewer = unready + Math.max(0, Math.min(spare, set.spec.replicas - unready));
      if (fewer <= 0) continue;
      spare -= fewer - unready;
      scale(set, set.spec.replicas - fewer);
    }
    forget(old, spec.revisionHistoryLimit ?? 10);
  }

  function scale(set: ReplicaSet, replicas: number): void {
    if (set.spec.replicas === replicas) return;
    const metadata = { ...set.metadata, generation: (set.metadata.generation ?? 0) + 1 };
    change(set, { ...set, metadata, spec: { ...set.spec, replicas } });
  }

  function change(set: ReplicaSet, next: ReplicaSet): ReplicaSet {
    const managedFields = managersAfterUpdate(set, next, writer);
    return store.put(replicaSets.id, { ...next, metadata: { ...next.metadata, managedFields } }).object as ReplicaSet;
  }

  function forget(old: ReplicaSet[], limit: number): void {
    const idle = old.filter((set) => set.spec.replicas === 0 && (set.status?.replicas ?? 0) === 0);
    const doomed = idle.sort((a, b) => revisionOf(b) - revisionOf(a)).slice(limit);
    for (const { metadata } of doomed) {
      const entry = store.get(replicaSets.id, metadata.namespace ?? '', metadata.name);
      if (entry) removeEntry(cluster, replicaSets, entry);
    }
  }

  function writeStatus(key: string): void {
    const deployment = store.get(id, ...splitKey(key))?.object as Deployment | undefined;
    if (!deployment) return;
    const { spec, metadata } = deployment;
    const dependants = store.dependants(metadata.uid).filter((entry) => entry.id === replicaSets.id);
    const sets = dependants.map((entry) => entry.object as ReplicaSet);
    const current = sets.find((set) => sameTemplate(set.spec.template, spec.template));
    const sum = (count: (set: ReplicaSet) => number | undefined) =>
      sets.reduce((all, set) => all + (count(set) ?? 0), 0);
    const available = sum((set) => set.status?.availableReplicas);
    const updated = current?.status?.replicas ?? 0;
    const replicas = sum((set) => set.status?.replicas);
    const complete = updated === spec.replicas && replicas === updated && available === updated;
    const enough =
      available >= spec.replicas - share(spec.strategy?.rollingUpdate?.maxUnavailable, spec.replicas, Math.floor);
    const unavailable = Math.max(0, spec.replicas - available);
    const status = {
      observedGeneration: metadata.generation ?? 0,
      replicas,
      updatedReplicas: updated,
      readyReplicas: sum((set) => set.status?.readyReplicas),
      availableReplicas: available,
      ...(unavailable > 0 ? { unavailableReplicas: unavailable } : {}),
      conditions: [
        condition(deployment, 'Available', enough, enough ? 'MinimumReplicasAvailable' : 'MinimumReplicasUnavailable'),
        condition(deployment, 'Progressing', true, complete ? 'NewReplicaSetAvailable' : 'ReplicaSetUpdated'),
      ],
    };
    const revision = current && String(revisionOf(current) || 1);
    const annotations = { ...metadata.annotations, ...(revision ? { [revisionAnnotation]: revision } : {}) };
    const next = { ...deployment, metadata: { ...metadata, annotations }, status };
    if (!equal(deployment, next)) store.put(id, next);
  }

  return {
    start() {
      for (const { object } of store.list(id)) queue.add(keyFor(object));
    },
    changed({ type, entry, previous }) {
      const { object } = entry;
      if (entry.id === id && type !== 'DELETED') return queue.add(keyFor(object));
      if (entry.id !== replicaSets.id) return;
      const owner = controllerOf(object) ?? (previous && controllerOf(previous.object));
      const namespace = object.metadata.namespace ?? '';
      if (owner) return queue.add(`${namespace}/${owner.name}`);
      if (type === 'DELETED') return;
      for (const { object: deployment } of store.list(id, namespace)) {
        const { selector } = (deployment as Deployment).spec;
        if (matchesSelector(selector, object.metadata.labels)) queue.add(keyFor(deployment));
      }
    },
    stop: () => queue.stop(),
  };
}

function condition(deployment: Deployment, type: string, holds: boolean, reason: string): Condition {
  const old = conditionOf(deployment.status?.conditions, type);
  const status = holds ? 'True' : 'False';
  if (old && old.status === status && old.reason === reason) return old;
  const lastTransitionTime = old?.status === status ? (old.lastTransitionTime ?? timestamp()) : timestamp();
  return { type, status, reason, message: reason, lastTransitionTime, lastUpdateTime: timestamp() };
}

function hashOf(template: PodTemplate, collisions: number): string {
  const text = JSON.stringify(template) + (collisions || '');
  return createHash('sha256').update(text).digest('hex').slice(0, 10);
}

function revisionOf(set: ReplicaSet): number {
  return Number(set.metadata.annotations?.[revisionAnnotation] ?? 0);
}

/** Equality of templates, the label aside that the controller itself adds. */
function sameTemplate(a: PodTemplate, b: PodTemplate): boolean {
  return equal(withoutHash(a), withoutHash(b));
}

function withoutHash(template: PodTemplate): PodTemplate {
  const { [hashLabel]: _, ...labels } = template.metadata?.labels ?? {};
  return { ...template, metadata: { ...template.metadata, labels } };
}

function share(value: number | string | undefined, of: number, round: (value: number) => number): number {
  if (typeof value === 'number') return value;
  return round((of * (Number.parseFloat(value ?? '25%') || 0)) / 100);
}
