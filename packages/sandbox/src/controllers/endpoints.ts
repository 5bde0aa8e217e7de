import * as api from '../api.ts';
import { endpointLagOf } from '../faults.ts';
import {
  type Endpoint,
  type EndpointSlice,
  equal,
  isReady,
  type KubeObject,
  type Pod,
  type Service,
} from '../objects.ts';
import { matchesAll } from '../selectors.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { createQueue, keyFor, splitKey } from './queue.ts';
import { ownerReference } from './replicasets.ts';

const id = 'endpointslices.discovery.k8s.io';
export const serviceNameLabel = 'kubernetes.io/service-name';
const managedByLabel = 'endpointslice.kubernetes.io/managed-by';
const manager = 'endpointslice-controller.k8s.io';

/** Writes one EndpointSlice for each Service with a selector: its pods that have an address, and their readiness. */
export function endpointController({ cluster, faults, log }: ControllerContext): Controller {
  const { store, registry } = cluster;
  const slices = registry.byId(id);
  const queue = createQueue(reconcile, log);

  function ask(service: KubeObject): void {
    queue.add(keyFor(service), endpointLagOf(service as Service, faults));
  }

  function reconcile(key: string): void {
    const service = store.get('services', ...splitKey(key))?.object as Service | undefined;
    if (!service || !hasEndpoints(service)) return;
    const existing = sliceOf(service);
    const pods = podsOf(service);
    const endpoints = pods.map((pod) => endpointOf(pod, service.spec.publishNotReadyAddresses === true));
    endpoints.sort((a, b) => (a.addresses[0]! < b.addresses[0]! ? -1 : 1));
    const desired = {
      metadata: { labels: sliceLabels(service) },
      addressType: 'IPv4',
      endpoints: endpoints.length > 0 ? endpoints : null,
      ports: endpoints.length > 0 ? portsOf(service, pods[0]!) : null,
    };
    if (!existing) return createSlice(service, desired);
    const next = {
      ...existing,
      ...desired,
      metadata: { ...existing.metadata, labels: desired.metadata.labels },
    } as KubeObject;
    if (equal(existing, next)) return;
    next.metadata = { ...next.metadata, generation: (existing.metadata.generation ?? 0) + 1 };
    store.put(id, next);
  }

  function sliceOf(service: Service): EndpointSlice | undefined {
    const owned = store.dependants(service.metadata.uid).find((entry) => entry.id === id);
    return owned?.object as EndpointSlice | undefined;
  }

  function createSlice(service: Service, desired: object & { metadata: object }): void {
    const { namespace = '', name } = service.metadata;
    const metadata = { ...desired.metadata, generateName: `${name}-`, ownerReferences: [ownerReference(service)] };
    const body = { ...desired, metadata };
    const created = api.create(cluster, { resource: slices, version: 'v1', namespace }, body, { manager });
    // The API shows an empty slice's lists as null, which a body cannot say.
    const { endpoints = null, ports = null } = created.object;
    if (endpoints === null) store.put(id, { ...created.object, endpoints, ports });
  }

  function podsOf(service: Service): Pod[] {
    return store
      .list('pods', service.metadata.namespace)
      .map((entry) => entry.object as Pod)
      .filter((pod) => pod.status?.podIP && matchesAll(service.spec.selector ?? {}, pod.metadata.labels));
  }

  return {
    start() {
      for (const { object } of store.list('services')) queue.add(keyFor(object));
    },
    changed({ type, entry, previous }) {
      if (entry.id === 'services' && type !== 'DELETED') return ask(entry.object);
      if (entry.id === id && type === 'DELETED') {
        const name = entry.object.metadata.labels?.[serviceNameLabel];
        const service = name && store.get('services', entry.object.metadata.namespace ?? '', name);
        if (service) ask(service.object);
      }
      if (entry.id !== 'pods') return;
      for (const { object } of store.list('services', entry.object.metadata.namespace)) {
        const { selector } = (object as Service).spec;
        if (!selector || !hasEndpoints(object as Service)) continue;
        const touches = [entry, previous].some((pod) => pod && matchesAll(selector, pod.object.metadata.labels));
        if (touches) ask(object);
      }
    },
    stop: () => queue.stop(),
  };
}

function hasEndpoints({ spec, metadata }: Service): boolean {
  const selects = spec.selector !== undefined && Object.keys(spec.selector).length > 0;
  return selects && spec.type !== 'ExternalName' && !metadata.deletionTimestamp;
}

function sliceLabels({ metadata, spec }: Service): Record<string, string> {
  const headless = spec.clusterIP === 'None' ? { 'service.kubernetes.io/headless': '' } : {};
  return { ...metadata.labels, ...headless, [managedByLabel]: manager, [serviceNameLabel]: metadata.name };
}

function endpointOf(pod: Pod, publishNotReady: boolean): Endpoint {
  const { name, namespace = '', uid, deletionTimestamp } = pod.metadata;
  const serving = isReady(pod);
  const terminating = deletionTimestamp !== undefined;
  return {
    addresses: [pod.status!.podIP!],
    conditions: { ready: publishNotReady || (serving && !terminating), serving, terminating },
    nodeName: pod.spec.nodeName ?? '',
    targetRef: { kind: 'Pod', namespace, name, uid },
  };
}

function portsOf(
  { spec }: Service,
  pod: Pod,
): { name: string; port: number; protocol: string; appProtocol?: string }[] {
  const containerPorts = pod.spec.containers.flatMap((container) => container.ports ?? []);
  return (spec.ports ?? []).flatMap(({ name = '', port, targetPort = port, protocol = 'TCP', appProtocol }) => {
    const number =
      typeof targetPort === 'number'
        ? targetPort
        : containerPorts.find((one) => one.name === targetPort)?.containerPort;
    return number === undefined ? [] : [{ name, port: number, protocol, ...(appProtocol ? { appProtocol } : {}) }];
  });
}
