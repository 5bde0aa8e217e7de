import { z } from 'zod';
import { text } from './text.ts';

/**
 * RFC 6749 §4.4. The body may be a form or JSON; the client may instead name itself by HTTP Basic (§2.3.1). `audience`
 * is accepted and not compared: clients in use send a fixed one.
 */
export const TokenRequest = z
  .object({
    grant_type: z.string().optional(),
    client_id: text(200).optional(),
    client_secret: text(500).optional(),
    audience: text(2000).optional(),
    scope: text(2000).optional(),
  })
  .meta({ id: 'TokenRequest' });
export type TokenRequest = z.infer<typeof TokenRequest>;

export const TokenAnswer = z
  .object({
    access_token: z.string().describe('A signed JWT; send it as `Authorization: Bearer`.'),
    token_type: z.literal('Bearer'),
    expires_in: z.number().int().describe('Seconds.'),
  })
  .meta({ id: 'TokenAnswer' });
export type TokenAnswer = z.infer<typeof TokenAnswer>;

/** RFC 6749 §5.2. */
export const TokenError = z
  .object({
    error: z.enum(['invalid_request', 'invalid_client', 'unsupported_grant_type', 'temporarily_unavailable']),
    error_description: z.string(),
  })
  .meta({ id: 'TokenError', description: 'The error of the token endpoint, as RFC 6749 §5.2 has it.' });
export type TokenError = z.infer<typeof TokenError>;

/** RFC 7517, RFC 8037: the public halves of the keys that sign tokens. */
export const KeySet = z
  .object({
    keys: z.array(
      z.object({
        kty: z.literal('OKP'),
        crv: z.literal('Ed25519'),
        x: z.string(),
        kid: z.string(),
        alg: z.literal('EdDSA'),
        use: z.literal('sig'),
      }),
    ),
  })
  .meta({ id: 'KeySet' });
export type KeySet = z.infer<typeof KeySet>;

/** The claim that says who calls: an identifier that old clients look for, never fetched. */
export const principalClaim = 'https://cloud.armory.io/principal';

export const PrincipalClaim = z.object({
  orgId: z.string(),
  orgName: z.string(),
  envId: z.string(),
  name: z.string(),
  type: z.enum(['machine']),
});
export type PrincipalClaim = z.infer<typeof PrincipalClaim>;
