import { badRequest } from './errors.ts';
import type { KubeObject } from './objects.ts';
import { definitionsId, type Resource } from './resources.ts';
import { type Schema, violations } from './schema.ts';

/**
 * Refuses a body whose fields have the wrong type for its kind, so that nothing behind this line meets one.
 * @throws ApiError 400 in the words of the API server's decoder
 */
export function checkTypes(resource: Resource, object: KubeObject): void {
  const [first] = violations(schemaOf(resource), object);
  if (!first) return;
  const message = `${resource.kind} in version "${object.apiVersion.split('/').at(-1)}" cannot be handled as a ${resource.kind}`;
  throw badRequest(`${message}: ${first.field}: ${first.message}`);
}

/** The first field that has the wrong type, of custom resources too, in words. */
export function typeFault(resource: Resource, version: string, body: unknown): string | undefined {
  const all = [schemaOf(resource), ...(resource.custom ? [resource.custom.schemas[version] ?? {}] : [])];
  const causes = all.flatMap((schema) => violations(schema, body));
  const first = causes.find(({ reason }) => reason === 'FieldValueTypeInvalid');
  return first && `.${first.field}: ${first.message}`;
}

function schemaOf({ id }: Resource): Schema {
  return { ...types[id], properties: { metadata: metadataTypes, ...types[id]?.properties } };
}

const strings: Schema = { type: 'object', additionalProperties: { type: 'string' } };
const text: Schema = { type: 'string' };
const whole: Schema = { type: 'integer' };

const metadataTypes: Schema = {
  type: 'object',
  properties: {
    name: text,
    namespace: text,
    generateName: text,
    uid: text,
    resourceVersion: text,
    labels: { ...strings, nullable: true },
    annotations: { ...strings, nullable: true },
    finalizers: { type: 'array', items: text, nullable: true },
    ownerReferences: {
      type: 'array',
      nullable: true,
      items: {
        type: 'object',
        required: ['apiVersion', 'kind', 'name', 'uid'],
        properties: { apiVersion: text, kind: text, name: text, uid: text, controller: { type: 'boolean' } },
      },
    },
  },
};

const container: Schema = {
  type: 'object',
  properties: {
    name: text,
    image: text,
    ports: { type: 'array', items: { type: 'object', properties: { name: text, containerPort: whole } } },
  },
};

const podSpec: Schema = {
  type: 'object',
  properties: { nodeName: text, containers: { type: 'array', items: container } },
};

const workload: Schema = {
  properties: {
    spec: {
      type: 'object',
      properties: {
        replicas: whole,
        selector: {
          type: 'object',
          properties: {
            matchLabels: strings,
            matchExpressions: {
              type: 'array',
              items: {
                type: 'object',
                required: ['key', 'operator'],
                properties: {
                  key: text,
                  operator: { enum: ['In', 'NotIn', 'Exists', 'DoesNotExist'] },
                  values: { type: 'array', items: text, nullable: true },
                },
              },
            },
          },
        },
        template: {
          type: 'object',
          properties: {
            metadata: { type: 'object', properties: { labels: strings, annotations: strings } },
            spec: podSpec,
          },
        },
        strategy: { type: 'object' },
        paused: { type: 'boolean' },
        revisionHistoryLimit: whole,
      },
    },
  },
};

const jsonSchema: Schema = {
  type: 'object',
  properties: {
    type: text,
    required: { type: 'array', items: text },
    enum: { type: 'array' },
    minimum: { type: 'number' },
    maximum: { type: 'number' },
  },
};
Object.assign(jsonSchema.properties!, {
  items: jsonSchema,
  properties: { type: 'object', additionalProperties: jsonSchema },
});

const definition: Schema = {
  properties: {
    spec: {
      type: 'object',
      required: ['group', 'names', 'scope', 'versions'],
      properties: {
        group: text,
        scope: text,
        names: {
          type: 'object',
          required: ['plural', 'kind'],
          properties: { plural: text, singular: text, kind: text, shortNames: { type: 'array', items: text } },
        },
        versions: {
          type: 'array',
          items: {
            type: 'object',
            required: ['name', 'served', 'storage'],
            properties: {
              name: text,
              served: { type: 'boolean' },
              storage: { type: 'boolean' },
              schema: { type: 'object', properties: { openAPIV3Schema: jsonSchema } },
              additionalPrinterColumns: {
                type: 'array',
                items: {
                  type: 'object',
                  required: ['name', 'type', 'jsonPath'],
                  properties: { name: text, type: text, jsonPath: text },
                },
              },
            },
          },
        },
      },
    },
  },
};

const types: Record<string, Schema> = {
  configmaps: { properties: { data: { ...strings, nullable: true } } },
  secrets: { properties: { data: { ...strings, nullable: true }, stringData: { ...strings, nullable: true } } },
  [definitionsId]: definition,
  'deployments.apps': workload,
  'replicasets.apps': workload,
  'statefulsets.apps': workload,
  pods: {
    properties: {
      spec: podSpec,
      status: { type: 'object', properties: { conditions: { type: 'array', items: { type: 'object' } } } },
    },
  },
  services: {
    properties: {
      spec: {
        type: 'object',
        properties: {
          type: text,
          clusterIP: text,
          selector: { ...strings, nullable: true },
          publishNotReadyAddresses: { type: 'boolean' },
          ports: {
            type: 'array',
            nullable: true,
            items: {
              type: 'object',
              properties: {
                name: text,
                port: whole,
                targetPort: { 'x-kubernetes-int-or-string': true },
                protocol: text,
                nodePort: whole,
              },
            },
          },
        },
      },
    },
  },
  'endpointslices.discovery.k8s.io': {
    properties: {
      addressType: text,
      endpoints: {
        type: 'array',
        nullable: true,
        items: {
          type: 'object',
          properties: { addresses: { type: 'array', items: text }, conditions: { type: 'object' } },
        },
      },
    },
  },
};
