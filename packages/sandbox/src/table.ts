/** `Table` of meta.k8s.io/v1, which kubectl asks for to print. */
import {
  type Deployment,
  type EndpointSlice,
  type Fields,
  isFields,
  isReady,
  type KubeObject,
  type Pod,
  type ReplicaSet,
  type Service,
} from './objects.ts';
import type { Resource } from './resources.ts';
import type { Entry } from './store.ts';

type Column = { name: string; type: string; format?: string; description?: string; priority: number };
/** `unnamed`: the name is no column in front. */
type Printer = { columns: Column[]; cells: (object: KubeObject) => unknown[]; unnamed?: true };

export type IncludeObject = 'Metadata' | 'Object' | 'None';

/** The table of some entries as JSON text. */
export function renderTable(
  resource: Resource,
  version: string,
  entries: Entry[],
  include: IncludeObject,
  metadata: Fields,
): string {
  const { columns, cells, unnamed } = printerOf(resource, version);
  const rows = entries.map(({ object, json }) => {
    const shown =
      include === 'Object'
        ? json
        : JSON.stringify({
            kind: 'PartialObjectMetadata',
            apiVersion: 'meta.k8s.io/v1',
            metadata: { ...object.metadata, managedFields: undefined },
          });
    const part = include === 'None' ? '' : `,"object":${shown}`;
    const named = unnamed ? [] : [object.metadata.name];
    return `{"cells":${JSON.stringify([...named, ...cells(object)])}${part}}`;
  });
  const head = JSON.stringify({
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata,
    columnDefinitions: [...(unnamed ? [] : [{ ...column('Name'), format: 'name' }]), ...columns],
  });
  return `${head.slice(0, -1)},"rows":[${rows.join(',')}]}`;
}

function column(name: string, priority = 0): Column {
  return { name, type: 'string', format: '', description: '', priority };
}

const age = column('Age');
const ageOf = (object: KubeObject) => humanDuration(Date.now() - Date.parse(object.metadata.creationTimestamp));

function printerOf(resource: Resource, version: string): Printer {
  const custom = resource.custom?.columns[version];
  if (!custom) return printers[resource.id] ?? { columns: [age], cells: (object) => [ageOf(object)] };
  return {
    columns: [
      ...custom.map(({ name, type, description = '', priority = 0 }) => ({ name, type, description, priority })),
      age,
    ],
    cells: (object) => [...custom.map((one) => readPath(object, one.jsonPath)), ageOf(object)],
  };
}

/** The simple paths that printer columns use: `.spec.backends[0].weight`, `[*]` joins. */
function readPath(object: unknown, path: string): unknown {
  const segments = path.match(/[^.[\]]+/g) ?? [];
  const values = segments.reduce<unknown[]>(
    (found, segment) =>
      found.flatMap((value) => {
        if (Array.isArray(value)) return segment === '*' ? value : [value[Number(segment)]];
        return isFields(value) ? [value[segment]] : [];
      }),
    [object],
  );
  const known = values.filter((value) => value !== undefined && value !== null);
  return known.length > 1 ? known.join(',') : known[0];
}

