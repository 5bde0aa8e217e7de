import { isRecord } from '@cdaas/pipeline/is-record.ts';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';

/**
 * The part of a watched or listed object that conditions look at. Pods and EndpointSlices come in thousands, and most of
 * each is never read: what is kept of a pod is a tenth of it.
 */
export function essenceOf(object: KubernetesObject): KubernetesObject {
  const { apiVersion, kind, metadata } = object;
  switch (kind) {
    case 'Pod':
      return { apiVersion, kind, metadata: briefMetadata(metadata), status: podStatus(object.status) };
    case 'EndpointSlice':
      return { apiVersion, kind, metadata: briefMetadata(metadata), endpoints: endpoints(object.endpoints) };
    case 'ReplicaSet': {
      const { template: _, ...spec } = isRecord(object.spec) ? object.spec : {};
      return { ...object, spec };
    }
    case 'Deployment': {
      const { managedFields } = metadata;
      const brief = { ...briefMetadata(metadata), ...(managedFields ? { managedFields } : {}) };
      return { apiVersion, kind, metadata: brief, spec: deploymentSpec(object.spec), status: object.status };
    }
    default:
      return object;
  }
}

/** The part of a listed object that a preflight looks at: of pods, whose they are and how they do; the rest is kept whole. */
export function essenceForPreflight(object: KubernetesObject): KubernetesObject {
  if (object.kind !== 'Pod') return object;
  const essence = essenceOf(object);
  const { ownerReferences } = object.metadata;
  return ownerReferences ? { ...essence, metadata: { ...essence.metadata, ownerReferences } } : essence;
}

function briefMetadata(metadata: KubernetesObject['metadata']): KubernetesObject['metadata'] {
  const { name, namespace, uid, resourceVersion, generation, labels, deletionTimestamp } = metadata;
  const all = { name, namespace, uid, resourceVersion, generation, labels, deletionTimestamp };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as typeof metadata;
}

/** Whose ReplicaSets and traffic a Deployment is after. */
function deploymentSpec(spec: unknown): Record<string, unknown> {
  if (!isRecord(spec)) return {};
  const { selector, replicas, template } = spec;
  const { labels } = isRecord(template) && isRecord(template.metadata) ? template.metadata : {};
  return { selector, replicas, template: { metadata: { labels } } };
}

function podStatus(status: unknown): Record<string, unknown> {
  if (!isRecord(status)) return {};
  const told = (Array.isArray(status.conditions) ? status.conditions : []).filter(({ type }) => {
    return type === 'Ready' || type === 'PodScheduled';
  });
  const waiting = (Array.isArray(status.containerStatuses) ? status.containerStatuses : []).find(
    ({ state }) => state?.waiting?.reason,
  );
  return {
    phase: status.phase,
    conditions: told.map(({ type, status, reason }) => ({ type, status, reason })),
    ...(waiting
      ? {
          containerStatuses: [
            {
              state: { waiting: { reason: waiting.state.waiting.reason } },
              lastState: { terminated: { exitCode: waiting.lastState?.terminated?.exitCode } },
            },
          ],
        }
      : {}),
  };
}

function endpoints(value: unknown): unknown[] {
  if (!Array.isArray(value)) return [];
  return value.map(({ conditions, targetRef }) => ({
    conditions: { ready: conditions?.ready, terminating: conditions?.terminating },
    ...(targetRef ? { targetRef: { kind: targetRef.kind, name: targetRef.name } } : {}),
  }));
}

/** About how many bytes an object takes in memory. */
export function weightOf(value: unknown): number {
  if (typeof value === 'string') return 24 + value.length;
  if (typeof value !== 'object' || value === null) return 8;
  const entries = Array.isArray(value) ? value : Object.values(value);
  return entries.reduce<number>((sum, entry) => sum + 8 + weightOf(entry), 32);
}
