/** What refuses the creation of an object that is valid in itself. */

import { ApiError, type Cause, forbidden, invalid } from './errors.ts';
import type { KubeObject, Service } from './objects.ts';
import type { Resource, Target } from './resources.ts';
import type { Cluster, Store } from './store.ts';

/**
 * Checks that the namespace takes the object, that quotas leave room for it and that what it claims is free.
 * @throws ApiError 404, 403 or 422
 */
export function admit({ store }: Cluster, target: Omit<Target, 'name'>, object: KubeObject): void {
  if (target.namespace) checkNamespace(store, target, object.metadata.name);
  if (target.namespace) checkQuotas(store, target, object.metadata.name);
}

function checkNamespace(store: Store, { resource, namespace }: Omit<Target, 'name'>, name: string): void {
  const space = store.get('namespaces', '', namespace)?.object;
  if (!space) {
    const details = { name: namespace, kind: 'namespaces' };
    throw new ApiError(404, 'NotFound', `namespaces "${namespace}" not found`, details);
  }
  if (space.metadata.deletionTimestamp) {
    const why = `unable to create new content in namespace ${namespace} because it is being terminated`;
    const message = `namespace ${namespace} is being terminated`;
    throw forbidden(resource, name, why, [{ reason: 'NamespaceTerminating', message, field: 'metadata.namespace' }]);
  }
}

/** Counts of objects only: `pods`, `services`, `count/deployments.apps`. */
function checkQuotas(store: Store, { resource, namespace }: Omit<Target, 'name'>, name: string): void {
  for (const { object } of store.list('resourcequotas', namespace)) {
    const { hard = {} } = (object.spec ?? {}) as { hard?: Record<string, string> };
    for (const key of [resource.id, `count/${resource.id}`]) {
      const limit = hard[key];
      const used = store.list(resource.id, namespace).length;
      if (limit === undefined || used < Number(limit)) continue;
      const sums = `requested: ${key}=1, used: ${key}=${used}, limited: ${key}=${limit}`;
      throw forbidden(resource, name, `exceeded quota: ${object.metadata.name}, ${sums}`);
    }
  }
}

/**
 * Refuses a Service that asks for a node port or an address of another. As in the real API this comes before the
 * question whether its own name is taken.
 * @throws ApiError 422
 */
export function checkAllocations(store: Store, resource: Resource, object: KubeObject): void {
  if (resource.id !== 'services') return;
  const { clusterIP, ports = [] } = (object as Service).spec ?? {};
  const others = store.list('services').map((entry) => (entry.object as Service).spec);
  const causes: Cause[] = [];
  if (clusterIP && clusterIP !== 'None' && others.some((other) => other.clusterIP === clusterIP)) {
    const why = `failed to allocate IP ${clusterIP}: provided IP is already allocated`;
    causes.push(taken('spec.clusterIPs', [clusterIP], why));
  }
  for (const [index, { nodePort }] of ports.entries()) {
    const isTaken = others.some((other) => other.ports?.some((port) => port.nodePort === nodePort));
    if (!nodePort || !isTaken) continue;
    causes.push(taken(`spec.ports[${index}].nodePort`, nodePort, 'provided port is already allocated'));
  }
  if (causes.length > 0) throw invalid(resource, object.metadata.name, causes);
}

function taken(field: string, value: unknown, why: string): Cause {
  return { reason: 'FieldValueInvalid', message: `Invalid value: ${JSON.stringify(value)}: ${why}`, field };
}
