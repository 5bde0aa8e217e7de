/**
 * Who owns which field, and server-side apply. The rules are those of Kubernetes' structured merge: an apply owns the
 * fields that it names, a field that it changes and another manager owns is a conflict unless forced, and a field that
 * it named before, names no longer and nobody else owns is removed.
 */
import { ApiError } from './errors.ts';
import {
  difference,
  fieldsOf,
  isEmpty,
  overlap,
  ownable,
  removeFields,
  subtract,
  union,
  withHolders,
} from './fields.ts';
import {
  equal,
  type FieldSet,
  type Fields,
  isFields,
  type KubeObject,
  type ManagedField,
  timestamp,
} from './objects.ts';
import { isAtomicMap, isSet, keyOf, keysOfList, type Path } from './structure.ts';

export type Writer = { manager: string; subresource?: string };

/** The managers of an object after somebody changed it otherwise than by apply. */
export function managersAfterUpdate(before: KubeObject | undefined, after: KubeObject, writer: Writer): ManagedField[] {
  const { changed, removed } = difference(after.kind, before ? ownable(before) : {}, ownable(after));
  const managers = before?.metadata.managedFields ?? [];
  if (isEmpty(changed) && isEmpty(removed)) return managers;
  const others = managers.filter((field) => !isEntry(field, writer, 'Update'));
  const own = managers.find((field) => isEntry(field, writer, 'Update'));
  const fields = union(own ? subtract(own.fieldsV1, removed) : {}, changed);
  return entries(disowned(others, union(changed, removed)), after, writer, 'Update', fields, undefined);
}

/**
 * An object after a server-side apply, with its managers filled in.
 * @throws ApiError 409 naming every field that another manager owns, unless forced
 */
export function applied(live: KubeObject | undefined, wanted: KubeObject, writer: Writer, force: boolean): KubeObject {
  const kind = wanted.kind;
  const managers = live?.metadata.managedFields ?? [];
  const own = managers.find((field) => isEntry(field, writer, 'Apply'));
  const others = managers.filter((field) => field !== own);
  const named = fieldsOf(kind, ownable(wanted));

  let merged = merge(kind, live ? ownable(live) : {}, ownable(wanted), []) as Fields;
  const kept = [named, ...others.map(({ fieldsV1 }) => fieldsV1)].map(withHolders);
  const dropped = kept.reduce(subtract, own?.fieldsV1 ?? {});
  if (!isEmpty(dropped)) merged = removeFields(kind, merged, dropped) as Fields;

  const { changed } = difference(kind, live ? ownable(live) : {}, merged);
  const conflicts = others.flatMap((field) =>
    overlap(changed, field.fieldsV1).map((path) => ({ path, by: describe(field) })),
  );
  if (conflicts.length > 0 && !force) throw conflictError(conflicts);

  const { metadata, ...rest } = merged;
  const next: KubeObject = {
    ...rest,
    apiVersion: wanted.apiVersion,
    kind,
    metadata: { ...serverFields(live ?? wanted), ...(isFields(metadata) ? metadata : {}) },
  };
  next.metadata.managedFields = entries(disowned(others, changed), next, writer, 'Apply', named, own);
  return next;
}

function isEntry(field: ManagedField, writer: Writer, operation: ManagedField['operation']): boolean {
  return field.manager === writer.manager && field.operation === operation && field.subresource === writer.subresource;
}

function disowned(managers: ManagedField[], fields: FieldSet): ManagedField[] {
  return managers.flatMap((field) => {
    const fieldsV1 = subtract(field.fieldsV1, fields);
    return isEmpty(fieldsV1) ? [] : [equal(fieldsV1, field.fieldsV1) ? field : { ...field, fieldsV1 }];
  });
}

function entries(
  others: ManagedField[],
  object: KubeObject,
  { manager, subresource }: Writer,
  operation: ManagedField['operation'],
  fieldsV1: FieldSet,
  previous: ManagedField | undefined,
): ManagedField[] {
  if (isEmpty(fieldsV1)) return others;
  // An unchanged apply keeps its time, so that repeating it changes nothing.
  const time = previous && equal(previous.fieldsV1, fieldsV1) ? previous.time : timestamp();
  const { apiVersion } = object;
  const entry: ManagedField = { manager, operation, apiVersion, time, fieldsType: 'FieldsV1', fieldsV1 };
  return [...others, subresource ? { ...entry, subresource } : entry];
}

/** The metadata that an apply cannot change. */
function serverFields({ metadata }: KubeObject): KubeObject['metadata'] {
  const {
    labels: _,
    annotations: __,
    ownerReferences: ___,
    finalizers: ____,
    managedFields: _____,
    ...kept
  } = metadata;
  return kept;
}

function merge(kind: string, live: unknown, wanted: unknown, path: Path): unknown {
  if (isFields(wanted) && isFields(live) && !isAtomicMap(kind, path)) {
    const result: Fields = { ...live };
    for (const key of Object.keys(wanted)) result[key] = merge(kind, live[key], wanted[key], [...path, key]);
    return result;
  }
  if (!Array.isArray(wanted) || !Array.isArray(live)) return wanted;
  if (isSet(path)) return [...live, ...wanted.filter((item) => !live.includes(item))];
  const keys = keysOfList(kind, path);
  if (!keys) return wanted;
  const result: unknown[] = [...live];
  for (const item of wanted) {
    const key = keyOf(item, keys);
    const index = result.findIndex((one) => equal(keyOf(one, keys), key));
    if (index < 0) result.push(item);
    else result[index] = merge(kind, result[index], item, [...path, '*']);
  }
  return result;
}

function describe({ manager, operation, apiVersion, subresource }: ManagedField): string {
  const using = operation === 'Update' ? ` using ${apiVersion}` : '';
  return `"${manager}"${subresource ? ` with subresource "${subresource}"` : ''}${using}`;
}

function conflictError(conflicts: { path: string; by: string }[]): ApiError {
  const lines = conflicts.map(({ path, by }) => `conflict with ${by}: ${path}`);
  const count = `${conflicts.length} conflict${conflicts.length === 1 ? '' : 's'}`;
  return new ApiError(409, 'Conflict', `Apply failed with ${count}: ${lines.join('\n')}`, {
    causes: conflicts.map(({ path, by }) => ({
      reason: 'FieldManagerConflict',
      message: `conflict with ${by}`,
      field: path,
    })),
  });
}
