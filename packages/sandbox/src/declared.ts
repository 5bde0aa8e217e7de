import { isFields } from './objects.ts';
import type { Resource } from './resources.ts';
import type { Schema } from './schema.ts';

const common = ['apiVersion', 'kind', 'metadata'];

/** Fields of built-in kinds, where they are other than spec and status. */
const top: Record<string, string[]> = {
  configmaps: ['data', 'binaryData', 'immutable'],
  secrets: ['data', 'stringData', 'type', 'immutable'],
  serviceaccounts: ['secrets', 'imagePullSecrets', 'automountServiceAccountToken'],
  'endpointslices.discovery.k8s.io': ['addressType', 'endpoints', 'ports'],
  'roles.rbac.authorization.k8s.io': ['rules'],
  'clusterroles.rbac.authorization.k8s.io': ['rules', 'aggregationRule'],
  'rolebindings.rbac.authorization.k8s.io': ['subjects', 'roleRef'],
  'clusterrolebindings.rbac.authorization.k8s.io': ['subjects', 'roleRef'],
};

const serviceSpec =
  'allocateLoadBalancerNodePorts clusterIP clusterIPs externalIPs externalName externalTrafficPolicy healthCheckNodePort internalTrafficPolicy ipFamilies ipFamilyPolicy loadBalancerClass loadBalancerIP loadBalancerSourceRanges ports publishNotReadyAddresses selector sessionAffinity sessionAffinityConfig trafficDistribution type';

/**
 * The path of a field that the kind does not have: of custom resources by their schema, of built-in kinds their own
 * fields and those of a Service's spec.
 */
export function undeclaredField(resource: Resource, version: string, body: unknown): string | undefined {
  if (!isFields(body) || resource.id === 'events') return undefined;
  const schema = resource.custom?.schemas[version];
  if (schema)
    return unknownTo(schema, Object.fromEntries(Object.entries(body).filter(([key]) => !common.includes(key))));
  const known = [...common, ...(top[resource.id] ?? ['spec', 'status'])];
  const strange = Object.keys(body).find((key) => !known.includes(key));
  if (strange !== undefined) return `.${strange}`;
  if (resource.id !== 'services' || !isFields(body.spec)) return undefined;
  const inSpec = Object.keys(body.spec).find((key) => !serviceSpec.split(' ').includes(key));
  return inSpec && `.spec.${inSpec}`;
}

function unknownTo(schema: Schema, value: unknown, path = ''): string | undefined {
  if (Array.isArray(value)) {
    return (
      schema.items && first(value.map((item, index) => unknownTo(schema.items as Schema, item, `${path}[${index}]`)))
    );
  }
  if (!isFields(value) || !schema.properties) return undefined;
  const { properties } = schema;
  return first(
    Object.entries(value).map(([key, member]) => {
      const known = Object.hasOwn(properties, key) ? properties[key] : undefined;
      if (known) return unknownTo(known, member, `${path}.${key}`);
      return schema['x-kubernetes-preserve-unknown-fields'] ? undefined : `${path}.${key}`;
    }),
  );
}

function first(paths: (string | undefined)[]): string | undefined {
  return paths.find((path) => path !== undefined);
}
