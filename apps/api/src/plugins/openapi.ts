import swagger from '@fastify/swagger';
import type { FastifyInstance } from 'fastify';
import { createJsonSchemaTransform, jsonSchemaTransformObject } from 'fastify-type-provider-zod';

/**
 * The OpenAPI 3.1 document, made from the schemas that validate. Register it before the routes.
 *
 * @param publicUrl base URL that clients call
 */
export async function installOpenApi(app: FastifyInstance, publicUrl: string): Promise<void> {
  const transform = createJsonSchemaTransform({ skipList: [] });
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'CDaaS',
        version: '1',
        description: 'Continuous deployment as a service: progressive delivery to many Kubernetes clusters.',
      },
      servers: [{ url: publicUrl }],
      components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } } },
    },
    transform: (document) => {
      const { schema, url } = transform(document);
      const permission = document.route.config?.permission;
      const security = permission === 'public' ? [] : [{ bearer: [] }];
      // No route is left out: what is served is described.
      return { url, schema: { ...schema, hide: false, security, 'x-permission': permission } };
    },
    transformObject: jsonSchemaTransformObject,
  });
}
