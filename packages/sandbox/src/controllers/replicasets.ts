import * as api from '../api.ts';
import { removeEntry } from '../deletion.ts';
import { ApiError } from '../errors.ts';
import {
  type Condition,
  conditionOf,
  controllerOf,
  equal,
  isReady,
  type KubeObject,
  type Pod,
  type ReplicaSet,
  timestamp,
} from '../objects.ts';
import { matchesSelector } from '../selectors.ts';
import type { Entry } from '../store.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { createQueue, keyFor, splitKey } from './queue.ts';

const id = 'replicasets.apps';
const atOnce = 100;
const retryMs = 500;

/** Keeps as many pods as each ReplicaSet asks for, adopting pods without an owner that match. */
export function replicaSetController({ cluster, log }: ControllerContext): Controller {
  const { store, registry } = cluster;
  const pods = registry.byId('pods');
  const queue = createQueue(reconcile, log);

  function reconcile(key: string): void {
    const entry = store.get(id, ...splitKey(key));
    if (!entry) return;
    const set = entry.object as ReplicaSet;
    const mine = claim(set);
    const missing = set.spec.replicas - mine.length;
    let refusal: ApiError | undefined;
    if (!set.metadata.deletionTimestamp) {
      // The rest follows when these are stored, which is a change and brings this set back here.
      for (let i = 0; i < Math.min(missing, atOnce) && !refusal; i++) {
        const pod = createPod(set);
        if (pod instanceof ApiError) refusal = pod;
        else mine.push(pod);
      }
      for (const doomed of inOrderOfDeletion(mine).slice(0, Math.max(0, -missing))) {
        removeEntry(cluster, pods, doomed);
        mine.splice(mine.indexOf(doomed), 1);
      }
    }
    writeStatus(key, mine, refusal);
    if (refusal) queue.add(key, retryMs);
  }

  /** The pods that count: owned or adopted here, matching, and not on their way out. Owned ones that do not match are let go. */
  function claim(set: ReplicaSet): Entry[] {
    const { uid, namespace = '' } = set.metadata;
    const matches = (pod: KubeObject) => matchesSelector(set.spec.selector, pod.metadata.labels);
    return store.list('pods', namespace).flatMap((entry) => {
      const { metadata } = entry.object;
      const owner = controllerOf(entry.object);
      if (metadata.deletionTimestamp || (owner && owner.uid !== uid)) return [];
      if (!matches(entry.object)) {
        const { ownerReferences = [], ...rest } = metadata;
        const left = ownerReferences.filter((reference) => reference !== owner);
        const freed = left.length > 0 ? { ...rest, ownerReferences: left } : rest;
        if (owner) store.put('pods', { ...entry.object, metadata: freed });
        return [];
      }
      if (owner) return [entry];
      if (set.metadata.deletionTimestamp) return [];
      const ownerReferences = [...(metadata.ownerReferences ?? []), ownerReference(set)];
      return [store.put('pods', { ...entry.object, metadata: { ...metadata, ownerReferences } })];
    });
  }

  /** A pod of the set, or why it may not be made. */
  function createPod(set: ReplicaSet): Entry | ApiError {
    const { template } = set.spec;
    const { namespace = '', name } = set.metadata;
    const metadata = {
      generateName: `${name}-`,
      ...(template.metadata?.labels ? { labels: template.metadata.labels } : {}),
      ...(template.metadata?.annotations ? { annotations: template.metadata.annotations } : {}),
      ownerReferences: [ownerReference(set)],
    };
    const target = { resource: pods, version: 'v1', namespace };
    try {
      return api.create(cluster, target, { metadata, spec: template.spec }, { manager: 'kube-controller-manager' });
    } catch (error) {
      if (error instanceof ApiError) return error;
      throw error;
    }
  }

  function writeStatus(key: string, mine: Entry[], refusal: ApiError | undefined): void {
    const set = store.get(id, ...splitKey(key))?.object as ReplicaSet | undefined;
    if (!set) return;
    const up = mine.filter((entry) => isReady(entry.object as Pod)).length;
    const status = {
      replicas: mine.length,
      ...(mine.length > 0 ? { fullyLabeledReplicas: mine.length } : {}),
      ...(up > 0 ? { readyReplicas: up, availableReplicas: up } : {}),
      observedGeneration: set.metadata.generation ?? 0,
      ...(refusal ? { conditions: [failure(set, refusal.message)] } : {}),
    };
    if (!equal(set.status, status)) store.put(id, { ...set, status });
  }

  return {
    start() {
      for (const { object } of store.list(id)) queue.add(keyFor(object));
    },
    changed({ type, entry, previous }) {
      const { object } = entry;
      if (entry.id === id && type !== 'DELETED') return queue.add(keyFor(object));
      if (entry.id !== 'pods') return;
      const owner = controllerOf(object) ?? (previous && controllerOf(previous.object));
      const namespace = object.metadata.namespace ?? '';
      if (owner) return queue.add(`${namespace}/${owner.name}`);
      if (type === 'DELETED') return;
      for (const { object: set } of store.list(id, namespace)) {
        if (matchesSelector((set as ReplicaSet).spec.selector, object.metadata.labels)) queue.add(keyFor(set));
      }
    },
    stop: () => queue.stop(),
  };
}

export function ownerReference({ apiVersion, kind, metadata: { name, uid } }: KubeObject) {
  return { apiVersion, kind, name, uid, controller: true, blockOwnerDeletion: true };
}

function failure({ status }: ReplicaSet, message: string): Condition {
  const known = conditionOf(status?.conditions, 'ReplicaFailure');
  // The refused pod's random name changes with each try; what was told first stays.
  if (known) return known;
  return { type: 'ReplicaFailure', status: 'True', reason: 'FailedCreate', message, lastTransitionTime: timestamp() };
}

/** Not ready before ready, then the newest first. */
function inOrderOfDeletion(entries: Entry[]): Entry[] {
  const readyAt = ({ object }: Entry) => {
    const condition = conditionOf((object as Pod).status?.conditions, 'Ready');
    return condition?.status === 'True' ? (condition.lastTransitionTime ?? '') : '~';
  };
  return [...entries].sort((a, b) => {
    const [first, second] = [readyAt(a), readyAt(b)];
    if (first !== second) return first < second ? 1 : -1;
    return a.object.metadata.creationTimestamp < b.object.metadata.creationTimestamp ? 1 : -1;
  });
}
