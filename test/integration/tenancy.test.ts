import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { installAuth, publicRoutes } from '@cdaas/api/plugins/auth.ts';
import { scoped } from '@cdaas/control-plane/database/db.ts';
import Fastify from 'fastify';
import {
  codesOf,
  createTestTenant,
  insertCluster,
  type Method,
  openTestApi,
  plantedSecret,
  shopFile,
} from '../support/api.ts';

// Every route of the API, asked with no credentials, by another organisation, by another tenant of the same
// organisation, and by a caller whose role gives nothing. A new route fails the first test until it has a line here:
// say what it needs, and for a route that names a thing, how a stranger asks for that thing.

/** `permission` as the route declares it; `names`: the url is of a thing of the tenant, so strangers get 404. */
type Row = { permission: string; names?: boolean; body?: unknown };

const routes: Record<string, Row> = {
  'GET /healthz': { permission: 'public' },
  'GET /readyz': { permission: 'public' },
  'GET /openapi.json': { permission: 'public' },
  'GET /.well-known/jwks.json': { permission: 'public' },
  'POST /oauth/token': { permission: 'public' },
  'GET /clusters/rbac.yaml': { permission: 'public' },
  'GET /clusters': { permission: 'cluster.list' },
  'POST /clusters': { permission: 'cluster.manage', body: {} },
  'GET /clusters/:name': { permission: 'cluster.list', names: true },
  'PATCH /clusters/:name': { permission: 'cluster.manage', names: true, body: { namespaces: ['shop'] } },
  'POST /clusters/:name/verify': { permission: 'cluster.manage', names: true },
  'DELETE /clusters/:name': { permission: 'cluster.manage', names: true },
  'GET /pipelines': { permission: 'deployment.view' },
  'POST /pipelines': { permission: 'deployment.start', body: {} },
  'POST /pipelines/kubernetes': { permission: 'deployment.start', body: {} },
  'GET /pipelines/:id': { permission: 'deployment.view', names: true },
  'GET /pipelines/:id/config': { permission: 'deployment.view', names: true },
  'GET /pipelines/:id/events': { permission: 'deployment.view', names: true },
  'POST /pipelines/:id/cancel': { permission: 'deployment.manage', names: true },
  'POST /pipelines/:id/redeploy': { permission: 'deployment.start', names: true },
  'GET /deployments/:id': { permission: 'deployment.view', names: true },
  'GET /deploy-engine/deployments/:id': { permission: 'deployment.view', names: true },
  'POST /deployments/:id/resume': { permission: 'deployment.manage', names: true },
  'POST /deployments/:id/rollback': { permission: 'deployment.manage', names: true },
  'POST /deployments/:id/steps/:ref/approve': { permission: 'deployment.approve', names: true },
  'POST /v1/graphql': { permission: 'deployment.view', body: { query: '{ __typename }' } },
  'POST /sandbox/clusters': { permission: 'cluster.manage', body: {} },
  'GET /sandbox/clusters/:id': { permission: 'cluster.list' },
};

after(() => api.close());
const api = await openTestApi('tenancy');
const owner = await createTestTenant(api, 'owner-organisation');
const stranger = await createTestTenant(api, 'stranger-organisation');
await insertCluster(api, owner, 'east');
const started = await api.call(owner.admin, 'POST', '/pipelines', { body: shopFile() });
const { pipelineId } = started.json as { pipelineId: string };
const pipeline = (await api.call(owner.admin, 'GET', `/pipelines/${pipelineId}`)).json as {
  steps: { deployment: { id: string } }[];
};
const deploymentId = String(pipeline.steps[0]?.deployment.id);

/** The url of a route for things of the owner. */
function urlOf(route: string): { method: Method; url: string } {
  const [method, path = ''] = route.split(' ');
  const id = path.includes('/deployments/') ? deploymentId : pipelineId;
  const url = path.replace(':id', id).replace(':ref', 'canary-step-2').replace(':name', 'east');
  return { method: method as Method, url };
}

const guarded = Object.entries(routes).filter(([, { permission }]) => permission !== 'public');

test('every route of the app is in the table, with the permission it declares', async () => {
  const { json } = await api.call(null, 'GET', '/openapi.json');
  const { paths } = json as { paths: Record<string, Record<string, { 'x-permission': string }>> };
  const served = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, route]) => [
      `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`,
      route['x-permission'],
    ]),
  );
  const table = Object.entries(routes).map(([route, { permission }]) => [route, permission]);
  assert.deepEqual(Object.fromEntries(served.sort()), Object.fromEntries(table.sort()));
});

