import type { Cause } from './errors.ts';
import { equal, type Fields, isFields, type KubeObject, type LabelSelector } from './objects.ts';
import { definitionsId, type Resource } from './resources.ts';
import { violations } from './schema.ts';
import { matchesSelector } from './selectors.ts';

const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const label = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const serviceLabel = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const labelValue = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;
const qualifiedName = /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;

/** What is wrong with an object about to be stored; `old` is its stored form on an update. */
export function validate(resource: Resource, object: KubeObject, old: KubeObject | undefined): Cause[] {
  const causes: Cause[] = [...metadataCauses(resource, object)];
  const version = object.apiVersion.slice(object.apiVersion.indexOf('/') + 1);
  const schema = resource.custom?.schemas[version];
  if (schema) {
    const { metadata: _, apiVersion: __, kind: ___, ...rest } = object;
    causes.push(...violations(schema, rest));
  }
  causes.push(...(rules[resource.id]?.(object, old) ?? []));
  return causes;
}

function* metadataCauses(resource: Resource, { metadata }: KubeObject): Iterable<Cause> {
  const { name } = metadata;
  const field = 'metadata.name';
  if (!name) yield required(field, 'name or generateName is required');
  else if (resource.id === 'services' && !fits(name, serviceLabel, 63)) yield malformed(field, name, dns1035);
  else if (resource.id === 'namespaces' && !fits(name, label, 63)) yield malformed(field, name, dns1123Label);
  else if (!resource.group.startsWith('rbac.') && !fits(name, subdomain, 253)) yield malformed(field, name, dns1123);
  for (const [key, value] of Object.entries(metadata.labels ?? {})) {
    if (!fits(key.split('/').at(-1) ?? '', qualifiedName, 63) || !qualifiedName.test(key)) {
      yield malformed('metadata.labels', key, 'name part must consist of alphanumeric characters, -, _ or .');
    }
    if (!fits(value, labelValue, 63)) {
      yield malformed(
        'metadata.labels',
        value,
        'a valid label must be an empty string or consist of alphanumeric characters, -, _ or ., at most 63',
      );
    }
  }
}

const dns1035 =
  "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name', at most 63 characters)";
const dns1123Label =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (at most 63 characters)";
const dns1123 =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";

type Rule = (object: KubeObject, old: KubeObject | undefined) => Iterable<Cause>;

const rules: Record<string, Rule> = {
  services: serviceCauses,
  pods: function* (object) {
    yield* podSpecCauses(object.spec, 'spec');
  },
  configmaps: sizeCauses,
  secrets: sizeCauses,
  'deployments.apps': workloadCauses,
  'replicasets.apps': workloadCauses,
  'statefulsets.apps': workloadCauses,
  'endpointslices.discovery.k8s.io': function* (object) {
    if (!object.addressType) yield required('addressType');
  },
  events: function* ({ metadata, involvedObject }) {
    const namespace = (isFields(involvedObject) && involvedObject.namespace) || 'default';
    if (namespace !== metadata.namespace) {
      yield malformed('involvedObject.namespace', namespace, 'does not match event.namespace');
    }
  },
  [definitionsId]: definitionCauses,
};

function* serviceCauses(object: KubeObject, old: KubeObject | undefined): Iterable<Cause> {
  const spec = fieldsAt(object, 'spec');
  const ports = Array.isArray(spec.ports) ? (spec.ports as Fields[]) : [];
  if (!['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'].includes(String(spec.type))) {
    yield malformed(
      'spec.type',
      spec.type,
      'supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
    );
  }
  if (ports.length === 0 && spec.clusterIP !== 'None' && spec.type !== 'ExternalName') yield required('spec.ports');
  if (spec.type === 'ExternalName' && !spec.externalName) yield required('spec.externalName');
  const names = new Set<unknown>();
  for (const [index, port] of ports.entries()) {
    const field = `spec.ports[${index}]`;
    if (ports.length > 1 && !port.name) yield required(`${field}.name`);
    if (!isPort(port.port)) yield malformed(`${field}.port`, port.port, 'must be between 1 and 65535, inclusive');
    if (typeof port.targetPort === 'number' && !isPort(port.targetPort)) {
      yield malformed(`${field}.targetPort`, port.targetPort, 'must be between 1 and 65535, inclusive');
    }
    if (port.name && names.has(port.name)) {
      yield { reason: 'FieldValueDuplicate', message: `Duplicate value: "${port.name}"`, field: `${field}.name` };
    }
    names.add(port.name);
  }
  const before = old && fieldsAt(old, 'spec');
  if (before && before.type !== 'ExternalName' && spec.type !== 'ExternalName' && spec.clusterIP !== before.clusterIP) {
    yield immutable('spec.clusterIP', spec.clusterIP);
  }
}

