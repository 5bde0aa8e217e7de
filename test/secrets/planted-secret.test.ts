import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { buildApp } from '@cdaas/api/app.ts';
import { settingsFor } from '@cdaas/api/deps.ts';
import { createMetrics } from '@cdaas/api/plugins/metrics.ts';
import { rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import { createEventHub } from '@cdaas/control-plane/events.ts';
import { createLogger } from '@cdaas/control-plane/logging.ts';
import { createSigningKeys } from '@cdaas/control-plane/signing-keys.ts';
import { approval, weight } from '../support/deployment-files.ts';
import { withAdmin } from '../support/postgres.ts';
import { openWorld, type Scene, type World } from '../support/world.ts';

/*
 * Secrets go in and never come out: some are planted wherever the project takes one, deployments succeed, fail and are
 * rolled back with them, and then everything that can be read is searched for them in every form they could take.
 */

const planted = (what: string) => `planted-${what}-${randomBytes(12).toString('base64url')}`;
const manifest = {
  stringData: planted('stringData'),
  data: planted('data'),
  replaced: planted('replaced'),
  refused: planted('refused'),
  env: planted('env'),
};
const sent = { token: planted('token'), clientSecret: planted('clientSecret'), clientKey: planted('clientKey') };

let world: World;
let scene: Scene;
let api: Awaited<ReturnType<typeof openApi>>;
/** Everything that must not be seen, by what it is. */
const secrets: Record<string, string> = { ...manifest, ...sent };
const answers: { what: string; text: string }[] = [];
const ids = { pipeline: '', deployment: '' };

before(async () => {
  world = await openWorld('planted');
  scene = await world.scene();
  api = await openApi();
  secrets.clusterToken = scene.cluster.sandbox.token;
  secrets.credential = scene.tenant.credential.clientSecret;
  secrets.encryptionKey = world.key.toString('base64');
});
after(async () => {
  await api.close();
  await world.close();
});

async function openApi() {
  const { db, vault, queue, outbound } = scene.tenant.ctx;
  const log = createLogger('trace', { write: (line) => void world.logs.push(line) });
  const events = await createEventHub({ db, log, pollMs: 200 });
  const signingKeys = createSigningKeys({ db, vault });
  const settings = { ...settingsFor('http://127.0.0.1:8080'), requestsPerMinute: 1_000_000 };
  const app = await buildApp({
    db,
    vault,
    log,
    events,
    queue,
    outbound,
    signingKeys,
    metrics: createMetrics(),
    settings,
  });
  await app.ready();
  return {
    app,
    async call(
      method: 'GET' | 'POST' | 'PATCH',
      url: string,
      options: { body?: unknown; token?: string; type?: string } = {},
    ) {
      const { body, token, type = 'application/json' } = options;
      const answer = await app.inject({
        method,
        url,
        headers: {
          host: '127.0.0.1:8080',
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { 'content-type': type }),
        },
        ...(body === undefined ? {} : { payload: typeof body === 'string' ? body : JSON.stringify(body) }),
      });
      return { status: answer.statusCode, text: `${JSON.stringify(answer.headers)} ${answer.body}`, body: answer.body };
    },
    async close() {
      await events.close();
      await app.close();
    },
  };
}

const secretObject = (stringData: Record<string, string>, data: Record<string, string> = {}) => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name: 'passwords' },
  stringData,
  data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')])),
});
const env = [{ name: 'PASSWORD', value: manifest.env }];

