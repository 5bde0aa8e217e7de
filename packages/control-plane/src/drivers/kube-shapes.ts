import { isRecord } from '@cdaas/pipeline/is-record.ts';

/**
 * The shape of what this project reads of the objects that it looks into. Whoever decides on them reads them as what they
 * are documented to be; a server that answers otherwise is found out here, by name, and not by an exception there.
 */

type Shape = (value: unknown) => boolean;

const isString: Shape = (value) => typeof value === 'string';
const isNumber: Shape = (value) => Number.isFinite(value);
const isBoolean: Shape = (value) => typeof value === 'boolean';
/** Fields that are left out, or null as Go writes an empty list. */
const optional =
  (shape: Shape): Shape =>
  (value) =>
    value === undefined || value === null || shape(value);
const either =
  (one: Shape, other: Shape): Shape =>
  (value) =>
    one(value) || other(value);
const listOf =
  (shape: Shape): Shape =>
  (value) =>
    Array.isArray(value) && value.every(shape);
const mapOf =
  (shape: Shape): Shape =>
  (value) =>
    isRecord(value) && Object.values(value).every(shape);

/** A record whose named fields, where they are there, have these shapes. */
const record = (fields: Record<string, Shape>): Shape => {
  const checks = Object.entries(fields).map(([name, shape]) => [name, optional(shape)] as const);
  return (value) => isRecord(value) && checks.every(([name, check]) => check(value[name]));
};

const isQuantity = either(isNumber, isString);
const conditions = listOf(record({ type: isString, status: isString, reason: isString, message: isString }));
const labelSelector = record({ matchLabels: mapOf(isString), matchExpressions: listOf(isRecord) });

const shapes: Record<string, Shape> = {
  Service: record({
    spec: record({
      type: isString,
      clusterIP: isString,
      selector: mapOf(isString),
      publishNotReadyAddresses: isBoolean,
      ports: listOf(
        record({
          name: isString,
          port: isNumber,
          targetPort: either(isNumber, isString),
          protocol: isString,
          appProtocol: isString,
        }),
      ),
    }),
  }),
  Pod: record({
    status: record({
      phase: isString,
      conditions,
      containerStatuses: listOf(
        record({
          state: record({ waiting: record({ reason: isString }) }),
          lastState: record({ terminated: record({ exitCode: isNumber }) }),
        }),
      ),
    }),
  }),
  ReplicaSet: record({
    spec: record({ replicas: isNumber, selector: labelSelector, template: isRecord }),
    status: record({ observedGeneration: isNumber, replicas: isNumber, conditions }),
  }),
  Deployment: record({
    spec: record({ replicas: isNumber, selector: labelSelector, template: isRecord }),
    status: record({ observedGeneration: isNumber, replicas: isNumber, updatedReplicas: isNumber }),
  }),
  EndpointSlice: record({
    endpoints: listOf(
      record({
        conditions: record({ ready: isBoolean, terminating: isBoolean }),
        targetRef: record({ kind: isString, name: isString }),
      }),
    ),
  }),
  TrafficSplit: record({
    spec: record({ service: isString, backends: listOf(record({ service: isString, weight: isQuantity })) }),
  }),
  ServiceProfile: record({
    spec: record({ dstOverrides: listOf(record({ authority: isString, weight: isQuantity })) }),
  }),
  HorizontalPodAutoscaler: record({ spec: record({ scaleTargetRef: record({ kind: isString, name: isString }) }) }),
  ScaledObject: record({ spec: record({ scaleTargetRef: record({ kind: isString, name: isString }) }) }),
};

/** Kinds of which every object has a spec, as its API server writes one where none was sent. */
const withSpec = new Set(['ReplicaSet', 'Deployment', 'HorizontalPodAutoscaler']);

/** Whether an object of a kind has the shape that its readers rely on. Kinds that nobody looks into have any. */
export function isSound(kind: string, object: Record<string, unknown>): boolean {
  const shape = Object.hasOwn(shapes, kind) ? shapes[kind] : undefined;
  if (!shape) return true;
  return shape(object) && (!withSpec.has(kind) || isRecord(object.spec));
}
