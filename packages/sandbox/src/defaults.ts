import { equal, type Fields, isFields, type KubeObject, type Service } from './objects.ts';
import type { Resource } from './resources.ts';
import { prune } from './schema.ts';
import type { Store } from './store.ts';

/** Fills in what the API server fills in, so that reading back, comparing and re-applying behave as they do there. */
export function withDefaults(
  store: Store,
  resource: Resource,
  object: KubeObject,
  old: KubeObject | undefined,
): KubeObject {
  if (resource.custom) return pruned(resource, object);
  const fill = defaults[resource.id];
  return fill ? fill(object, old, store) : object;
}

function pruned(resource: Resource, object: KubeObject): KubeObject {
  const version = object.apiVersion.slice(object.apiVersion.indexOf('/') + 1);
  const schema = resource.custom?.schemas[version];
  if (!schema?.properties) return object;
  const { apiVersion, kind, metadata, ...rest } = object;
  return { ...(prune(schema, rest) as Fields), apiVersion, kind, metadata };
}

type Default = (object: KubeObject, old: KubeObject | undefined, store: Store) => KubeObject;

const defaults: Record<string, Default> = {
  namespaces: (object) => ({
    ...object,
    metadata: {
      ...object.metadata,
      labels: { ...object.metadata.labels, 'kubernetes.io/metadata.name': object.metadata.name },
    },
    spec: { finalizers: ['kubernetes'], ...fieldsAt(object, 'spec') },
    status: { phase: 'Active', ...fieldsAt(object, 'status') },
  }),
  services: serviceDefaults,
  secrets(object) {
    const { stringData, ...rest } = object;
    const encoded = isFields(stringData)
      ? Object.entries(stringData).map(([key, value]) => [key, Buffer.from(String(value)).toString('base64')])
      : [];
    const data = { ...fieldsAt(object, 'data'), ...Object.fromEntries(encoded) };
    return { ...rest, ...(Object.keys(data).length > 0 ? { data } : {}), type: object.type ?? 'Opaque' };
  },
  pods: (object) => ({
    ...object,
    spec: podSpec(object.spec),
    status: { phase: 'Pending', qosClass: 'BestEffort', ...fieldsAt(object, 'status') },
  }),
  'replicasets.apps': (object) => ({
    ...workload(object, {}),
    status: { replicas: 0, ...fieldsAt(object, 'status') },
  }),
  'deployments.apps': (object) => {
    const strategy = fieldsAt(fieldsAt(object, 'spec'), 'strategy');
    const rolling = { maxSurge: '25%', maxUnavailable: '25%', ...fieldsAt(strategy, 'rollingUpdate') };
    const type = strategy.type ?? 'RollingUpdate';
    return workload(object, {
      revisionHistoryLimit: 10,
      progressDeadlineSeconds: 600,
      ...fieldsAt(object, 'spec'),
      strategy: type === 'RollingUpdate' ? { rollingUpdate: rolling, type } : { type },
    });
  },
  'statefulsets.apps': (object) => workload(object, {}),
  'horizontalpodautoscalers.autoscaling': (object) => ({
    ...object,
    spec: { minReplicas: 1, ...fieldsAt(object, 'spec') },
  }),
};

function workload(object: KubeObject, spec: Fields): KubeObject {
  const whole: Fields = { replicas: 1, ...fieldsAt(object, 'spec'), ...spec };
  const template = fieldsAt(whole, 'template');
  const { creationTimestamp: _, ...metadata } = fieldsAt(template, 'metadata');
  return { ...object, spec: { ...whole, template: { ...template, metadata, spec: podSpec(template.spec) } } };
}

function podSpec(spec: unknown): unknown {
  if (!isFields(spec)) return spec;
  return {
    restartPolicy: 'Always',
    terminationGracePeriodSeconds: 30,
    dnsPolicy: 'ClusterFirst',
    securityContext: {},
    schedulerName: 'default-scheduler',
    ...spec,
    ...(Array.isArray(spec.containers) ? { containers: spec.containers.map(container) } : {}),
    ...(Array.isArray(spec.initContainers) ? { initContainers: spec.initContainers.map(container) } : {}),
  };
}

function container(item: unknown): unknown {
  if (!isFields(item)) return item;
  const latest = /(^[^:]*|\/[^:]*|:latest)$/.test(String(item.image ?? ''));
  return {
    imagePullPolicy: latest ? 'Always' : 'IfNotPresent',
    resources: {},
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
    ...item,
    ...(Array.isArray(item.ports) ? { ports: item.ports.map(withProtocol) } : {}),
  };
}

function withProtocol(port: unknown): unknown {
  return isFields(port) ? { protocol: 'TCP', ...port } : port;
}

function serviceDefaults(object: KubeObject, old: KubeObject | undefined, store: Store): KubeObject {
  const before = (old as Service | undefined)?.spec;
  const spec: Fields = { type: 'ClusterIP', sessionAffinity: 'None', ...fieldsAt(object, 'spec') };
  const taken = Array.isArray(spec.ports) ? spec.ports : undefined;
  const outside = spec.type === 'NodePort' || spec.type === 'LoadBalancer';
  if (taken) {
    spec.ports = taken.map((port, index) => {
      if (!isFields(port)) return port;
      const nodePort = port.nodePort ?? before?.ports?.[index]?.nodePort;
      const whole: Fields = { protocol: 'TCP', ...port, targetPort: port.targetPort ?? port.port };
      const { nodePort: _, ...rest } = whole;
      return outside ? { ...rest, nodePort: nodePort ?? freeNodePort(store, object, index) } : rest;
    });
  }
  if (spec.type === 'ExternalName') return { ...object, spec };
  spec.clusterIP ??= before?.clusterIP ?? freeAddress(store);
  spec.clusterIPs =
    equal(spec.clusterIPs, before?.clusterIPs) && before?.clusterIPs ? spec.clusterIPs : [spec.clusterIP];
  spec.internalTrafficPolicy ??= 'Cluster';
  spec.ipFamilies ??= ['IPv4'];
  spec.ipFamilyPolicy ??= 'SingleStack';
  if (outside) spec.externalTrafficPolicy ??= 'Cluster';
  return { ...object, spec, status: { loadBalancer: {}, ...fieldsAt(object, 'status') } };
}

function freeAddress(store: Store): string {
  const used = new Set(store.list('services').map(({ object }) => (object as Service).spec.clusterIP));
  for (let number = store.version() % 60_000; ; number++) {
    const address = `10.96.${(number >> 8) & 255}.${number & 255}`;
    if ((number & 255) !== 0 && !used.has(address)) return address;
  }
}

function freeNodePort(store: Store, object: KubeObject, index: number): number {
  const used = new Set(
    store
      .list('services')
      .filter((entry) => entry.object.metadata.uid !== object.metadata.uid)
      .flatMap((entry) => (entry.object as Service).spec.ports?.map((port) => port.nodePort) ?? []),
  );
  let port = 30_000 + index;
  while (used.has(port)) port++;
  return port;
}

function fieldsAt(parent: Fields, key: string): Fields {
  const value = parent[key];
  return isFields(value) ? value : {};
}
