/** Scheduler and kubelet: pods are bound, started, made ready, crash where asked to, and end after their grace. */
import { fateOf, type PodFate } from '../faults.ts';
import {
  type Condition,
  type ContainerStatus,
  type Fields,
  isReady,
  type KubeObject,
  type Pod,
  timestamp,
} from '../objects.ts';
import type { Entry } from '../store.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { createQueue, keyFor, splitKey } from './queue.ts';

export const nodeName = 'sandbox';

/** What happens next to a pod, and when (milliseconds since the epoch). */
type Plan = { fate: PodFate; dueAt: number; endsAt?: number };

export function podController({ cluster: { store }, faults, log }: ControllerContext): Controller {
  const plans = new Map<string, Plan>();
  const addresses = new Map<string, string>();
  let lastAddress = 0;
  const queue = createQueue(reconcile, log);

  function reconcile(key: string): void {
    const entry = store.get('pods', ...splitKey(key));
    if (!entry) return;
    const pod = entry.object as Pod;
    if (pod.metadata.deletionTimestamp) return end(key, entry);
    if (!pod.spec.nodeName) return schedule(key, pod);
    const plan = plans.get(pod.metadata.uid) ?? planFor(key, pod);
    const leftMs = plan.dueAt - Date.now();
    if (leftMs <= 0) proceed(key, pod, plan);
    // Timers fire a little early now and then.
    else if (leftMs < 10) queue.add(key, leftMs);
  }

  function schedule(key: string, pod: Pod): void {
    const conditions = [conditionNow('PodScheduled', true), ...notReady(pod)];
    const spec = { ...pod.spec, nodeName };
    store.put('pods', withStatus({ ...pod, spec }, 'Pending', conditions, waiting(pod, 'ContainerCreating')));
    planFor(key, pod);
  }

  /** Decides a pod's fate when it is first seen, which after a restart is again. */
  function planFor(key: string, pod: Pod): Plan {
    const fate = fateOf(pod, faults);
    const delayMs =
      fate.kind === 'ready' ? (isReady(pod) ? (fate.crashAfterMs ?? 0) : fate.readyAfterMs) : faults.readyAfterMs.max;
    const plan = { fate, dueAt: Date.now() + delayMs };
    plans.set(pod.metadata.uid, plan);
    queue.add(key, delayMs);
    return plan;
  }

  function proceed(key: string, pod: Pod, plan: Plan): void {
    const never = Number.POSITIVE_INFINITY;
    const { fate } = plan;
    if (fate.kind !== 'ready') {
      plan.dueAt = never;
      const message = `Back-off pulling image "${pod.spec.containers[0]?.image}"`;
      const [phase, containers] =
        fate.kind === 'never-ready'
          ? (['Running', running(pod, false)] as const)
          : (['Pending', waiting(pod, 'ImagePullBackOff', message)] as const);
      store.put('pods', withStatus(pod, phase, keepConditions(pod), containers, addressFor(pod)));
      return;
    }
    if (!isReady(pod) && !hasCrashed(pod)) {
      store.put('pods', withStatus(pod, 'Running', ready(pod), running(pod), addressFor(pod)));
      plan.dueAt = fate.crashAfterMs === undefined ? never : Date.now() + fate.crashAfterMs;
      if (fate.crashAfterMs !== undefined) queue.add(key, fate.crashAfterMs);
      return;
    }
    plan.dueAt = never;
    if (fate.crashAfterMs === undefined || hasCrashed(pod)) return;
    const conditions = [...keepConditions(pod).filter(({ type }) => !isReadiness(type)), ...notReady(pod)];
    store.put('pods', withStatus(pod, 'Running', conditions, crashed(pod)));
  }

  function end(key: string, entry: Entry): void {
    const { uid, finalizers } = entry.object.metadata;
    const plan = plans.get(uid) ?? { fate: { kind: 'never-ready' }, dueAt: 0 };
    plans.set(uid, plan);
    plan.endsAt ??= Date.now() + faults.graceMs;
    const leftMs = plan.endsAt - Date.now();
    if (leftMs > 0) queue.add(key, leftMs);
    else if (!finalizers?.length) store.remove(entry);
  }

  function addressFor(pod: Pod): string {
    const known = pod.status?.podIP ?? addresses.get(pod.metadata.uid);
    if (known) return known;
    const used = new Set(addresses.values());
    let address: string;
    do {
      lastAddress = (lastAddress + 1) % 0xfffe;
      address = `10.244.${(lastAddress >> 8) & 255}.${lastAddress & 255}`;
    } while ((lastAddress & 255) === 0 || used.has(address));
    addresses.set(pod.metadata.uid, address);
    return address;
  }

  return {
    start() {
      for (const { object } of store.list('pods')) {
        const address = (object as Pod).status?.podIP;
        if (address) addresses.set(object.metadata.uid, address);
        queue.add(keyFor(object));
      }
    },
    changed({ type, entry }) {
      if (entry.id !== 'pods') return;
      const { uid } = entry.object.metadata;
      if (type !== 'DELETED') return queue.add(keyFor(entry.object));
      plans.delete(uid);
      addresses.delete(uid);
    },
    stop: () => queue.stop(),
  };
}

