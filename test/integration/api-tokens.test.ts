import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { scoped } from '@cdaas/control-plane/database/db.ts';
import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify, SignJWT } from 'jose';
import { codesOf, createTestTenant, openTestApi } from '../support/api.ts';

after(() => api.close());
const api = await openTestApi('api_tokens');
const tenant = await createTestTenant(api, 'acme');

const form = (fields: Record<string, string>) => ({
  body: new URLSearchParams(fields).toString(),
  headers: { 'content-type': 'application/x-www-form-urlencoded' },
});

test('client id and secret are exchanged for a token by form, by JSON and by HTTP Basic', async () => {
  const { clientId, clientSecret } = tenant.credential;
  const grant = { grant_type: 'client_credentials', audience: 'https://elsewhere.example.org' };
  const basic = Buffer.from(`${clientId}:${clientSecret}`).toString('base64');
  const basicForm = form(grant);
  for (const options of [
    form({ ...grant, client_id: clientId, client_secret: clientSecret }),
    { body: { ...grant, client_id: clientId, client_secret: clientSecret } },
    { ...basicForm, headers: { ...basicForm.headers, authorization: `Basic ${basic}` } },
  ]) {
    const answer = await api.call(null, 'POST', '/oauth/token', options);
    assert.equal(answer.status, 200, answer.text);
    const { access_token, token_type, expires_in } = answer.json as Record<string, unknown>;
    assert.equal(token_type, 'Bearer');
    assert.equal(expires_in, 86_400);
    assert.equal(answer.headers['cache-control'], 'no-store');
    assert.equal((await api.call({ token: String(access_token) }, 'GET', '/clusters')).status, 200);
  }
});

test('a token carries the claims that clients read and verifies against the published keys', async () => {
  const { keys } = (await api.call(null, 'GET', '/.well-known/jwks.json')).json as { keys: { kid: string }[] };
  const { payload } = await jwtVerify(tenant.admin.token, createLocalJWKSet({ keys } as never), {
    issuer: 'http://127.0.0.1:8080',
    audience: 'http://127.0.0.1:8080',
  });
  assert.deepEqual(payload['https://cloud.armory.io/principal'], {
    orgId: tenant.organisationId,
    orgName: 'acme',
    envId: tenant.tenantId,
    name: 'admin',
    type: 'machine',
  });
  assert.ok(payload.jti);
  assert.equal(decodeProtectedHeader(tenant.admin.token).kid, keys[0]?.kid);
  assert.ok(!JSON.stringify(keys).includes('"d"'), 'no private key is published');
});

test('what the token endpoint refuses, it refuses in the words of RFC 6749', async () => {
  const { clientId, clientSecret } = tenant.credential;
  const good = { grant_type: 'client_credentials', client_id: clientId, client_secret: clientSecret };
  const cases: [object, number, string][] = [
    [{ ...good, client_secret: 'wrong' }, 401, 'invalid_client'],
    [{ ...good, client_id: 'nobody' }, 401, 'invalid_client'],
    [{ ...good, grant_type: 'password' }, 400, 'unsupported_grant_type'],
    [{ client_id: clientId }, 400, 'invalid_request'],
    [{ ...good, client_secret: undefined }, 400, 'invalid_request'],
    [{ ...good, client_secret: 5 }, 400, 'invalid_request'],
  ];
  for (const [body, status, error] of cases) {
    const answer = await api.call(null, 'POST', '/oauth/token', { body });
    assert.equal(answer.status, status, JSON.stringify(body));
    assert.equal((answer.json as { error: string }).error, error);
    assert.ok(!answer.text.includes(clientSecret));
  }
  const nothing = await api.call(null, 'POST', '/oauth/token');
  assert.equal(nothing.status, 400);
  const broken = await api.call(null, 'POST', '/oauth/token', {
    body: '{',
    headers: { 'content-type': 'application/json' },
  });
  assert.equal((broken.json as { error: string }).error, 'invalid_request');
});

test('a token that is missing, malformed, signed by another or altered is answered 401', async () => {
  const [head, body, signature] = tenant.admin.token.split('.');
  const claims = JSON.parse(Buffer.from(String(body), 'base64url').toString());
  const altered = Buffer.from(JSON.stringify({ ...claims, exp: claims.exp + 1 })).toString('base64url');
  const none = Buffer.from('{"alg":"none"}').toString('base64url');
  for (const token of ['x', 'a.b.c', `${head}.${altered}.${signature}`, `${none}.${body}.`, `${head}.${body}.`]) {
    const answer = await api.call({ token }, 'GET', '/pipelines');
    assert.equal(answer.status, 401, token);
    assert.deepEqual(codesOf(answer), ['auth.missing']);
    assert.equal(answer.headers['www-authenticate'], 'Bearer');
  }
});

