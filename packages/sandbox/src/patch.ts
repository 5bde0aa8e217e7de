import { ApiError, badRequest } from './errors.ts';
import { equal, type Fields, isFields } from './objects.ts';
import { keyOf, keysOfList, type Path } from './structure.ts';

/** JSON merge patch, RFC 7386. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isFields(patch)) return patch;
  const result: Fields = isFields(target) ? { ...target } : {};
  for (const key of Object.keys(patch)) {
    if (patch[key] === null) delete result[key];
    else result[key] = mergePatch(result[key], patch[key]);
  }
  return result;
}

/**
 * JSON patch, RFC 6902.
 * @throws ApiError 400 for a patch that cannot be read, 422 where it does not fit the document (also a failed `test`)
 */
export function jsonPatch(document: unknown, patch: unknown): unknown {
  if (!Array.isArray(patch)) throw badRequest('json: cannot unmarshal object into Go value of type jsonpatch.Patch');
  const root = { document: structuredClone(document) };
  for (const operation of patch as unknown[]) {
    if (!isFields(operation) || typeof operation.path !== 'string') throw badRequest('invalid JSON patch operation');
    const path = pointer(operation.path);
    const from = typeof operation.from === 'string' ? pointer(operation.from) : undefined;
    switch (operation.op) {
      case 'add':
        insert(root, path, operation.value);
        break;
      case 'remove':
        take(root, path);
        break;
      case 'replace':
        take(root, path);
        insert(root, path, operation.value);
        break;
      case 'move':
        if (!from) throw badRequest('a move operation needs from');
        insert(root, path, take(root, from));
        break;
      case 'copy':
        if (!from) throw badRequest('a copy operation needs from');
        insert(root, path, structuredClone(look(root, from)));
        break;
      case 'test':
        if (!equal(look(root, path), operation.value)) throw unfit();
        break;
      default:
        throw badRequest(`unexpected kind of JSON patch operation: ${String(operation.op)}`);
    }
  }
  return root.document;
}

function unfit(): ApiError {
  return new ApiError(422, 'Invalid', 'the server rejected our request due to an error in our request', {});
}

function pointer(text: string): string[] {
  if (text !== '' && !text.startsWith('/')) throw badRequest(`invalid JSON pointer: ${text}`);
  const segments = text.split('/').slice(1);
  return ['document', ...segments.map((segment) => segment.replaceAll('~1', '/').replaceAll('~0', '~'))];
}

function look(root: unknown, path: string[]): unknown {
  return path.reduce<unknown>((value, segment) => {
    if (Array.isArray(value) && value[Number(segment)] !== undefined) return value[Number(segment)];
    if (isFields(value) && Object.hasOwn(value, segment)) return value[segment];
    throw unfit();
  }, root);
}

function insert(root: unknown, path: string[], value: unknown): void {
  const last = path.at(-1)!;
  const parent = look(root, path.slice(0, -1));
  if (Array.isArray(parent)) {
    const index = last === '-' ? parent.length : Number(last);
    if (!Number.isInteger(index) || index < 0 || index > parent.length) throw unfit();
    parent.splice(index, 0, value);
  } else if (isFields(parent)) parent[last] = value;
  else throw unfit();
}

function take(root: unknown, path: string[]): unknown {
  const value = look(root, path);
  const last = path.at(-1)!;
  const parent = look(root, path.slice(0, -1));
  if (Array.isArray(parent)) parent.splice(Number(last), 1);
  else delete (parent as Fields)[last];
  return value;
}

/**
 * Strategic merge patch as kubectl sends it for built-in kinds: keyed lists merge by key, `$patch: delete | replace`,
 * `$deleteFromPrimitiveList`; the other directives only order things and are passed over.
 */
export function strategicMerge(kind: string, target: unknown, patch: unknown, path: Path = []): unknown {
  if (Array.isArray(patch)) return mergeList(kind, target, patch, path);
  if (!isFields(patch)) return patch;
  if (patch.$patch === 'replace') {
    const { $patch: _, ...whole } = patch;
    return whole;
  }
  const result: Fields = isFields(target) ? { ...target } : {};
  for (const key of Object.keys(patch)) {
    if (key.startsWith('$deleteFromPrimitiveList/')) {
      const list = key.slice('$deleteFromPrimitiveList/'.length);
      const gone = patch[key] as unknown[];
      if (Array.isArray(result[list])) result[list] = result[list].filter((item) => !gone.includes(item));
    } else if (key.startsWith('$')) continue;
    else if (patch[key] === null) delete result[key];
    else result[key] = strategicMerge(kind, result[key], patch[key], [...path, key]);
  }
  return result;
}

function mergeList(kind: string, target: unknown, patch: unknown[], path: Path): unknown {
  const keys = keysOfList(kind, path)?.slice(0, 1);
  if (!keys || patch.some((item) => isFields(item) && item.$patch === 'replace')) {
    return patch.filter((item) => !isFields(item) || item.$patch === undefined);
  }
  const result: unknown[] = Array.isArray(target) ? [...target] : [];
  for (const item of patch) {
    const key = keyOf(item, keys);
    const index = result.findIndex((one) => equal(keyOf(one, keys), key));
    if (isFields(item) && item.$patch === 'delete') {
      if (index >= 0) result.splice(index, 1);
    } else if (index >= 0) result[index] = strategicMerge(kind, result[index], item, [...path, '*']);
    else result.push(item);
  }
  return result;
}