function withStatus(
  pod: Pod,
  phase: string,
  conditions: Condition[],
  containerStatuses: ContainerStatus[],
  podIP: string | undefined = pod.status?.podIP,
): KubeObject {
  const address = podIP ? { podIP, podIPs: [{ ip: podIP }], hostIP: '10.0.0.1' } : {};
  const startTime = (pod.status as Fields | undefined)?.startTime ?? timestamp();
  return { ...pod, status: { ...pod.status, phase, conditions, containerStatuses, startTime, ...address } };
}

function conditionNow(type: string, holds: boolean, reason?: string, message?: string): Condition {
  return {
    type,
    status: holds ? 'True' : 'False',
    lastTransitionTime: timestamp(),
    ...(reason ? { reason } : {}),
    ...(message ? { message } : {}),
  };
}

function isReadiness(type: string): boolean {
  return type === 'Ready' || type === 'ContainersReady';
}

function keepConditions(pod: Pod): Condition[] {
  return pod.status?.conditions ?? [];
}

function notReady(pod: Pod): Condition[] {
  const names = pod.spec.containers.map(({ name }) => name).join(' ');
  const message = `containers with unready status: [${names}]`;
  return ['Ready', 'ContainersReady'].map((type) => conditionNow(type, false, 'ContainersNotReady', message));
}

function ready(pod: Pod): Condition[] {
  const kept = keepConditions(pod).filter(({ type }) => !isReadiness(type));
  return [...kept, conditionNow('Ready', true), conditionNow('ContainersReady', true)];
}

function statuses(pod: Pod, state: Fields, isUp: boolean, restartCount = 0, lastState: Fields = {}): ContainerStatus[] {
  return pod.spec.containers.map(({ name, image }) => {
    return { name, image, imageID: '', ready: isUp, started: isUp, restartCount, state, lastState };
  });
}

function waiting(pod: Pod, reason: string, message?: string): ContainerStatus[] {
  return statuses(pod, { waiting: message ? { reason, message } : { reason } }, false);
}

function running(pod: Pod, isUp = true): ContainerStatus[] {
  return statuses(pod, { running: { startedAt: timestamp() } }, isUp);
}

function crashed(pod: Pod): ContainerStatus[] {
  const message = 'back-off 10s restarting failed container';
  const terminated = { exitCode: 1, reason: 'Error', finishedAt: timestamp() };
  return statuses(pod, { waiting: { reason: 'CrashLoopBackOff', message } }, false, 1, { terminated });
}

function hasCrashed(pod: Pod): boolean {
  return (pod.status?.containerStatuses ?? []).some(({ restartCount }) => restartCount > 0);
}