const printers: Record<string, Printer> = {
  namespaces: {
    columns: [column('Status'), age],
    cells: (object) => [fieldsAt(object, 'status').phase, ageOf(object)],
  },
  nodes: {
    columns: [column('Status'), column('Roles'), age, column('Version')],
    cells: (object) => [
      'Ready',
      '<none>',
      ageOf(object),
      fieldsAt(fieldsAt(object, 'status'), 'nodeInfo').kubeletVersion,
    ],
  },
  services: {
    columns: [
      column('Type'),
      column('Cluster-IP'),
      column('External-IP'),
      column('Port(s)'),
      age,
      column('Selector', 1),
    ],
    cells(object) {
      const { type, clusterIP, ports = [], selector } = (object as Service).spec;
      const shown = ports.map(({ port, nodePort, protocol }) => `${port}${nodePort ? `:${nodePort}` : ''}/${protocol}`);
      const external = fieldsAt(object, 'spec').externalName ?? '<none>';
      return [type, clusterIP ?? '<none>', external, shown.join(',') || '<none>', ageOf(object), pairs(selector)];
    },
  },
  pods: {
    columns: [column('Ready'), column('Status'), column('Restarts'), age, column('IP', 1), column('Node', 1)],
    cells(object) {
      const pod = object as Pod;
      const statuses = pod.status?.containerStatuses ?? [];
      const ready = `${statuses.filter((status) => status.ready).length}/${pod.spec.containers.length}`;
      const restarts = statuses.reduce((sum, status) => sum + status.restartCount, 0);
      return [ready, podState(pod), String(restarts), ageOf(object), pod.status?.podIP ?? '<none>', pod.spec.nodeName];
    },
  },
  configmaps: {
    columns: [column('Data'), age],
    cells: (object) => [String(Object.keys(fieldsAt(object, 'data')).length), ageOf(object)],
  },
  secrets: {
    columns: [column('Type'), column('Data'), age],
    cells: (object) => [object.type, String(Object.keys(fieldsAt(object, 'data')).length), ageOf(object)],
  },
  events: {
    unnamed: true,
    columns: [
      column('Last Seen'),
      column('Type'),
      column('Reason'),
      column('Object'),
      column('Source', 1),
      column('Message'),
      column('Count', 1),
      { ...column('Name', 1), format: 'name' },
    ],
    cells(object) {
      const about = fieldsAt(object, 'involvedObject');
      const seen = Date.parse(String(object.lastTimestamp ?? object.eventTime ?? object.metadata.creationTimestamp));
      const subject = `${String(about.kind).toLowerCase()}/${String(about.name)}`;
      const source = fieldsAt(object, 'source').component ?? object.reportingComponent;
      const words = [object.type, object.reason, subject, source, object.message, object.count ?? 1];
      return [humanDuration(Date.now() - seen), ...words, object.metadata.name];
    },
  },
  'deployments.apps': {
    columns: [column('Ready'), column('Up-to-date'), column('Available'), age, ...workloadColumns()],
    cells(object) {
      const { spec, status } = object as Deployment;
      const ready = `${status?.readyReplicas ?? 0}/${spec.replicas}`;
      const counts = [String(status?.updatedReplicas ?? 0), String(status?.availableReplicas ?? 0)];
      return [ready, ...counts, ageOf(object), ...workloadCells(object as Deployment)];
    },
  },
  'replicasets.apps': {
    columns: [column('Desired'), column('Current'), column('Ready'), age, ...workloadColumns()],
    cells(object) {
      const { spec, status } = object as ReplicaSet;
      const counts = [spec.replicas, status?.replicas ?? 0, status?.readyReplicas ?? 0].map(String);
      return [...counts, ageOf(object), ...workloadCells(object as ReplicaSet)];
    },
  },
  'endpointslices.discovery.k8s.io': {
    columns: [column('AddressType'), column('Ports'), column('Endpoints'), age],
    cells(object) {
      const { addressType, endpoints, ports } = object as EndpointSlice;
      const numbers = Array.isArray(ports) ? (ports as Fields[]).map((port) => port.port) : [];
      const addresses = (endpoints ?? []).flatMap((endpoint) => endpoint.addresses);
      const more = addresses.length > 3 ? ` + ${addresses.length - 3} more...` : '';
      const shown = addresses.slice(0, 3).join(',') + more;
      return [addressType, numbers.join(',') || '<unset>', shown || '<unset>', ageOf(object)];
    },
  },
  'customresourcedefinitions.apiextensions.k8s.io': {
    columns: [column('Created At')],
    cells: (object) => [object.metadata.creationTimestamp],
  },
};

function workloadColumns(): Column[] {
  return [column('Containers', 1), column('Images', 1), column('Selector', 1)];
}

function workloadCells({ spec }: Deployment | ReplicaSet): string[] {
  const { containers } = spec.template.spec;
  const names = containers.map((container) => container.name);
  return [names.join(','), containers.map((container) => container.image).join(','), pairs(spec.selector.matchLabels)];
}

function podState(pod: Pod): string {
  if (pod.metadata.deletionTimestamp) return 'Terminating';
  for (const { state } of pod.status?.containerStatuses ?? []) {
    const waiting = fieldsAt(state, 'waiting').reason;
    if (waiting) return String(waiting);
  }
  return isReady(pod) ? 'Running' : (pod.status?.phase ?? 'Pending');
}

function pairs(labels: Record<string, string> | undefined): string {
  const all = Object.entries(labels ?? {}).map(([key, value]) => `${key}=${value}`);
  return all.join(',') || '<none>';
}

function fieldsAt(parent: Fields, key: string): Fields {
  const value = parent[key];
  return isFields(value) ? value : {};
}

/** A duration as kubectl prints ages: `42s`, `3m10s`, `5h`, `2d`. */
function humanDuration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return seconds % 60 ? `${minutes}m${seconds % 60}s` : `${minutes}m`;
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours}h` : `${Math.floor(hours / 24)}d`;
}
