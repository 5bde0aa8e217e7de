import { isRecord } from '@cdaas/pipeline/is-record.ts';
import type { KubernetesObject, ObjectRef } from '@cdaas/pipeline/kubernetes.ts';
import { misunderstood } from './kube.ts';
import { statusReason, toObject } from './kube-answer.ts';
import type { Answered, Outcome } from './kube-exchange.ts';

export type Understood = { kind: 'object'; object: KubernetesObject } | { kind: 'gone' } | Outcome;

/**
 * What an answer says of one object. It is believed only where it is about that object, and whole: an answer about another
 * one, or without what the next precondition needs, says nothing about ours.
 */
export function understand(outcome: Outcome, ref: ObjectRef): Understood {
  if (outcome.kind === 'unreachable') return outcome;
  if (outcome.status === 404) return isGone(outcome, ref) ? { kind: 'gone' } : misunderstood(`${notServed(ref)} now`);
  if (outcome.status >= 300) return outcome;
  const object = toObject(outcome.body);
  if (!object) return misunderstood(`the server answered with a malformed object, asked for ${ref.kind} ${ref.name}`);
  const { apiVersion, kind, metadata } = object;
  const isAsked =
    apiVersion === ref.apiVersion &&
    kind === ref.kind &&
    metadata.name === ref.name &&
    metadata.namespace === ref.namespace;
  if (!isAsked) return misunderstood(`the server answered with another object than ${ref.kind} ${ref.name}`);
  for (const field of ['uid', 'resourceVersion'] as const) {
    if (metadata[field]) continue;
    return misunderstood(`the server answered with ${ref.kind} ${ref.name} without a ${field}`);
  }
  return { kind: 'object', object };
}

/** "Not found" said of this very object, and not of the path that leads to its kind. */
export function isGone({ body }: Answered, { name }: ObjectRef): boolean {
  const details = isRecord(body) ? body.details : undefined;
  return statusReason(body) === 'NotFound' && isRecord(details) && details.name === name;
}

export function notServed({ kind, apiVersion }: ObjectRef): string {
  return `the cluster does not serve ${kind} of ${apiVersion}`;
}
