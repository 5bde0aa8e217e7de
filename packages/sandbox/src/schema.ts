import type { Cause } from './errors.ts';
import { type Fields, isFields } from './objects.ts';

/** The part of `openAPIV3Schema` that the sandbox checks custom resources with. */
export type Schema = {
  type?: string;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  items?: Schema;
  required?: string[];
  enum?: unknown[];
  minimum?: number;
  maximum?: number;
  nullable?: boolean;
  default?: unknown;
  'x-kubernetes-int-or-string'?: boolean;
  'x-kubernetes-preserve-unknown-fields'?: boolean;
  [keyword: string]: unknown;
};

/** Everything in a value that its schema forbids, as the API server words it. */
export function violations(schema: Schema, value: unknown, path = ''): Cause[] {
  if (value === null && schema.nullable) return [];
  if (schema['x-kubernetes-int-or-string']) {
    const fits = typeof value === 'string' || Number.isInteger(value);
    return fits ? [] : [wrongType(path, value, 'integer,string')];
  }
  if (schema.type && !hasType(schema.type, value)) return [wrongType(path, value, schema.type)];
  const causes: Cause[] = [];
  if (schema.enum && !schema.enum.includes(value)) {
    const allowed = schema.enum.map((one) => JSON.stringify(one)).join(', ');
    const message = `Unsupported value: ${JSON.stringify(value)}: supported values: ${allowed}`;
    causes.push({ reason: 'FieldValueNotSupported', message, field: path });
  }
  if (typeof value === 'number') {
    if (schema.minimum !== undefined && value < schema.minimum) {
      causes.push(outOfRange(path, value, `greater than or equal to ${schema.minimum}`));
    }
    if (schema.maximum !== undefined && value > schema.maximum) {
      causes.push(outOfRange(path, value, `less than or equal to ${schema.maximum}`));
    }
  }
  if (Array.isArray(value) && schema.items) {
    for (const [index, item] of value.entries()) causes.push(...violations(schema.items, item, `${path}[${index}]`));
  }
  if (isFields(value)) {
    for (const name of schema.required ?? []) {
      if (value[name] !== undefined) continue;
      causes.push({ reason: 'FieldValueRequired', message: 'Required value', field: join(path, name) });
    }
    for (const name in value) {
      const member = memberSchema(schema, name);
      if (member) causes.push(...violations(member, value[name], join(path, name)));
    }
  }
  return causes;
}

/** The value without the fields that its schema does not know, and with the schema's defaults. */
export function prune(schema: Schema, value: unknown): unknown {
  if (Array.isArray(value)) return schema.items ? value.map((item) => prune(schema.items!, item)) : value;
  if (!isFields(value)) return value;
  const kept: Fields = {};
  for (const name in value) {
    const member = memberSchema(schema, name);
    if (member) kept[name] = prune(member, value[name]);
    else if (schema['x-kubernetes-preserve-unknown-fields']) kept[name] = value[name];
  }
  for (const [name, member] of Object.entries(schema.properties ?? {})) {
    if (kept[name] === undefined && member.default !== undefined) kept[name] = member.default;
  }
  return kept;
}

function memberSchema(schema: Schema, name: string): Schema | undefined {
  if (schema.properties && Object.hasOwn(schema.properties, name)) return schema.properties[name];
  if (schema.additionalProperties === true) return { 'x-kubernetes-preserve-unknown-fields': true };
  return schema.additionalProperties || undefined;
}

function hasType(type: string, value: unknown): boolean {
  if (type === 'object') return isFields(value);
  if (type === 'array') return Array.isArray(value);
  if (type === 'integer') return Number.isInteger(value);
  return typeof value === type;
}

function typeName(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (Number.isInteger(value)) return 'integer';
  return typeof value;
}

function wrongType(path: string, value: unknown, wanted: string): Cause {
  const shown = isFields(value) || Array.isArray(value) ? typeName(value) : JSON.stringify(value);
  const message = `Invalid value: ${shown}: ${path} in body must be of type ${wanted}: "${typeName(value)}"`;
  return { reason: 'FieldValueTypeInvalid', message, field: path };
}

function outOfRange(path: string, value: number, bound: string): Cause {
  return { reason: 'FieldValueInvalid', message: `Invalid value: ${value}: should be ${bound}`, field: path };
}

function join(path: string, name: string): string {
  return path ? `${path}.${name}` : name;
}
