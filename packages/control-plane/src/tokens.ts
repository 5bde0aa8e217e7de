import { createHash, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto';
import { PrincipalClaim, principalClaim } from '@cdaas/contract/tokens.ts';
import { errors, jwtVerify, SignJWT } from 'jose';
import { type Database, scoped } from './database/db.ts';
import type { Claims } from './principals.ts';
import type { SigningKeys } from './signing-keys.ts';

/** Seconds that an access token is good for (spec/tenancy-and-access.md §4). */
export const tokenSeconds = 86_400;

export type TokenDeps = {
  db: Database;
  signingKeys: SigningKeys;
  /** Issuer and audience of every token: the public URL of the API. */
  issuer: string;
};

/** A fresh client secret: 256 random bits, so that one round of SHA-256 is enough to keep it by. */
export function newClientSecret(): string {
  return randomBytes(32).toString('base64url');
}

/** What is stored of a client secret. */
export function hashClientSecret(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

/**
 * The client credentials grant. The directory tells where to look; the credential itself is read within its tenant.
 *
 * @returns null where id and secret do not name an enabled credential; the caller is not told which was wrong, and the
 *   comparison takes as long for an unknown id
 */
export async function issueToken(
  { db, signingKeys, issuer }: TokenDeps,
  { clientId, clientSecret }: { clientId: string; clientSecret: string },
): Promise<{ accessToken: string; expiresIn: number } | null> {
  const found = await findCredential(db, clientId);
  const given = Buffer.from(hashClientSecret(clientSecret), 'hex');
  const stored = Buffer.from(found?.secretHash ?? hashClientSecret(''), 'hex');
  const same = given.length === stored.length && timingSafeEqual(given, stored);
  if (found === null || !same) return null;

  const { kid, key } = await signingKeys.current();
  const principal: PrincipalClaim = {
    orgId: found.organisationId,
    orgName: found.organisationName,
    envId: found.tenantId,
    name: found.name,
    type: 'machine',
  };
  const issuedAt = Math.floor(db.clock.now().getTime() / 1000);
  const accessToken = await new SignJWT({ [principalClaim]: principal })
    .setProtectedHeader({ alg: 'EdDSA', typ: 'JWT', kid })
    .setIssuer(issuer)
    .setAudience(issuer)
    .setSubject(found.id)
    .setJti(randomUUID())
    .setIssuedAt(issuedAt)
    .setNotBefore(issuedAt)
    .setExpirationTime(issuedAt + tokenSeconds)
    .sign(key);
  return { accessToken, expiresIn: tokenSeconds };
}

async function findCredential(db: Database, clientId: string) {
  const entry = await db.prisma.credentialDirectory.findUnique({ where: { clientId } });
  if (entry === null) return null;
  const { organisationId, tenantId, credentialId } = entry;
  const credential = await scoped(db, { organisationId, tenantId }, (tx) =>
    tx.clientCredential.findFirst({
      where: { id: credentialId, clientId, disabledAt: null },
      select: { id: true, name: true, secretHash: true, organisation: { select: { name: true } } },
    }),
  );
  if (credential === null) return null;
  const { id, name, secretHash, organisation } = credential;
  return { id, name, secretHash, organisationName: organisation.name, organisationId, tenantId };
}

/**
 * Checks signature, issuer, audience and lifetime of a token. What its holder may do is looked up apart, at each request.
 *
 * @returns null where the token is not good, whatever the reason
 * @throws where the keys cannot be read
 */
export async function verifyToken({ db, signingKeys, issuer }: TokenDeps, token: string): Promise<Claims | null> {
  try {
    const { payload } = await jwtVerify(
      token,
      async ({ kid }) => {
        const key = kid === undefined ? undefined : await signingKeys.verifier(kid);
        if (key === undefined) throw new errors.JWKSNoMatchingKey();
        return key;
      },
      {
        algorithms: ['EdDSA'],
        issuer,
        audience: issuer,
        requiredClaims: ['exp', 'iat', 'sub', 'jti'],
        clockTolerance: 5,
        currentDate: db.clock.now(),
      },
    );
    const principal = PrincipalClaim.safeParse(payload[principalClaim]);
    if (!principal.success || payload.sub === undefined || payload.exp === undefined) return null;
    return {
      credentialId: payload.sub,
      orgId: principal.data.orgId,
      tenantId: principal.data.envId,
      expiresAt: new Date(payload.exp * 1000),
    };
  } catch (error) {
    if (error instanceof errors.JOSEError) return null;
    throw error;
  }
}