describe('Secrets that were planted everywhere', () => {
  it('are carried by deployments that succeed, are rolled back and fail', async () => {
    await scene.first({ objects: [secretObject({ a: manifest.stringData }, { b: manifest.data })], env });
    const run = await scene.deploy({
      version: '2',
      objects: [secretObject({ a: manifest.replaced })],
      env,
      steps: [weight(10), approval()],
    });
    await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    assert.equal((await run.end()).status, 'CANCELLED');
    Object.assign(ids, { pipeline: run.pipelineId, deployment: run.deploymentId });
    const kept = await scene.client.get('Secret', scene.namespace, 'passwords');
    const of = (key: string) =>
      Buffer.from((kept?.data as Record<string, string> | undefined)?.[key] ?? '', 'base64').toString();
    assert.equal(of('a'), manifest.stringData, 'the cluster has them');

    // A cluster that repeats what it was sent, the way some admission controllers do.
    const refuse = scene.cluster.intercept(scene.namespace, ({ path, body }, phase) => {
      if (phase !== 'before' || !path.endsWith('/secrets/passwords')) return 'continue';
      const message = `Secret "passwords" is invalid: stringData[a]: Invalid value: "${manifest.refused}": ${JSON.stringify(body)} ${Buffer.from(manifest.data).toString('base64')}`;
      return { code: 422, reason: 'Invalid', message };
    });
    const objects = [secretObject({ a: manifest.refused }, { b: manifest.data })];
    const failed = await (await scene.deploy({ version: '3', objects, env })).end();
    refuse();
    assert.equal(failed.status, 'FAILED');
    assert.match(failed.state.error ?? '', /Secret "passwords" is invalid/);
  });

  it('are in no answer of the API', async () => {
    const { clientId, clientSecret } = scene.tenant.credential;
    const login = { grant_type: 'client_credentials', client_id: clientId, client_secret: clientSecret };
    const signedIn = await api.call('POST', '/oauth/token', { body: login });
    assert.equal(signedIn.status, 200);
    const token = (JSON.parse(signedIn.body) as { access_token: string }).access_token;

    const spec = JSON.parse((await api.call('GET', '/openapi.json')).body) as { paths: Record<string, object> };
    const routes = Object.entries(spec.paths).flatMap(([path, verbs]) => ('get' in verbs ? [path] : []));
    assert.ok(routes.length >= 8, routes.join());
    for (const route of routes) {
      const id = route.startsWith('/deployments') ? ids.deployment : ids.pipeline;
      const url = route
        .replace('{id}', id)
        .replace('{name}', scene.account)
        .replace(/\{\w+\}/, 'none');
      const { status, text } = await api.call('GET', url, { token });
      assert.ok(status < 500 || route.startsWith('/sandbox/clusters'), `${url}: ${status}`);
      // Who may start a pipeline may read what was sent to start it.
      if (!route.endsWith('/config')) answers.push({ what: `GET ${url}`, text });
    }

    const { server, caData } = scene.cluster.sandbox;
    const mistakes: [string, unknown, string?][] = [
      ['/oauth/token', { ...login, client_secret: sent.clientSecret }],
      [
        '/oauth/token',
        `grant_type=client_credentials&client_id=x&client_secret=${sent.clientSecret}`,
        'application/x-www-form-urlencoded',
      ],
      ['/clusters', { name: 'again', server, caData, token: sent.token }],
      ['/clusters', { name: 'again', server, caData, token: sent.token, clientKeyData: sent.clientKey }],
      [
        '/clusters',
        {
          name: 'again',
          kubeconfig: `apiVersion: v1\nusers: [{ name: x, user: { exec: { command: ${sent.token} } } }`,
        },
      ],
      [
        '/clusters',
        { name: 'again', kubeconfig: `users:\n  - name: x\n    user: { password: ${sent.token}, exec: {} }\n` },
      ],
      ['/clusters', `{"name": "again", "token": "${sent.token}"`],
      [
        '/pipelines/kubernetes',
        scene.yaml({ version: '4', objects: [{ ...secretObject({ a: manifest.refused }), kind: 7 }] }),
        'application/yaml',
      ],
      ['/pipelines/kubernetes', `${scene.yaml({ version: '4', env })}\n  : ${manifest.env}: [`, 'application/yaml'],
      [`/deployments/${ids.deployment}/steps/${sent.token}/approve`, {}],
    ];
    for (const [url, body, type] of mistakes) {
      const { status, text } = await api.call('POST', url, { body, token, ...(type ? { type } : {}) });
      assert.ok(status >= 400 && status < 500, `POST ${url}: ${status} ${text}`);
      // The step that does not exist is named back to whoever asked for it.
      if (!url.includes(sent.token)) answers.push({ what: `POST ${url}`, text });
    }
    const registration = `/clusters/${scene.account}`;
    for (const body of [{ token: sent.token }, { server, token: sent.token, clientKeyData: sent.clientKey }]) {
      const { status, text } = await api.call('PATCH', registration, { body, token });
      assert.equal(status, 422, text);
      answers.push({ what: `PATCH ${registration}`, text });
    }
    const rotated = { server, caData, token: scene.cluster.sandbox.token };
    for (const [method, url, body] of [
      ['PATCH', registration, rotated],
      ['POST', `${registration}/verify`, undefined],
    ] as const) {
      const { status, text } = await api.call(method, url, { body, token });
      assert.equal(status, 200, text);
      answers.push({ what: `${method} ${url}`, text });
    }
    search(answers);
    secrets.accessToken = token;
  });

  it('are in no line of any log', () => {
    assert.ok(world.logs.some((line) => line.includes('pipeline started')));
    search(world.logs.map((text, index) => ({ what: `log line ${index}`, text })));
  });

  it('are in no row of any table', async () => {
    const rows = await dump(world.url);
    const tables = new Set(rows.map(({ what }) => what));
    for (const table of [
      'public.event',
      'public.deployment',
      'public.pipeline',
      'public.cluster',
      'public.owned_object',
    ]) {
      assert.ok(tables.has(table), `${table} has rows`);
    }
    search(rows);
  });

  it('would be found in any of their forms', () => {
    const secret = manifest.data;
    const forms = [
      secret,
      Buffer.from(secret).toString('base64'),
      Buffer.from(`x${secret}`).toString('base64'),
      Buffer.from(secret).toString('hex'),
      encodeURIComponent(`${secret}`),
    ];
    for (const text of forms) assert.throws(() => search([{ what: 'a trap', text: `… ${text} …` }]), /a trap/);
  });
});

