/** Field sets: who owns which field, in the notation of `metadata.managedFields[].fieldsV1`. */
import { equal, type FieldSet, type Fields, isFields, type KubeObject } from './objects.ts';
import { isAtomicMap, isSet, keyOf, keysOfList, type Path } from './structure.ts';

const unowned = new Set([
  'name',
  'namespace',
  'generateName',
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'managedFields',
]);

/** The parts of an object that managers own. */
export function ownable({ apiVersion: _, kind: __, metadata, ...rest }: KubeObject): Fields {
  const owned = Object.fromEntries(Object.entries(metadata).filter(([key]) => !unowned.has(key)));
  return Object.keys(owned).length > 0 ? { metadata: owned, ...rest } : rest;
}

/** The members of a map or keyed list as [segment, value, path], or undefined for a value that is owned as a whole. */
function membersOf(kind: string, value: unknown, path: Path): [string, unknown, Path][] | undefined {
  if (isFields(value)) {
    if (isAtomicMap(kind, path)) return undefined;
    return Object.keys(value)
      .filter((key) => value[key] !== undefined)
      .map((key) => [`f:${key}`, value[key], [...path, key]]);
  }
  if (!Array.isArray(value)) return undefined;
  if (isSet(path)) return value.map((item) => [`v:${JSON.stringify(item)}`, item, [...path, '*']]);
  const keys = keysOfList(kind, path);
  return keys && value.map((item) => [`k:${JSON.stringify(keyOf(item, keys))}`, item, [...path, '*']]);
}

/** Every field of a value. */
export function fieldsOf(kind: string, value: unknown, path: Path = []): FieldSet {
  const set: FieldSet = {};
  for (const [segment, member, memberPath] of membersOf(kind, value, path) ?? []) {
    set[segment] = fieldsOf(kind, member, memberPath);
    if (segment.startsWith('k:')) set[segment]['.'] = {};
  }
  return set;
}

export type Difference = { changed: FieldSet; removed: FieldSet };

/** The fields that differ between two forms of an object: set anew or changed, and gone. */
export function difference(kind: string, before: unknown, after: unknown, path: Path = []): Difference {
  const changed: FieldSet = {};
  const removed: FieldSet = {};
  const old = new Map((membersOf(kind, before, path) ?? []).map(([segment, member]) => [segment, member]));
  for (const [segment, member, memberPath] of membersOf(kind, after, path) ?? []) {
    if (!old.has(segment)) {
      changed[segment] = addedFields(kind, member, memberPath);
      continue;
    }
    const previous = old.get(segment);
    old.delete(segment);
    if (equal(previous, member)) continue;
    const inner = difference(kind, previous, member, memberPath);
    if (isEmpty(inner.changed) && isEmpty(inner.removed)) changed[segment] = {};
    if (!isEmpty(inner.changed)) changed[segment] = inner.changed;
    if (!isEmpty(inner.removed)) removed[segment] = inner.removed;
  }
  for (const segment of old.keys()) removed[segment] = {};
  return { changed, removed };
}

/** A map or list that came as a whole is itself a field, `.`, save the parts that every object of its kind has. */
function addedFields(kind: string, value: unknown, path: Path): FieldSet {
  const members = membersOf(kind, value, path) ?? [];
  const set: FieldSet = {};
  for (const [segment, member, memberPath] of members) set[segment] = addedFields(kind, member, memberPath);
  if (members.length > 0 && !alwaysThere.has(path.at(-1) ?? '')) set['.'] = {};
  return set;
}

const alwaysThere = new Set(['metadata', 'spec', 'status', 'template', 'strategy', 'containers', 'conditions']);

export function isEmpty(set: FieldSet): boolean {
  for (const _ in set) return false;
  return true;
}

export function union(a: FieldSet, b: FieldSet): FieldSet {
  const result = { ...a };
  for (const segment in b) result[segment] = union(a[segment] ?? {}, b[segment]!);
  return result;
}

/** The fields of `a` that are not in `b`; a leaf of `b` covers all below it. */
export function subtract(a: FieldSet, b: FieldSet): FieldSet {
  const result: FieldSet = {};
  for (const segment in a) {
    const mine = a[segment]!;
    const theirs = b[segment];
    if (!theirs) result[segment] = mine;
    else if (!isEmpty(theirs) && !isEmpty(mine)) {
      const rest = subtract(mine, theirs);
      if (Object.keys(rest).some((key) => key !== '.')) result[segment] = rest;
    } else if (!isEmpty(theirs)) result[segment] = mine;
  }
  return result;
}

/** The same with every map and list that holds one of the fields: who names a part of it names it. */
export function withHolders(set: FieldSet): FieldSet {
  const inner = Object.entries(set).map(([segment, below]) => [segment, withHolders(below)] as const);
  return inner.length === 0 ? {} : { '.': {}, ...Object.fromEntries(inner) };
}

/** The paths of the fields in both sets, as conflicts name them: `.spec.selector`. */
export function overlap(a: FieldSet, b: FieldSet, prefix = ''): string[] {
  const paths: string[] = [];
  for (const segment in a) {
    if (segment === '.') continue;
    const mine = a[segment]!;
    const theirs = b[segment];
    if (!theirs) continue;
    const path = `${prefix}${named(segment)}`;
    if (isEmpty(mine) || isEmpty(theirs)) paths.push(path);
    else paths.push(...overlap(mine, theirs, path));
  }
  return paths;
}

function named(segment: string): string {
  if (segment.startsWith('f:')) return `.${segment.slice(2)}`;
  if (segment.startsWith('v:')) return `[${segment.slice(2)}]`;
  const key = JSON.parse(segment.slice(2)) as Fields;
  const pairs = Object.entries(key).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  return `[${pairs.join(',')}]`;
}

/** A value without the fields of a set. */
export function removeFields(kind: string, value: unknown, set: FieldSet, path: Path = []): unknown {
  const kept = (membersOf(kind, value, path) ?? []).flatMap(([segment, member, memberPath]) => {
    const gone = set[segment];
    if (!gone) return [[segment, member] as const];
    if (isEmpty(gone) || gone['.']) return [];
    const rest = removeFields(kind, member, gone, memberPath);
    // A map or list that was emptied goes too: nobody asked for an empty one.
    const isLeft = Array.isArray(rest) ? rest.length > 0 : !isFields(rest) || Object.keys(rest).length > 0;
    return isLeft ? [[segment, rest] as const] : [];
  });
  if (Array.isArray(value)) return kept.map(([, member]) => member);
  return Object.fromEntries(kept.map(([segment, member]) => [segment.slice(2), member]));
}
