import { shownText } from '@cdaas/contract/text.ts';
import { isRecord } from '@cdaas/pipeline/is-record.ts';
import type { KubernetesObject, ObjectMeta } from '@cdaas/pipeline/kubernetes.ts';
import { isSound } from './kube-shapes.ts';

/* Reading what an API server answered. It may be hostile: nothing is believed to have its documented shape. */

/**
 * An answer's body as an object, or undefined if it lacks the shape that KubernetesObject promises, or the one that its
 * kind has. Drops `metadata.managedFields`, which is often half of an object; of the kinds whose changes by others people
 * are told, it keeps who set which field of the specification.
 */
export function toObject(value: unknown): KubernetesObject | undefined {
  if (!isRecord(value) || typeof value.apiVersion !== 'string' || typeof value.kind !== 'string') return undefined;
  if (!isRecord(value.metadata)) return undefined;
  const { managedFields, ...rest } = value.metadata;
  const metadata: Record<string, unknown> =
    managedFields !== undefined && kindsOfOthers.includes(value.kind)
      ? { ...rest, managedFields: managersOf(managedFields) }
      : rest;
  const sound =
    isName(metadata.name) &&
    isOptional(metadata.namespace, isName) &&
    isOptional(metadata.uid, isIdentity) &&
    isOptional(metadata.resourceVersion, isIdentity) &&
    isOptional(metadata.generation, Number.isFinite) &&
    isOptional(metadata.labels, isStringMap) &&
    isOptional(metadata.annotations, isStringMap) &&
    isOptional(metadata.deletionTimestamp, isString) &&
    isOptional(metadata.ownerReferences, isOwners);
  if (!sound || !isSound(value.kind, value)) return undefined;
  // Every field that ObjectMeta types was checked above; the rest it leaves unknown.
  return { ...value, metadata } as KubernetesObject;
}

/** Kinds whose changes by others people are told. */
const kindsOfOthers = ['Service', 'TrafficSplit', 'ReplicaSet', 'Deployment'];

/** Names are shown to people. Of the fields of the specification the first names alone. */
function managersOf(managedFields: unknown): NonNullable<ObjectMeta['managedFields']> {
  const entries = Array.isArray(managedFields) ? managedFields.slice(-mostManagers) : [];
  return entries.flatMap((entry: unknown) => {
    if (!isRecord(entry) || typeof entry.manager !== 'string') return [];
    const { time, subresource, operation, fieldsV1 } = entry;
    return [
      {
        manager: shownText(entry.manager, maxManagerLength),
        ...(typeof time === 'string' ? { time: shownText(time, maxManagerLength) } : {}),
        ...(typeof subresource === 'string' ? { subresource } : {}),
        operation: operationOf(operation),
        fieldsV1: fieldsOf(fieldsV1),
      },
    ];
  });
}

function operationOf(operation: unknown): string {
  return operation === 'Apply' ? 'Apply' : 'Update';
}

function fieldsOf(fieldsV1: unknown): Record<string, unknown> {
  const spec = isRecord(fieldsV1) && isRecord(fieldsV1['f:spec']) ? Object.keys(fieldsV1['f:spec']) : [];
  return { 'f:spec': Object.fromEntries(spec.slice(0, mostManagers).map((name) => [name, {}])) };
}

/** Of the entries of an object, and of the fields in one. */
const mostManagers = 50;

/** Of a field manager's name (meta/v1, ManagedFieldsEntry). */
const maxManagerLength = 128;

function isString(value: unknown): boolean {
  return typeof value === 'string';
}

/** Names are at most 253 characters long (RFC 1123 subdomains); they get into texts. */
function isName(value: unknown): boolean {
  return typeof value === 'string' && value.length <= 253;
}

/** A uid or resourceVersion: opaque, but stored and sent with every write, so that it must be short and printable. */
function isIdentity(value: unknown): boolean {
  return typeof value === 'string' && /^[!-~]{0,128}$/.test(value);
}

function isOptional(value: unknown, check: (value: unknown) => boolean): boolean {
  return value === undefined || check(value);
}

function isStringMap(value: unknown): boolean {
  return isRecord(value) && Object.values(value).every(isString);
}

function isOwners(value: unknown): boolean {
  const fields = ['apiVersion', 'kind', 'name', 'uid'];
  return (
    Array.isArray(value) && value.every((owner) => isRecord(owner) && fields.every((field) => isString(owner[field])))
  );
}

const maxMessageLength = 500;

/**
 * The server's own words from a Status (meta/v1), fit to be shown as text: no control or invisible formatting
 * characters, at most 500 characters. Empty if it said nothing.
 */
export function statusMessage(body: unknown): string {
  const message = isRecord(body) && typeof body.message === 'string' ? body.message : statusReason(body);
  if (message === undefined) return '';
  return shownText(message, maxMessageLength);
}

/** The machine-readable reason of a Status: AlreadyExists, Conflict, NotFound, Expired … */
export function statusReason(body: unknown): string | undefined {
  const reason = isRecord(body) ? body.reason : undefined;
  return typeof reason === 'string' && /^[A-Za-z]{1,60}$/.test(reason) ? reason : undefined;
}
