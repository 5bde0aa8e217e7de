import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type Database, scoped } from './database/db.ts';
import { newId } from './ids.ts';

// Envelope encryption: an AES-256-GCM data key for each organisation, wrapped by the key-encryption key that the operator
// keeps outside the database. The additional data says where a value belongs, so that one row's value does not decrypt in
// another's place.
//
//   envelope  = version (1) · id of the data key (16) · nonce (12) · tag (16) · ciphertext
//   wrapped   = version (1) · nonce (12) · tag (16) · ciphertext, by the key-encryption key

/** What Prisma takes and gives for a bytea column. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** Where an encrypted value belongs; part of what is authenticated. */
export type FieldAddress = { table: string; row: string; field: string };

export type Vault = {
  encrypt(organisationId: string, at: FieldAddress, plain: Uint8Array | string): Promise<Bytes>;
  /** @throws DecryptionError, which shows neither value nor key */
  decrypt(organisationId: string, at: FieldAddress, envelope: Uint8Array): Promise<Bytes>;
  encryptJson(organisationId: string, at: FieldAddress, value: unknown): Promise<Bytes>;
  /** @throws DecryptionError */
  decryptJson(organisationId: string, at: FieldAddress, envelope: Uint8Array): Promise<unknown>;
  /** Wraps a secret of the control plane's own, such as a signing key, by the key-encryption key itself. */
  wrap(purpose: string, plain: Uint8Array): Bytes;
  /** @throws DecryptionError */
  unwrap(purpose: string, wrapped: Uint8Array): Bytes;
};

/** A value cannot be decrypted: another key, another place, or changed bytes. Which, the cipher does not tell. */
export class DecryptionError extends Error {
  override name = 'DecryptionError';
}

const version = 1;
const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;
const idBytes = 16;

/**
 * Reads a key-encryption key: 32 bytes, raw or as base64 with or without a newline.
 *
 * @throws Error saying what the file must hold, and nothing of what it holds
 */
export function parseKey(content: Uint8Array): Bytes {
  if (content.length === keyBytes) return Uint8Array.from(content);
  const text = Buffer.from(content).toString('latin1').trim();
  const decoded = /^[A-Za-z0-9+/_-]+={0,2}$/.test(text) ? Buffer.from(text, 'base64') : Buffer.alloc(0);
  if (decoded.length === keyBytes) return Uint8Array.from(decoded);
  throw new Error('The encryption key must be 32 bytes, raw or as base64 (make one with: openssl rand -base64 32).');
}

/**
 * Reads the key-encryption key, or makes one that only this user may read, on the first start of an installation.
 *
 * @throws Error naming the file where it holds no key
 */
export async function loadOrCreateKey(path: string): Promise<Bytes> {
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, `${randomBytes(keyBytes).toString('base64')}\n`, { mode: 0o600, flag: 'wx' });
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  }
  return readKey(path);
}

