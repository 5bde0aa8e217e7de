import { isRecord } from './is-record.ts';
import type { KubernetesObject } from './kubernetes.ts';
import { fieldManager } from './marks.ts';

/** Who wrote a field of an object last, as its `metadata.managedFields` say. `at`: ISO 8601, empty where it is not said. */
export type FieldWriter = { manager: string; operation: string; at: string };

/** Of each kind that a run holds the field that it holds it by. */
const heldFields: Record<string, string> = {
  Service: 'selector',
  TrafficSplit: 'backends',
  ReplicaSet: 'replicas',
  Deployment: 'replicas',
};

/**
 * Who beside this control plane wrote the field that a run holds last; null where nobody is named. A manager that took a
 * field out owns nothing of it any more unless the field is atomic, as selectors are, so who wrote the object last counts
 * where nobody owns the field.
 */
export function writerOfHeld(object: KubernetesObject): FieldWriter | null {
  const writers = writersOf(object).filter(({ manager }) => manager !== fieldManager);
  const owners = writers.filter(({ owns }) => owns);
  const [last] = (owners.length > 0 ? owners : writers).toSorted(newestFirst);
  return last ? { manager: last.manager, operation: last.operation, at: last.at } : null;
}

/** Who wrote an object last, by the name of the field manager; controllers of Kubernetes only follow what others ask for. */
export function managerOf(object: KubernetesObject): string {
  const people = writersOf(object).filter(({ manager, isPart }) => manager !== 'kube-controller-manager' && !isPart);
  const others = people.filter(({ manager }) => manager !== fieldManager);
  const [last] = (others.length > 0 ? others : people).toSorted(newestFirst);
  return last?.manager ?? 'unknown';
}

/** Times are whole seconds: of one second whoever applied comes first, as controllers of GitOps do, which come again. */
function newestFirst(a: FieldWriter, b: FieldWriter): number {
  return order(b.at, a.at) || order(a.operation, b.operation);
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Whether this control plane wrote the field that a run holds last. */
export function isHeldOurs(object: KubernetesObject): boolean {
  return writersOf(object).some(({ manager, owns }) => manager === fieldManager && owns);
}

/** `owns`: the field that a run holds. `isPart`: by a subresource, such as the scale. */
function writersOf(object: KubernetesObject): (FieldWriter & { owns: boolean; isPart: boolean })[] {
  const field = heldFields[object.kind] ?? '';
  const entries = Array.isArray(object.metadata.managedFields) ? object.metadata.managedFields : [];
  return entries.flatMap((entry: unknown) => {
    if (!isRecord(entry) || typeof entry.manager !== 'string' || entry.subresource === 'status') return [];
    const { manager, operation, time, fieldsV1, subresource } = entry;
    const isPart = subresource !== undefined && subresource !== '';
    const spec = isRecord(fieldsV1) ? fieldsV1['f:spec'] : undefined;
    const owns = isRecord(spec) && `f:${field}` in spec;
    const at = typeof time === 'string' ? time : '';
    return [{ manager: manager.slice(0, 100), operation: String(operation ?? '').slice(0, 20), at, owns, isPart }];
  });
}

export function writerWords(writer: FieldWriter | null | undefined): string {
  if (!writer) return 'somebody';
  return `${writer.manager} (${[writer.operation, writer.at].filter(Boolean).join(' at ')})`;
}
