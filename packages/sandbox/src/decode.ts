import { badRequest } from './errors.ts';
import { type Fields, isFields, type KubeObject } from './objects.ts';
import { groupVersion, type Target } from './resources.ts';
import { checkTypes } from './types.ts';

/** Checks that a body is an object of this kind whose fields have the types that the kind gives them. */
export function decode({ resource, version, namespace }: Omit<Target, 'name'>, body: unknown): KubeObject {
  if (!isFields(body)) throw badRequest('the body of the request must be an object');
  const { apiVersion = groupVersion(resource, version), kind = resource.kind, metadata, ...rest } = body;
  if (apiVersion !== groupVersion(resource, version)) {
    const expected = groupVersion(resource, version);
    throw badRequest(
      `the API version in the data (${String(apiVersion)}) does not match the expected API version (${expected})`,
    );
  }
  if (kind !== resource.kind) {
    throw badRequest(`the kind in the data (${String(kind)}) does not match the expected kind (${resource.kind})`);
  }
  const object = withoutNulls({ apiVersion, kind, metadata: metadata ?? {}, ...rest }) as KubeObject;
  checkTypes(resource, object);
  const given = object.metadata.namespace;
  if (given && given !== namespace) {
    throw badRequest(
      `the namespace of the provided object does not match the namespace sent on the request (${given}, ${namespace})`,
    );
  }
  return object;
}

function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (!isFields(value)) return value;
  const kept: Fields = {};
  for (const key in value) if (value[key] !== null) kept[key] = withoutNulls(value[key]);
  return kept;
}