function* sizeCauses({ data, binaryData }: KubeObject): Iterable<Cause> {
  const limit = 1024 * 1024;
  const texts = [data, binaryData].filter(isFields).flatMap((map) => Object.values(map).map(String));
  if (texts.reduce((bytes, text) => bytes + Buffer.byteLength(text), 0) <= limit) return;
  yield { reason: 'FieldValueTooLong', message: `Too long: may not be more than ${limit} bytes`, field: '[]' };
}

function* workloadCauses(object: KubeObject, old: KubeObject | undefined): Iterable<Cause> {
  const spec = fieldsAt(object, 'spec');
  if (typeof spec.replicas === 'number' && spec.replicas < 0) {
    yield malformed('spec.replicas', spec.replicas, 'must be greater than or equal to 0');
  }
  if (!isFields(spec.selector)) yield required('spec.selector');
  else if (Object.keys(spec.selector).length === 0) {
    yield malformed('spec.selector', {}, `empty selector is invalid for ${object.kind.toLowerCase()}`);
  }
  const template = fieldsAt(spec, 'template');
  const labels = fieldsAt(fieldsAt(template, 'metadata'), 'labels') as Record<string, string>;
  if (isFields(spec.selector) && !matchesSelector(spec.selector as LabelSelector, labels)) {
    yield malformed('spec.template.metadata.labels', labels, '`selector` does not match template `labels`');
  }
  yield* podSpecCauses(template.spec, 'spec.template.spec');
  if (old && !equal(spec.selector, fieldsAt(old, 'spec').selector)) yield immutable('spec.selector', spec.selector);
}

function* podSpecCauses(spec: unknown, path: string): Iterable<Cause> {
  const containers = isFields(spec) && Array.isArray(spec.containers) ? (spec.containers as Fields[]) : [];
  if (containers.length === 0) yield required(`${path}.containers`);
  for (const [index, { name, image }] of containers.entries()) {
    if (!name) yield required(`${path}.containers[${index}].name`);
    else if (!fits(String(name), label, 63)) yield malformed(`${path}.containers[${index}].name`, name, dns1123Label);
    if (!image) yield required(`${path}.containers[${index}].image`);
  }
}

function* definitionCauses(object: KubeObject): Iterable<Cause> {
  const spec = fieldsAt(object, 'spec');
  const names = fieldsAt(spec, 'names');
  if (spec.scope !== 'Namespaced' && spec.scope !== 'Cluster') yield required('spec.scope');
  const versions = Array.isArray(spec.versions) ? spec.versions.filter(isFields) : [];
  if (versions.filter((version) => version.storage === true).length !== 1) {
    yield malformed('spec.versions', versions.length, 'must have exactly one version marked as storage version');
  }
  if (object.metadata.name !== `${names.plural}.${spec.group}`) {
    yield malformed('metadata.name', object.metadata.name, 'must be spec.names.plural+"."+spec.group');
  }
}

function fits(value: string, pattern: RegExp, length: number): boolean {
  return value.length <= length && pattern.test(value);
}

function isPort(value: unknown): boolean {
  return Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 65535;
}

function fieldsAt(parent: Fields, key: string): Fields {
  const value = parent[key];
  return isFields(value) ? value : {};
}

function required(field: string, detail?: string): Cause {
  return { reason: 'FieldValueRequired', message: detail ? `Required value: ${detail}` : 'Required value', field };
}

function malformed(field: string, value: unknown, why: string): Cause {
  return { reason: 'FieldValueInvalid', message: `Invalid value: ${JSON.stringify(value)}: ${why}`, field };
}

function immutable(field: string, value: unknown): Cause {
  return malformed(field, value, 'field is immutable');
}
