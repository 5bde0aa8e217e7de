import type { Resource } from './resources.ts';

export type Cause = { reason: string; message: string; field: string };

/** `Status` of meta/v1, as the API answers errors. */
export type Status = {
  kind: 'Status';
  apiVersion: 'v1';
  metadata: Record<string, never>;
  status: 'Failure' | 'Success';
  message?: string;
  reason?: string;
  details?: {
    name?: string;
    group?: string;
    kind?: string;
    uid?: string;
    causes?: Cause[];
    retryAfterSeconds?: number;
  };
  code: number;
};

export class ApiError extends Error {
  readonly status: Status;
  constructor(code: number, reason: string, message: string, details?: Status['details']) {
    super(message);
    this.status = {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message,
      ...(reason ? { reason } : {}),
      ...(details ? { details } : {}),
      code,
    };
  }
}

function about(resource: Resource, name: string) {
  return { name, ...(resource.group ? { group: resource.group } : {}), kind: resource.plural };
}

export function notFound(resource: Resource, name: string): ApiError {
  return new ApiError(404, 'NotFound', `${resource.id} "${name}" not found`, about(resource, name));
}

export function alreadyExists(resource: Resource, name: string): ApiError {
  return new ApiError(409, 'AlreadyExists', `${resource.id} "${name}" already exists`, about(resource, name));
}

const modified = 'the object has been modified; please apply your changes to the latest version and try again';

export function conflict(resource: Resource, name: string, why: string = modified): ApiError {
  const message = `Operation cannot be fulfilled on ${resource.id} "${name}": ${why}`;
  return new ApiError(409, 'Conflict', message, about(resource, name));
}

export function invalid(resource: Resource, name: string, causes: Cause[]): ApiError {
  const lines = causes.map((cause) => `${cause.field}: ${cause.message}`);
  const text = lines.length === 1 ? lines[0] : `[${lines.join(', ')}]`;
  return new ApiError(422, 'Invalid', `${resource.kind}${qualified(resource)} "${name}" is invalid: ${text}`, {
    name,
    ...(resource.group ? { group: resource.group } : {}),
    kind: resource.kind,
    causes,
  });
}

function qualified(resource: Resource): string {
  return resource.group ? `.${resource.group}` : '';
}

export function badRequest(message: string): ApiError {
  return new ApiError(400, 'BadRequest', message);
}

export function forbidden(resource: Resource, name: string, why: string, causes?: Cause[]): ApiError {
  const details = { ...about(resource, name), ...(causes ? { causes } : {}) };
  return new ApiError(403, 'Forbidden', `${resource.id} "${name}" is forbidden: ${why}`, details);
}

export function expired(version: number, oldest: number): ApiError {
  return new ApiError(410, 'Expired', `too old resource version: ${version} (${oldest})`);
}

export function unsupportedMediaType(message: string): ApiError {
  return new ApiError(415, 'UnsupportedMediaType', message);
}

export function noSuchPath(): ApiError {
  return new ApiError(404, 'NotFound', 'the server could not find the requested resource', {});
}

/** Why an object that was deleted and made again is not the one that a PUT or an apply means. */
export function uidMismatch(wanted: string, actual: string): string {
  return `Precondition failed: UID in precondition: ${wanted}, UID in object meta: ${actual}`;
}

/** A deletion names the kind where all others name the resource. */
export function deletionConflict({ kind, group }: Resource, name: string, why: string): ApiError {
  const message = `Operation cannot be fulfilled on ${kind}${group ? `.${group}` : ''} "${name}": ${why}`;
  return new ApiError(409, 'Conflict', message, { name, ...(group ? { group } : {}), kind });
}

export function methodNotAllowed(): ApiError {
  const message = 'the server does not allow this method on the requested resource';
  return new ApiError(405, 'MethodNotAllowed', message, {});
}
