import { randomBytes } from 'node:crypto';
import { buildApp } from '@cdaas/api/app.ts';
import { type ApiDeps, type ApiSettings, settingsFor } from '@cdaas/api/deps.ts';
import { createMetrics } from '@cdaas/api/plugins/metrics.ts';
import { type Database, scoped } from '@cdaas/control-plane/database/db.ts';
import { createVault } from '@cdaas/control-plane/encryption.ts';
import { createEventHub } from '@cdaas/control-plane/events.ts';
import { newId } from '@cdaas/control-plane/ids.ts';
import { createLogger } from '@cdaas/control-plane/logging.ts';
import { bootstrap, createCredential, createTenant, type NewCredential } from '@cdaas/control-plane/organisations.ts';
import { createOutbound, parseOutboundAllow } from '@cdaas/control-plane/outbound.ts';
import { createSigningKeys } from '@cdaas/control-plane/signing-keys.ts';
import { openTestDatabase } from './database.ts';

export type TestApi = {
  app: Awaited<ReturnType<typeof buildApp>>;
  deps: ApiDeps;
  db: Database;
  worker: Database;
  /** What was asked of the queue, as `deployment <id>`. */
  wakes: string[];
  /** Every log line. */
  logs: string[];
  /** Sends a request as somebody; `as: null` sends no credentials. */
  call(as: Caller | null, method: Method, url: string, options?: CallOptions): Promise<Answer>;
  close(): Promise<void>;
};

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
export type CallOptions = { body?: unknown; headers?: Record<string, string> };
export type Answer = { status: number; headers: Record<string, unknown>; text: string; json: unknown };
export type Caller = { token: string };

const publicUrl = 'http://127.0.0.1:8080';

/** The API on a database of its own, called by `inject`. Clusters on the loopback address may be registered. */
export async function openTestApi(name: string, settings: Partial<ApiSettings> = {}): Promise<TestApi> {
  const database = await openTestDatabase(name, ['cdaas_api', 'cdaas_worker']);
  const db = database.cdaas_api;
  const logs: string[] = [];
  const wakes: string[] = [];
  const log = createLogger('debug', { write: (line) => void logs.push(line) });
  const vault = createVault(randomBytes(32), db);
  const allowed = parseOutboundAllow('cluster:127.0.0.1/32:*');
  if (!allowed.ok) throw new Error('the rule of this test is not readable');
  const events = await createEventHub({ db, log, pollMs: 200 });
  const deps: ApiDeps = {
    db,
    vault,
    log,
    events,
    queue: { enqueueWake: async (kind, id) => void wakes.push(`${kind} ${id}`) },
    outbound: createOutbound(allowed.rules),
    signingKeys: createSigningKeys({ db, vault }),
    metrics: createMetrics(),
    settings: { ...settingsFor(publicUrl), requestsPerMinute: 1_000_000, ...settings },
  };
  const app = await buildApp(deps);
  await app.ready();
  return {
    app,
    deps,
    db,
    worker: database.cdaas_worker,
    wakes,
    logs,
    async call(as, method, url, { body, headers = {} } = {}) {
      const answer = await app.inject({
        method,
        url,
        headers: {
          host: '127.0.0.1:8080',
          ...(as === null ? {} : { authorization: `Bearer ${as.token}` }),
          ...(body !== undefined && typeof body !== 'string' ? { 'content-type': 'application/json' } : {}),
          ...headers,
        },
        ...(body === undefined ? {} : { payload: typeof body === 'string' ? body : JSON.stringify(body) }),
      });
      return {
        status: answer.statusCode,
        headers: answer.headers,
        text: answer.body,
        json: isJson(answer.headers['content-type']) ? JSON.parse(answer.body) : undefined,
      };
    },
    async close() {
      await events.close();
      await app.close();
      await database.close();
    },
  };
}

function isJson(type: unknown): boolean {
  return typeof type === 'string' && /[/+]json/.test(type);
}