test('a token for another audience, of another issuer or past its time is refused, though our key signed it', async () => {
  const { kid, key } = await api.deps.signingKeys.current();
  const claims = decodeJwt(tenant.admin.token);
  const own = { iss: 'http://127.0.0.1:8080', aud: 'http://127.0.0.1:8080' };
  const now = Math.floor(api.db.clock.now().getTime() / 1000);
  const cases: [object, number][] = [
    [{}, 200],
    [{ aud: 'https://elsewhere.example.org' }, 401],
    [{ iss: 'https://elsewhere.example.org' }, 401],
    [{ exp: now - 60 }, 401],
    [{ nbf: now + 60 }, 401],
    [{ jti: undefined }, 401],
    [{ 'https://cloud.armory.io/principal': { orgId: tenant.organisationId } }, 401],
  ];
  for (const [change, status] of cases) {
    const jwt = new SignJWT({ ...claims, ...own, ...change }).setProtectedHeader({ alg: 'EdDSA', kid });
    const answer = await api.call({ token: await jwt.sign(key) }, 'GET', '/pipelines');
    assert.equal(answer.status, status, JSON.stringify(change));
  }
});

test('a disabled credential is refused at once, though its token still runs', async () => {
  const other = await createTestTenant(api, 'short-lived');
  assert.equal((await api.call(other.admin, 'GET', '/pipelines')).status, 200);
  await scoped(api.db, other, (tx) =>
    tx.clientCredential.update({ where: { id: other.credential.id }, data: { disabledAt: api.db.clock.now() } }),
  );
  assert.equal((await api.call(other.admin, 'GET', '/pipelines')).status, 401);
  const { clientId, clientSecret } = other.credential;
  const again = await api.call(null, 'POST', '/oauth/token', {
    body: { grant_type: 'client_credentials', client_id: clientId, client_secret: clientSecret },
  });
  assert.equal(again.status, 401);
});

test('a role taken away takes its permissions with it at once', async () => {
  const other = await createTestTenant(api, 'demoted');
  await scoped(api.db, other, (tx) =>
    tx.clientCredentialRole.deleteMany({ where: { credentialId: other.credential.id } }),
  );
  const answer = await api.call(other.admin, 'GET', '/pipelines');
  assert.equal(answer.status, 403);
  assert.deepEqual(codesOf(answer), ['auth.forbidden']);
});

test('a role that belongs to another tenant gives nothing in this one', async () => {
  const other = await createTestTenant(api, 'two-tenants');
  const { organisationId, otherTenantId } = other;
  await scoped(api.db, other, async (tx) => {
    const credentialId = other.credential.id;
    await tx.clientCredentialRole.deleteMany({ where: { credentialId } });
    const role = await tx.role.create({ data: { organisationId, tenantId: otherTenantId, name: 'elsewhere' } });
    const grant = { type: 'api', resource: 'tenant', permission: 'full' };
    await tx.grant.create({ data: { organisationId, roleId: role.id, ...grant } });
    await tx.clientCredentialRole.create({ data: { organisationId, credentialId, roleId: role.id } });
  });
  assert.equal((await api.call(other.admin, 'GET', '/pipelines')).status, 403);
});

test('secrets are kept as hashes, signing keys wrapped', async () => {
  const [row] = await api.db.prisma.signingKey.findMany();
  assert.ok(row);
  assert.ok(!Buffer.from(row.wrappedPrivateJwk).toString('latin1').includes('"d"'));
  const { secretHash } = await scoped(api.db, tenant, (tx) =>
    tx.clientCredential.findUniqueOrThrow({ where: { id: tenant.credential.id } }),
  );
  assert.match(secretHash, /^[0-9a-f]{64}$/);
});

test('HTTP Basic is held to the same rules as the body: what cannot be stored or is too long is refused', async () => {
  const { clientId, clientSecret } = tenant.credential;
  for (const pair of [
    '%00:%00',
    `${clientId}%00:x`,
    `${clientId}:${clientSecret}%00`,
    `${'x'.repeat(201)}:x`,
    'no-colon',
  ]) {
    const { body, headers } = form({ grant_type: 'client_credentials' });
    const basic = { ...headers, authorization: `Basic ${Buffer.from(pair).toString('base64')}` };
    const answer = await api.call(null, 'POST', '/oauth/token', { body, headers: basic });
    assert.equal(answer.status, 401, pair);
    assert.equal((answer.json as { error: string }).error, 'invalid_client');
  }
});
