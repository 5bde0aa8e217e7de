import type { KeySet } from '@cdaas/contract/tokens.ts';
import { type CryptoKey, calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK } from 'jose';
import { z } from 'zod';
import type { Database } from './database/db.ts';
import type { Vault } from './encryption.ts';

/** Ed25519 keys that sign access tokens. The newest signs, all that are not retired verify. */
export type SigningKeys = {
  /** The key to sign with; the first call of an installation makes one. */
  current(): Promise<{ kid: string; key: CryptoKey }>;
  /** The public key of that id; undefined where there is none. */
  verifier(kid: string): Promise<CryptoKey | undefined>;
  /** What `/.well-known/jwks.json` serves. */
  publicKeys(): Promise<KeySet>;
};

const PublicJwk = z.object({ kty: z.literal('OKP'), crv: z.literal('Ed25519'), x: z.string() });
const algorithm = 'EdDSA';

/** How long a loaded set is used, and how often an unknown key id may ask for it anew. */
const keepMs = 60_000;
const askAgainMs = 5_000;

type Loaded = { at: number; keys: { kid: string; jwk: z.infer<typeof PublicJwk>; wrapped: Uint8Array }[] };

/**
 * Keys live in the database, their private halves wrapped by the key-encryption key, so that every API process signs
 * and verifies alike. Two processes that start on an empty table may both make one; either then verifies the other's.
 */
export function createSigningKeys({ db, vault }: { db: Database; vault: Vault }): SigningKeys {
  let loaded: Loaded | undefined;
  const imported = new Map<string, Promise<CryptoKey>>();

  async function load(maxAgeMs: number): Promise<Loaded> {
    const now = performance.now();
    if (loaded !== undefined && now - loaded.at < maxAgeMs) return loaded;
    const rows = await db.prisma.signingKey.findMany({
      where: { retiredAt: null, algorithm },
      orderBy: [{ createdAt: 'desc' }, { kid: 'asc' }],
    });
    const keys = rows.map((row) => ({
      kid: row.kid,
      jwk: PublicJwk.parse(row.publicJwk),
      wrapped: row.wrappedPrivateJwk,
    }));
    loaded = { at: now, keys };
    return loaded;
  }

  async function create(): Promise<void> {
    const pair = await generateKeyPair(algorithm, { crv: 'Ed25519', extractable: true });
    const publicJwk = PublicJwk.parse(await exportJWK(pair.publicKey));
    const kid = await calculateJwkThumbprint(publicJwk);
    const privateJwk = new TextEncoder().encode(JSON.stringify(await exportJWK(pair.privateKey)));
    const wrappedPrivateJwk = vault.wrap(`signing_key/${kid}`, privateJwk);
    await db.prisma.signingKey.create({ data: { kid, algorithm, publicJwk, wrappedPrivateJwk } });
    loaded = undefined;
  }

  function keyOf(name: string, jwk: () => JWK): Promise<CryptoKey> {
    const known = imported.get(name);
    if (known !== undefined) return known;
    const made = importJWK(jwk(), algorithm).then((key) => {
      if (key instanceof Uint8Array) throw new Error('a signing key is not symmetric');
      return key;
    });
    imported.set(name, made);
    return made;
  }

  return {
    async current() {
      let newest = (await load(keepMs)).keys[0];
      if (newest === undefined) {
        await create();
        newest = (await load(0)).keys[0];
      }
      if (newest === undefined) throw new Error('no signing key although one was just made');
      const { kid, wrapped } = newest;
      const key = await keyOf(`private ${kid}`, () =>
        JSON.parse(new TextDecoder().decode(vault.unwrap(`signing_key/${kid}`, wrapped))),
      );
      return { kid, key };
    },
    async verifier(kid) {
      const find = (set: Loaded) => set.keys.find((key) => key.kid === kid);
      const found = find(await load(keepMs)) ?? find(await load(askAgainMs));
      return found === undefined ? undefined : keyOf(`public ${kid}`, () => found.jwk);
    },
    async publicKeys() {
      const { keys } = await load(keepMs);
      return { keys: keys.map(({ kid, jwk }) => ({ ...jwk, kid, alg: algorithm, use: 'sig' as const })) };
    },
  };
}
