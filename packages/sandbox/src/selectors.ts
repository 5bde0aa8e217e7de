import { badRequest } from './errors.ts';
import { type Fields, isFields, type KubeObject, type LabelSelector } from './objects.ts';

type Labels = Record<string, string> | undefined;
export type LabelMatcher = (labels: Labels) => boolean;
export type ObjectMatcher = (object: KubeObject) => boolean;

/** Whether every pair of an equality selector (`Service.spec.selector`) is among the labels. */
export function matchesAll(selector: Record<string, string>, labels: Labels): boolean {
  for (const key in selector) if (labels?.[key] !== selector[key]) return false;
  return true;
}

/** `LabelSelector` of meta/v1 against labels. An empty selector matches everything. */
export function matchesSelector(selector: LabelSelector, labels: Labels): boolean {
  if (selector.matchLabels && !matchesAll(selector.matchLabels, labels)) return false;
  return (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
    const value = labels?.[key];
    if (operator === 'In') return value !== undefined && values.includes(value);
    if (operator === 'NotIn') return value === undefined || !values.includes(value);
    if (operator === 'Exists') return value !== undefined;
    return value === undefined;
  });
}

const requirement =
  /^\s*(?:(?<absent>!)\s*(?<gone>[^\s!=,()]+)|(?<key>[^\s!=,()]+)(?:\s+(?<set>in|notin)\s*\((?<values>[^)]*)\)|\s*(?<sign>==|=|!=)\s*(?<value>[^\s,()]*))?)\s*$/;

/**
 * Parses the `labelSelector` query parameter: `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`.
 * @throws ApiError 400 naming the requirement that cannot be read
 */
export function parseLabelSelector(text: string): LabelMatcher {
  const tests = split(text).map((part): LabelMatcher => {
    const groups = requirement.exec(part)?.groups;
    if (!groups) throw badRequest(`unable to parse requirement: ${part.trim()}`);
    const { gone, set, values, sign, value } = groups;
    const key = groups.key ?? '';
    if (gone) return (labels) => labels?.[gone] === undefined;
    if (set) {
      const wanted = (values ?? '').split(',').map((one) => one.trim());
      if (set === 'in') return (labels) => labels?.[key] !== undefined && wanted.includes(labels[key]);
      return (labels) => labels?.[key] === undefined || !wanted.includes(labels[key]);
    }
    if (sign === '!=') return (labels) => labels?.[key] !== value;
    if (sign) return (labels) => labels?.[key] === value;
    return (labels) => labels?.[key] !== undefined;
  });
  return (labels) => tests.every((test) => test(labels));
}

/** Splits at the commas that are not inside parentheses. */
function split(text: string): string[] {
  return text.split(/,(?![^(]*\))/).filter((part) => part.trim() !== '');
}

const selectableFields: Record<string, RegExp> = {
  pods: /^(spec\.(nodeName|restartPolicy|schedulerName)|status\.(phase|podIP))$/,
  events: /^(involvedObject\.\w+|reason|type|source)$/,
  secrets: /^type$/,
  namespaces: /^status\.phase$/,
  'replicasets.apps': /^status\.replicas$/,
};

/**
 * Parses the `fieldSelector` query parameter of a resource.
 * @throws ApiError 400 for a field that the real API does not index either
 */
export function parseFieldSelector(resourceId: string, text: string): ObjectMatcher {
  const tests = split(text).map((part): ObjectMatcher => {
    const [, path, sign, value] = /^\s*([^=!\s]+)\s*(==|=|!=)\s*(.*?)\s*$/.exec(part) ?? [];
    if (!path) throw badRequest(`invalid field selector: ${part}`);
    if (!/^metadata\.(name|namespace)$/.test(path) && !selectableFields[resourceId]?.test(path)) {
      throw badRequest(`field label not supported: ${path}`);
    }
    const keys = path.split('.');
    return (object) => (String(read(object, keys) ?? '') === value) === (sign !== '!=');
  });
  return (object) => tests.every((test) => test(object));
}

function read(object: Fields, keys: string[]): unknown {
  return keys.reduce<unknown>((value, key) => (isFields(value) ? value[key] : undefined), object);
}