export type TestTenant = {
  organisationId: string;
  tenantId: string;
  otherTenantId: string;
  credential: NewCredential;
  /** May do everything in the tenant. */
  admin: Caller;
  /** May deploy in the tenant and no more. */
  deployer: Caller;
  /** Has a role that gives nothing here. */
  agent: Caller;
  /** May do everything in the organisation's other tenant. */
  neighbour: Caller;
};

/** An organisation with two tenants and a caller for each kind of role, signed in. */
export async function createTestTenant(api: TestApi, name: string): Promise<TestTenant> {
  const made = await bootstrap(api.db, { organisation: name, tenant: 'main', credential: 'admin' });
  const { organisationId, tenantId, credential } = made;
  const other = await createTenant(api.db, organisationId, 'other');
  const withRole = async (tenant: string, role: string) => {
    const scope = { organisationId, tenantId: tenant };
    return signIn(api, await createCredential(api.db, scope, { name: role, roles: [role], createdBy: 'test' }));
  };
  return {
    organisationId,
    tenantId,
    otherTenantId: other.tenantId,
    credential,
    admin: await signIn(api, credential),
    deployer: await withRole(tenantId, 'Deployments Full Access'),
    agent: await withRole(tenantId, 'Remote Network Agent'),
    neighbour: await withRole(other.tenantId, 'Organization Admin'),
  };
}

export async function signIn(api: TestApi, { clientId, clientSecret }: NewCredential): Promise<Caller> {
  const answer = await api.call(null, 'POST', '/oauth/token', {
    body: { grant_type: 'client_credentials', client_id: clientId, client_secret: clientSecret },
  });
  if (answer.status !== 200) throw new Error(`signing in failed: ${answer.text}`);
  return { token: (answer.json as { access_token: string }).access_token };
}

/** The codes of an error answer. */
export function codesOf(answer: Answer): string[] {
  return (answer.json as { errors: { code: string }[] }).errors.map(({ code }) => code);
}

/** A row of a cluster that nothing answers for: enough to start deployments that no worker drives. */
export async function insertCluster(
  api: TestApi,
  { organisationId, tenantId }: { organisationId: string; tenantId: string },
  name: string,
  more: { clusterUid?: string; namespaces?: string[] } = {},
): Promise<string> {
  const id = newId(api.db.clock.now());
  await scoped(api.db, { organisationId, tenantId }, (tx) =>
    tx.cluster.create({
      data: {
        id,
        organisationId,
        tenantId,
        name,
        server: 'https://127.0.0.1:1',
        caData: '',
        clusterUid: more.clusterUid ?? id,
        credential: new Uint8Array(),
        namespaces: more.namespaces ?? [],
        meshConfirmation: 'stored',
        kubernetesVersion: 'v1.35.4',
        verifiedAt: api.db.clock.now(),
      },
    }),
  );
  return id;
}

/** A deployment file of one target, as a value. */
export function shopFile(more: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    version: 'v1',
    kind: 'kubernetes',
    application: 'shop',
    targets: { prod: { account: 'east', namespace: 'shop', strategy: 'slow' } },
    manifests: [{ inline: shopManifests }],
    strategies: {
      slow: {
        canary: {
          steps: [
            { setWeight: { weight: 10 } },
            { pause: { untilApproved: true } },
            { setWeight: { weight: 50 } },
            { pause: { duration: 1, unit: 'minutes' } },
          ],
        },
      },
    },
    trafficManagement: [{ targets: ['prod'], smi: [{ rootServiceName: 'web' }] }],
    ...more,
  };
}

export const plantedSecret = 'planted-in-a-manifest';

export const shopManifests = `apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [{ name: web, image: 'registry.example.org/web:1' }] }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  selector: { app: web }
  ports: [{ port: 80 }]
---
apiVersion: v1
kind: Secret
metadata: { name: web }
stringData: { password: ${plantedSecret} }
`;
