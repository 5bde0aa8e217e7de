import assert from 'node:assert/strict';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { scoped } from '@cdaas/control-plane/database/db.ts';
import {
  createVault,
  DecryptionError,
  loadOrCreateKey,
  parseKey,
  readKey,
  type Vault,
} from '@cdaas/control-plane/encryption.ts';
import { openTestDatabase, type TestOrganisation, withOrganisation } from '../support/database.ts';

let open: Awaited<ReturnType<typeof openTestDatabase<'cdaas_api' | 'cdaas_worker'>>>;
let org: TestOrganisation;
let vault: Vault;
const key = Buffer.alloc(32, 9);
const at = { table: 'cluster', row: 'a', field: 'credential' };
const secret = 'planted-secret-8c1f';

before(async () => {
  open = await openTestDatabase('encryption', ['cdaas_api', 'cdaas_worker']);
  org = await withOrganisation(open.cdaas_api);
  vault = createVault(key, open.cdaas_api);
});

after(() => open.close());

/** Fails to decrypt, and the error shows neither the secret nor the key. */
async function assertClosed(work: Promise<unknown>): Promise<void> {
  const error = await work.then(
    () => assert.fail('it was decrypted'),
    (caught: unknown) => caught,
  );
  assert.ok(error instanceof DecryptionError, String(error));
  const shown = `${error.stack}${JSON.stringify(error)}${error.cause}`;
  for (const part of [secret, key.toString('base64'), key.toString('hex')]) assert.ok(!shown.includes(part));
}

describe('the vault', () => {
  it('gives back what was encrypted, bytes and JSON, and never the same envelope twice', async () => {
    const [one, two] = [
      await vault.encrypt(org.organisationId, at, secret),
      await vault.encrypt(org.organisationId, at, secret),
    ];
    assert.notDeepEqual(one, two);
    assert.equal(Buffer.from(await vault.decrypt(org.organisationId, at, one)).toString(), secret);
    assert.ok(!Buffer.from(one).includes(secret));
    const value = { manifests: [{ kind: 'Secret', data: { a: 'ü' } }], n: null };
    assert.deepEqual(
      await vault.decryptJson(org.organisationId, at, await vault.encryptJson(org.organisationId, at, value)),
      value,
    );
    const empty = await vault.encrypt(org.organisationId, at, '');
    assert.equal((await vault.decrypt(org.organisationId, at, empty)).length, 0);
  });

  it('does not decrypt a value in another place, of another organisation, or changed in any byte', async () => {
    const sealed = await vault.encrypt(org.organisationId, at, secret);
    for (const place of [
      { ...at, table: 'cluste' },
      { ...at, row: 'b' },
      { ...at, field: 'plan' },
    ]) {
      await assertClosed(vault.decrypt(org.organisationId, place, sealed));
    }
    const other = await withOrganisation(open.cdaas_api);
    await vault.encrypt(other.organisationId, at, secret);
    await assertClosed(vault.decrypt(other.organisationId, at, sealed));
    for (let index = 0; index < sealed.length; index++) {
      const changed = Uint8Array.from(sealed);
      changed[index]! ^= 1;
      await assertClosed(vault.decrypt(org.organisationId, at, changed));
    }
    for (const length of [0, 1, 17, 44, sealed.length - 1]) {
      await assertClosed(vault.decrypt(org.organisationId, at, sealed.subarray(0, length)));
    }
  });

  it('does not open with another key-encryption key', async () => {
    const sealed = await vault.encrypt(org.organisationId, at, secret);
    const wrong = createVault(Buffer.alloc(32, 8), open.cdaas_api);
    await assertClosed(wrong.decrypt(org.organisationId, at, sealed));
    await assertClosed(wrong.encrypt(org.organisationId, at, secret));
    await assertClosed(Promise.resolve().then(() => wrong.unwrap('signing_key/k', vault.wrap('signing_key/k', key))));
    await assertClosed(
      Promise.resolve().then(() => vault.unwrap('signing_key/other', vault.wrap('signing_key/k', key))),
    );
    assert.deepEqual([...vault.unwrap('signing_key/k', vault.wrap('signing_key/k', Uint8Array.of(1)))], [1]);
  });

  it('keeps one data key for each organisation, wrapped, also when many values come first at once', async () => {
    const fresh = await withOrganisation(open.cdaas_api);
    const vaults = [createVault(key, open.cdaas_api), createVault(key, open.cdaas_api)];
    const envelopes = await Promise.all(
      Array.from({ length: 10 }, (_, index) => vaults[index % 2]!.encrypt(fresh.organisationId, at, `${index}`)),
    );
    const keys = await scoped(open.cdaas_api, fresh, (tx) => tx.dataKey.findMany());
    // One for each process at most.
    assert.ok(keys.length >= 1 && keys.length <= 2);
    // The worker only reads them, under its own role.
    const worker = createVault(key, open.cdaas_worker);
    for (const [index, envelope] of envelopes.entries()) {
      const plain = await worker.decrypt(fresh.organisationId, at, envelope);
      assert.equal(Buffer.from(plain).toString(), `${index}`);
    }
    assert.ok((await worker.encrypt(fresh.organisationId, at, 'previous form')).length > 0);
  });
});

describe('the key-encryption key', () => {
  it('is made on the first start, for this user alone, and read afterwards', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'cdaas-key-'));
    try {
      const path = join(folder, 'inner', 'key');
      const [made, raced] = await Promise.all([loadOrCreateKey(path), loadOrCreateKey(path)]);
      assert.deepEqual(made, raced);
      assert.equal(made.length, 32);
      assert.equal((await stat(path)).mode & 0o777, 0o600);
      assert.deepEqual(await readKey(path), made);
      await writeFile(path, `${secret}\n`);
      await assert.rejects(
        loadOrCreateKey(path),
        (error: Error) => error.message.startsWith(path) && !error.message.includes(secret),
      );
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('may be 32 raw bytes or base64, and nothing else', () => {
    assert.deepEqual([...parseKey(key)], [...key]);
    assert.deepEqual([...parseKey(Buffer.from(key.toString('base64')))], [...key]);
    assert.deepEqual([...parseKey(Buffer.from(`${key.toString('base64')}\n`))], [...key]);
    for (const bad of ['', 'short', key.toString('hex'), Buffer.alloc(33).toString('base64')]) {
      assert.throws(() => parseKey(Buffer.from(bad)), /must be 32 bytes/);
    }
  });
});