test('docs/access.md lists exactly the calls that need a permission, each under its own', () => {
  const page = readFileSync(new URL('../../docs/access.md', import.meta.url), 'utf8');
  const documented = [...page.matchAll(/^\| `([a-z]+\.[a-z]+)` .*$/gm)].flatMap(([row, permission]) =>
    [...row.matchAll(/`([A-Z]+ \/[^`]*)`/g)].map(([, call]) => `${permission}: ${call}`),
  );
  const declared = guarded.map(([route, { permission }]) => `${permission}: ${route.replaceAll(/:(\w+)/g, '{$1}')}`);
  assert.deepEqual(documented.sort(), declared.sort());
});

test('the list of public routes is closed', () => {
  const open = Object.entries(routes).filter(([, { permission }]) => permission === 'public');
  assert.deepEqual(open.map(([route]) => route.split(' ')[1]).sort(), [...publicRoutes].sort());
});

test('a route without a permission, or public without being listed, stops the app from starting', () => {
  for (const config of [{}, { permission: 'public' as const }]) {
    const app = Fastify();
    installAuth(app, api.deps);
    assert.throws(() => app.get('/sneaky', { config }, async () => 'x'), /\/sneaky/);
  }
});

for (const [route, { names, body }] of guarded) {
  const { method, url } = urlOf(route);
  const options = body === undefined ? {} : { body };

  test(`${route} without credentials is 401`, async () => {
    const answer = await api.call(null, method, url, options);
    assert.equal(answer.status, 401, answer.text);
    assert.deepEqual(codesOf(answer), ['auth.missing']);
  });

  test(`${route} by a caller without the permission is 403`, async () => {
    const answer = await api.call(owner.agent, method, url, options);
    assert.equal(answer.status, 403, answer.text);
    assert.deepEqual(codesOf(answer), ['auth.forbidden']);
  });

  for (const [who, caller] of [
    ['another organisation', stranger.admin],
    ['another tenant of the organisation', owner.neighbour],
  ] as const) {
    test(`${route} by ${who} ${names ? 'is 404' : 'shows and changes nothing of this tenant'}`, async () => {
      const answer = await api.call(caller, method, url, options);
      if (names) {
        assert.equal(answer.status, 404, answer.text);
        assert.deepEqual(codesOf(answer), ['not.found']);
      }
      for (const word of ['owner-organisation', owner.organisationId, owner.tenantId, plantedSecret, 'canary-step']) {
        assert.ok(!answer.text.replaceAll(url, '').includes(word), `${word} in ${answer.text}`);
      }
      if (!names && method === 'GET') assert.ok(!answer.text.includes(pipelineId) && !answer.text.includes('east'));
    });
  }
}

test('after all that the owner’s things are as they were', async () => {
  assert.equal((await api.call(owner.admin, 'GET', '/clusters/east')).status, 200);
  const { json } = await api.call(owner.admin, 'GET', `/pipelines/${pipelineId}/events`);
  assert.deepEqual(
    (json as { events: { type: string }[] }).events.map(({ type }) => type),
    ['pipelineStarted', 'started'],
  );
});

test('a token of one tenant cannot be turned to another by its path, query, header or body', async () => {
  for (const [url, headers] of [
    [`/pipelines/${pipelineId}?tenantId=${owner.tenantId}&environmentId=${owner.tenantId}`, {}],
    [`/pipelines/${pipelineId}`, { 'x-tenant-id': owner.tenantId, 'x-org-id': owner.organisationId }],
    [`/pipelines/${pipelineId.toUpperCase()}`, {}],
    [`/pipelines/%2e%2e/${pipelineId}`, {}],
  ] as const) {
    assert.equal((await api.call(stranger.admin, 'GET', url, { headers })).status, 404, url);
  }
});

test('a pipeline of another tenant is nothing to GraphQL, under whatever spelling of its id', async () => {
  const query = 'query($id: uuid!) { pipelineById(id: $id) { id status application { name } } }';
  const ask = (as: { token: string }, id: string) =>
    api.call(as, 'POST', '/v1/graphql', { body: { query, variables: { id } } });
  assert.match((await ask(owner.admin, pipelineId)).text, /"name":"shop"/);
  for (const caller of [stranger.admin, owner.neighbour]) {
    for (const id of [pipelineId, pipelineId.toUpperCase()]) {
      assert.equal((await ask(caller, id)).text, '{"data":{"pipelineById":null}}');
    }
  }
});

test('a pipeline of another tenant cannot be started again by its location', async () => {
  const headers = {
    'content-type': 'application/vnd.start.kubernetes.pipeline.v2.link+json',
    'x-armory-config-location': `armory::http://127.0.0.1:8080/pipelines/${pipelineId}/config`,
  };
  for (const caller of [stranger.admin, owner.neighbour]) {
    const answer = await api.call(caller, 'POST', '/pipelines/kubernetes', { body: '{}', headers });
    assert.equal(answer.status, 404, answer.text);
    assert.deepEqual(codesOf(answer), ['not.found']);
  }
});

test('a cluster of another tenant cannot be deployed to by its name', async () => {
  const answer = await api.call(stranger.admin, 'POST', '/pipelines', { body: shopFile() });
  assert.equal(answer.status, 422);
  assert.deepEqual(codesOf(answer), ['account.unknown']);
  assert.match(answer.text, /account 'east' does not exist/);
});

test('an Idempotency-Key of one tenant means nothing in another', async () => {
  const headers = { 'idempotency-key': 'shared-word' };
  await insertCluster(api, stranger, 'east');
  const body = shopFile({ application: 'second' });
  const first = await api.call(owner.admin, 'POST', '/pipelines', { body, headers });
  const second = await api.call(stranger.admin, 'POST', '/pipelines', { body, headers });
  assert.deepEqual([first.status, second.status], [202, 202]);
  assert.notDeepEqual(first.json, second.json);
});

test('the database itself shows a tenant nothing of another', async () => {
  const tables = [
    (tx: Tx) => tx.pipeline.count(),
    (tx: Tx) => tx.deployment.count(),
    (tx: Tx) => tx.event.count(),
    (tx: Tx) => tx.cluster.count(),
  ];
  const neighbour = { organisationId: owner.organisationId, tenantId: owner.otherTenantId };
  for (const count of tables) {
    assert.ok((await scoped(api.db, owner, count)) > 0);
    assert.equal(await scoped(api.db, neighbour, count), 0);
  }
});
type Tx = Parameters<Parameters<typeof scoped>[2]>[0];
