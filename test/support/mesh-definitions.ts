/*
 * CustomResourceDefinitions as meshes bring them, as far as traffic splits and autoscaling need them. Field names and
 * types from the SMI Traffic Split specification (v1alpha1 to v1alpha4), the chart of Linkerd's SMI adaptor 0.2.7, the
 * linkerd-crds chart and KEDA's ScaledObject v1alpha1.
 */

export const allSplitVersions = ['v1alpha1', 'v1alpha2', 'v1alpha3', 'v1alpha4'] as const;
export type SplitVersion = (typeof allSplitVersions)[number];

type Schema = { [field: string]: unknown };
type Definition = { apiVersion: string; kind: string; metadata: { name: string }; spec: Schema };

const text: Schema = { type: 'string' };
const object = (properties: Schema, required: string[] = []): Schema => ({
  type: 'object',
  properties,
  ...(required.length > 0 ? { required } : {}),
});
const listOf = (items: Schema): Schema => ({ type: 'array', items });
const anything: Schema = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
/** A quantity as Kubernetes writes it: a number, or a text such as `500m`. */
const quantity: Schema = { 'x-kubernetes-int-or-string': true };

/**
 * TrafficSplits, served in the given versions. The first is the stored one; as in the adaptor's chart there is no
 * conversion between them. Weights are quantities in v1alpha1 and numbers later; v1alpha3 brought `matches`.
 */
export function trafficSplits(served: readonly SplitVersion[]): Definition {
  const weightOf = (version: SplitVersion) => (version === 'v1alpha1' ? quantity : { type: 'number' });
  const hasMatches = (version: SplitVersion) => version === 'v1alpha3' || version === 'v1alpha4';
  const match = object({ kind: { type: 'string', enum: ['HTTPRouteGroup'] }, name: text }, ['kind', 'name']);
  return definition({
    group: 'split.smi-spec.io',
    names: { kind: 'TrafficSplit', plural: 'trafficsplits', singular: 'trafficsplit', shortNames: ['ts'] },
    versions: served.map((name, index) => ({
      name,
      storage: index === 0,
      columns: { Service: '.spec.service' },
      spec: object(
        {
          service: text,
          backends: listOf(object({ service: text, weight: weightOf(name) }, ['service', 'weight'])),
          ...(hasMatches(name) ? { matches: listOf(match) } : {}),
        },
        ['service', 'backends'],
      ),
    })),
  });
}

/** Linkerd's ServiceProfiles: `dstOverrides` are the weights in force, the rest belongs to people. */
export function serviceProfiles(): Definition {
  const condition = object({
    pathRegex: text,
    method: text,
    all: listOf(anything),
    any: listOf(anything),
    not: listOf(anything),
  });
  const route = object(
    { name: text, condition, isRetryable: { type: 'boolean' }, timeout: text, responseClasses: listOf(anything) },
    ['condition', 'name'],
  );
  const weightPattern =
    '^(\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))))?$';
  const spec = {
    dstOverrides: listOf(
      object({
        authority: text,
        weight: { ...quantity, anyOf: [{ type: 'integer' }, { type: 'string' }], pattern: weightPattern },
      }),
    ),
    opaquePorts: listOf(text),
    retryBudget: object(
      {
        minRetriesPerSecond: { type: 'integer', format: 'int32' },
        retryRatio: { type: 'number', format: 'float' },
        ttl: text,
      },
      ['minRetriesPerSecond', 'retryRatio', 'ttl'],
    ),
    routes: listOf(route),
  };
  return definition({
    group: 'linkerd.io',
    names: { kind: 'ServiceProfile', plural: 'serviceprofiles', singular: 'serviceprofile', shortNames: ['sp'] },
    versions: [
      { name: 'v1alpha2', storage: true, columns: {}, spec: object(spec) },
      { name: 'v1alpha1', storage: false, columns: {}, spec: object(spec, ['routes']) },
    ],
  });
}

/** KEDA's ScaledObjects, as far as it takes to see that one scales a Deployment. */
export function scaledObjects(): Definition {
  return definition({
    group: 'keda.sh',
    names: { kind: 'ScaledObject', plural: 'scaledobjects', singular: 'scaledobject', shortNames: ['so'] },
    versions: [
      {
        name: 'v1alpha1',
        storage: true,
        columns: { Target: '.spec.scaleTargetRef.name' },
        spec: object(
          {
            scaleTargetRef: object({ apiVersion: text, kind: text, name: text, envSourceContainerName: text }, [
              'name',
            ]),
            minReplicaCount: { type: 'integer', format: 'int32' },
            maxReplicaCount: { type: 'integer', format: 'int32' },
            pollingInterval: { type: 'integer', format: 'int32' },
            cooldownPeriod: { type: 'integer', format: 'int32' },
            triggers: listOf(object({ type: text, metadata: anything, name: text }, ['type', 'metadata'])),
          },
          ['scaleTargetRef', 'triggers'],
        ),
      },
    ],
  });
}

type Described = {
  group: string;
  names: { kind: string; plural: string; singular: string; shortNames: string[] };
  versions: { name: string; storage: boolean; columns: Record<string, string>; spec: Schema }[];
};

function definition({ group, names, versions }: Described): Definition {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${names.plural}.${group}` },
    spec: {
      group,
      scope: 'Namespaced',
      names: { ...names, listKind: `${names.kind}List` },
      versions: versions.map(({ name, storage, columns, spec }) => ({
        name,
        served: true,
        storage,
        schema: { openAPIV3Schema: object({ spec, status: anything }) },
        additionalPrinterColumns: Object.entries(columns).map(([title, jsonPath]) => ({
          name: title,
          type: 'string',
          jsonPath,
        })),
      })),
    },
  };
}