function search(places: { what: string; text: string }[]): void {
  const found: string[] = [];
  for (const [name, secret] of Object.entries(secrets)) {
    const forms = formsOf(secret);
    for (const { what, text } of places) {
      if (forms.some((form) => text.includes(form))) found.push(`${name} in ${what}: ${text.slice(0, 300)}`);
    }
  }
  assert.deepEqual(found, []);
}

/** As text, in URLs, in hexadecimal (as bytea is dumped), and in base64 wherever it begins in what was encoded. */
function formsOf(secret: string): string[] {
  const base64 = [0, 1, 2].map((shift) => {
    const encoded = Buffer.from('\0'.repeat(shift) + secret).toString('base64');
    // The characters at both ends depend on what stands beside the secret.
    return encoded.slice(shift === 0 ? 0 : 4).replace(/.{0,2}=*$/, '');
  });
  return [secret, encodeURIComponent(secret), Buffer.from(secret).toString('hex'), ...base64];
}

/** Every row of every table as JSON, by `<schema>.<table>`. */
function dump(url: string): Promise<{ what: string; text: string }[]> {
  return withAdmin(url, async (admin) => {
    const tables = await admin.query<{ schema: string; name: string }>(
      `select table_schema as schema, table_name as name from information_schema.tables
       where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')`,
    );
    const rows: { what: string; text: string }[] = [];
    for (const { schema, name } of tables.rows) {
      const read = await admin.query<{ row: string }>(
        `select row_to_json(t)::text as row from "${schema}"."${name}" t`,
      );
      for (const { row } of read.rows) rows.push({ what: `${schema}.${name}`, text: row });
    }
    return rows;
  });
}
