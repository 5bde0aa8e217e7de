import { ErrorBody } from '@cdaas/contract/errors.ts';
import { KeySet, TokenAnswer, TokenError, TokenRequest } from '@cdaas/contract/tokens.ts';
import { issueToken } from '@cdaas/control-plane/tokens.ts';
import formbody from '@fastify/formbody';
import type { FastifyReply } from 'fastify';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import type { ApiDeps } from '../deps.ts';
import { sendError, toAppError } from '../plugins/errors.ts';

/** The token endpoint and the keys that its tokens are checked with. */
export const tokenRoutes: FastifyPluginAsyncZod<ApiDeps> = async (app, { db, signingKeys, settings }) => {
  await app.register(formbody, { bodyLimit: 16_384 });

  app.post(
    '/oauth/token',
    {
      config: { permission: 'public' },
      bodyLimit: 16_384,
      schema: {
        tags: ['tokens'],
        summary: 'Exchange client id and secret for an access token (RFC 6749 §4.4).',
        consumes: ['application/x-www-form-urlencoded', 'application/json'],
        body: TokenRequest.optional(),
        response: { 200: TokenAnswer, 400: TokenError, 401: TokenError, 429: ErrorBody, 503: ErrorBody },
      },
      // RFC 6749 §5.2 has its own shape for what the client did wrong; the rest leaves as everywhere.
      errorHandler: (error, request, reply) => {
        const known = toAppError(error, request);
        if (![400, 415, 422].includes(known.status)) return sendError(request, reply, known);
        return refuse(reply, 400, 'invalid_request', 'The request could not be read: send a form or JSON.');
      },
    },
    async (request, reply) => {
      reply.header('pragma', 'no-cache');
      const form = request.body ?? {};
      const basic = basicOf(request.headers.authorization);
      if (basic === 'unreadable')
        return refuse(reply, 401, 'invalid_client', 'The Basic credentials could not be read.');
      if (form.grant_type === undefined) return refuse(reply, 400, 'invalid_request', 'grant_type is required.');
      if (form.grant_type !== 'client_credentials') {
        return refuse(reply, 400, 'unsupported_grant_type', 'Only the grant client_credentials is supported yet.');
      }
      const clientId = basic?.clientId ?? form.client_id;
      const clientSecret = basic?.clientSecret ?? form.client_secret;
      if (!clientId || !clientSecret) {
        return refuse(reply, 400, 'invalid_request', 'client_id and client_secret are required.');
      }
      const issuer = settings.publicUrl;
      const token = await issueToken({ db, signingKeys, issuer }, { clientId, clientSecret });
      if (token === null) {
        return refuse(reply, 401, 'invalid_client', 'The client does not exist, is disabled, or its secret is wrong.');
      }
      return { access_token: token.accessToken, token_type: 'Bearer' as const, expires_in: token.expiresIn };
    },
  );

  app.get(
    '/.well-known/jwks.json',
    {
      config: { permission: 'public' },
      schema: { tags: ['tokens'], summary: 'Public keys of the tokens.', response: { 200: KeySet } },
    },
    async (_request, reply) => {
      reply.header('cache-control', 'public, max-age=60');
      return signingKeys.publicKeys();
    },
  );
};

function refuse(reply: FastifyReply, status: 400 | 401, error: TokenError['error'], description: string): FastifyReply {
  if (status === 401) reply.header('www-authenticate', 'Basic realm="cdaas"');
  const body: TokenError = { error, error_description: description };
  return reply
    .code(status)
    .type('application/json; charset=utf-8')
    .serializer((value) => JSON.stringify(value))
    .send(body);
}

/** What holds for them in a body holds here. */
const BasicCredentials = TokenRequest.pick({ client_id: true, client_secret: true }).required();

/** RFC 6749 §2.3.1: id and secret are form-encoded before they are joined. */
function basicOf(header: string | undefined): { clientId: string; clientSecret: string } | 'unreadable' | undefined {
  if (header === undefined) return undefined;
  const encoded = /^Basic +([A-Za-z0-9+/=]+)$/i.exec(header)?.[1];
  const pair = encoded === undefined ? '' : Buffer.from(encoded, 'base64').toString('utf8');
  const colon = pair.indexOf(':');
  if (colon < 0) return 'unreadable';
  try {
    const [client_id, client_secret] = [pair.slice(0, colon), pair.slice(colon + 1)].map((part) =>
      decodeURIComponent(part.replaceAll('+', ' ')),
    );
    const { success, data } = BasicCredentials.safeParse({ client_id, client_secret });
    return success ? { clientId: data.client_id, clientSecret: data.client_secret } : 'unreadable';
  } catch {
    return 'unreadable';
  }
}
