/**
 * How the lists and maps of the built-in kinds merge: which lists are keyed by a field, which are sets, and which maps
 * are replaced as a whole. Custom resources have none of these but in their metadata.
 * Source: the x-kubernetes-list-type, -list-map-keys and -map-type marks of the Kubernetes 1.35 API.
 */
import { type Fields, isFields } from './objects.ts';

/** A path from the root of an object; the items of a list are a `*`. */
export type Path = readonly string[];

const listKeys: Record<string, string[]> = {
  containers: ['name'],
  initContainers: ['name'],
  ephemeralContainers: ['name'],
  volumes: ['name'],
  env: ['name'],
  imagePullSecrets: ['name'],
  volumeMounts: ['mountPath'],
  hostAliases: ['ip'],
  conditions: ['type'],
  ownerReferences: ['uid'],
};

const atomicMaps = new Set([
  'Service spec.selector',
  'Deployment spec.selector',
  'ReplicaSet spec.selector',
  'StatefulSet spec.selector',
]);

/** The fields that identify an item of a list, or undefined where the list is replaced as a whole. */
export function keysOfList(kind: string, path: Path): string[] | undefined {
  const name = path.at(-1) ?? '';
  if (name === 'ownerReferences') return path.length === 2 ? listKeys[name] : undefined;
  if (!mergedKinds.has(kind)) return undefined;
  if (name === 'ports') {
    if (kind === 'Service' && path.length === 2) return ['port', 'protocol'];
    return path.at(-3) === 'containers' ? ['containerPort', 'protocol'] : undefined;
  }
  return listKeys[name];
}

const mergedKinds = new Set(['Service', 'Deployment', 'ReplicaSet', 'StatefulSet', 'Pod', 'Node', 'Namespace']);

export function isSet(path: Path): boolean {
  return path.length === 2 && path[0] === 'metadata' && path[1] === 'finalizers';
}

export function isAtomicMap(kind: string, path: Path): boolean {
  return atomicMaps.has(`${kind} ${path.join('.')}`);
}

/** The key values of a list's item; a missing protocol is TCP, which is its default everywhere. */
export function keyOf(item: unknown, keys: string[]): Fields {
  const fields = isFields(item) ? item : {};
  return Object.fromEntries(keys.map((key) => [key, fields[key] ?? (key === 'protocol' ? 'TCP' : null)]));
}