/** Reads the key-encryption key of an installation that has one. @throws Error naming the file where it holds no key */
export async function readKey(path: string): Promise<Bytes> {
  const content = await readFile(path);
  try {
    return parseKey(content);
  } catch (error) {
    throw new Error(`${path}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/**
 * Encrypts for organisations, with their data keys out of the database. The first value of an organisation makes its key;
 * two processes may make one each: the newest encrypts, every one decrypts.
 */
export function createVault(keyEncryptionKey: Uint8Array, db: Pick<Database, 'prisma' | 'clock'>): Vault {
  const kek = parseKey(keyEncryptionKey);
  type DataKeys = { newest: string | undefined; byId: Map<string, Bytes> };
  const cache = new Map<string, Promise<DataKeys>>();
  const firstKeys = new Map<string, Promise<DataKeys>>();

  const purposeOf = (organisationId: string, id: string) => `data_key/${organisationId}/${id}`;

  async function load(organisationId: string): Promise<DataKeys> {
    const rows = await scoped(db, { organisationId }, (tx) =>
      tx.dataKey.findMany({ where: { organisationId }, orderBy: [{ createdAt: 'desc' }, { id: 'desc' }] }),
    );
    const byId = new Map(rows.map(({ id, wrapped }) => [id, unwrap(kek, purposeOf(organisationId, id), wrapped)]));
    return { newest: rows[0]?.id, byId };
  }

  function dataKeys(organisationId: string, fresh = false): Promise<DataKeys> {
    const known = cache.get(organisationId);
    if (known !== undefined && !fresh) return known;
    const loading = load(organisationId);
    cache.set(organisationId, loading);
    // A failure is not kept.
    loading.catch(() => cache.get(organisationId) === loading && cache.delete(organisationId));
    return loading;
  }

  async function newestKey(organisationId: string): Promise<{ id: string; key: Bytes }> {
    let keys = await dataKeys(organisationId);
    if (keys.newest === undefined) {
      const making = firstKeys.get(organisationId) ?? makeKey(organisationId);
      firstKeys.set(organisationId, making);
      keys = await making.finally(() => firstKeys.delete(organisationId));
    }
    const key = keys.newest === undefined ? undefined : keys.byId.get(keys.newest);
    if (keys.newest === undefined || key === undefined) throw new Error('no data key although one was just made');
    return { id: keys.newest, key };
  }

  async function makeKey(organisationId: string): Promise<DataKeys> {
    const id = newId(db.clock.now());
    const wrapped = wrap(kek, purposeOf(organisationId, id), randomBytes(keyBytes));
    await scoped(db, { organisationId }, (tx) => tx.dataKey.create({ data: { id, organisationId, wrapped } }));
    return dataKeys(organisationId, true);
  }

  async function encrypt(organisationId: string, at: FieldAddress, plain: Uint8Array | string): Promise<Bytes> {
    const { id, key } = await newestKey(organisationId);
    const sealed = seal(key, addressOf(organisationId, at), typeof plain === 'string' ? Buffer.from(plain) : plain);
    return concat(Uint8Array.of(version), idToBytes(id), sealed);
  }

  async function decrypt(organisationId: string, at: FieldAddress, envelope: Uint8Array): Promise<Bytes> {
    const what = `${at.table}.${at.field} of ${at.row}`;
    if (envelope[0] !== version) throw new DecryptionError(`${what} is not encrypted in a form that is known here.`);
    const id = bytesToId(envelope.subarray(1, 1 + idBytes));
    const key = (await dataKeys(organisationId)).byId.get(id) ?? (await dataKeys(organisationId, true)).byId.get(id);
    if (key === undefined) {
      throw new DecryptionError(`${what} is encrypted with a data key that its organisation does not have.`);
    }
    return open(key, addressOf(organisationId, at), envelope.subarray(1 + idBytes), what);
  }

  return {
    encrypt,
    decrypt,
    encryptJson: (organisationId, at, value) => encrypt(organisationId, at, JSON.stringify(value)),
    decryptJson: async (organisationId, at, envelope) =>
      JSON.parse(Buffer.from(await decrypt(organisationId, at, envelope)).toString()),
    wrap: (purpose, plain) => wrap(kek, purpose, plain),
    unwrap: (purpose, wrapped) => unwrap(kek, purpose, wrapped),
  };
}

/** Length-prefixed, so that no two addresses read alike. */
function addressOf(organisationId: string, { table, row, field }: FieldAddress): string {
  return [organisationId, table, row, field].map((part) => `${part.length}:${part}`).join('');
}

function wrap(kek: Uint8Array, purpose: string, plain: Uint8Array): Bytes {
  return concat(Uint8Array.of(version), seal(kek, purpose, plain));
}

function unwrap(kek: Uint8Array, purpose: string, wrapped: Uint8Array): Bytes {
  if (wrapped[0] !== version) throw new DecryptionError(`${purpose} is not wrapped in a form that is known here.`);
  return open(kek, purpose, wrapped.subarray(1), purpose);
}

function seal(key: Uint8Array, address: string, plain: Uint8Array): Bytes {
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(address));
  const body = concat(cipher.update(plain), cipher.final());
  return concat(nonce, cipher.getAuthTag(), body);
}

function open(key: Uint8Array, address: string, sealed: Uint8Array, what: string): Bytes {
  try {
    const nonce = sealed.subarray(0, nonceBytes);
    const tag = sealed.subarray(nonceBytes, nonceBytes + tagBytes);
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes });
    decipher.setAAD(Buffer.from(address)).setAuthTag(tag);
    return concat(decipher.update(sealed.subarray(nonceBytes + tagBytes)), decipher.final());
  } catch (cause) {
    throw new DecryptionError(
      `${what} cannot be decrypted: the encryption key is not the one it was encrypted with, or the value was moved or changed. Check ENCRYPTION_KEY_FILE.`,
      { cause },
    );
  }
}

function concat(...parts: Uint8Array[]): Bytes {
  return Uint8Array.from(Buffer.concat(parts));
}

function idToBytes(id: string): Uint8Array {
  return Buffer.from(id.replaceAll('-', ''), 'hex');
}

function bytesToId(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
