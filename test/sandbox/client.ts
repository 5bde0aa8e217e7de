import { mkdtempSync, rmSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import type { Cause } from '@cdaas/sandbox/errors.ts';
import type { Condition, Endpoint, Metadata } from '@cdaas/sandbox/objects.ts';
import { type Sandbox, type SandboxOptions, startSandbox } from '@cdaas/sandbox/sandbox.ts';

/** What the API answers, as far as tests look into it; what an answer lacks is undefined there and fails the test. */
export type Body = {
  apiVersion: string;
  kind: string;
  metadata: Metadata & { continue?: string; remainingItemCount?: number };
  items: Body[];
  groups: { name: string }[];
  versions: { version: string; groupVersion: string }[];
  preferredVersion: { version: string };
  resources: { name: string; kind: string; namespaced: boolean; verbs: string[] }[];
  gitVersion: string;
  involvedObject: { uid: string };
  addressType: string;
  spec: {
    type: string;
    clusterIP: string;
    nodeName: string;
    ports: object[];
    selector: Record<string, string>;
    replicas: number;
    minReadySeconds?: number;
    template: { metadata: { labels: Record<string, string> } };
    service: string;
    backends: { service: string; weight: number | string }[];
    dstOverrides?: { authority: string; weight: string }[];
    resourceAttributes: object;
  };
  status: {
    phase: string;
    podIP: string;
    conditions: Condition[];
    containerStatuses: { restartCount: number; state: { waiting?: { reason: string } } }[];
    replicas: number;
    readyReplicas?: number;
    updatedReplicas?: number;
    availableReplicas?: number;
    observedGeneration: number;
    selector: string;
    allowed: boolean;
    loadBalancer: object;
  };
  data: Record<string, string>;
  endpoints: Endpoint[];
  ports: object[];
  code: number;
  reason: string;
  message: string;
  details: { name: string; group: string; kind: string; uid: string; causes: Cause[] };
  major: string;
};

export type WatchEvent = { type: string; object: Body };
/** `type`: the media type that the answer says it has. */
export type Answer = { code: number; body: Body; type: string };
export type Access = { server: string; caData: string; token: string };

/** How tests reach a cluster: plain HTTP, as nothing of the project stands between. */
export type Client = {
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  /** Collects the events of a watch until the test ends. */
  watch(path: string): Promise<{ events: WatchEvent[]; ended: Promise<void> }>;
  close(): void;
};

export const core = '/api/v1/namespaces/default';
export const apps = '/apis/apps/v1/namespaces/default';
export const slices = '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices';
export const splits = '/apis/split.smi-spec.io/v1alpha2/namespaces/default/trafficsplits';
export const profiles = '/apis/linkerd.io/v1alpha2/namespaces/default/serviceprofiles';
export const merge = { 'content-type': 'application/merge-patch+json' };
export const apply = { 'content-type': 'application/apply-patch+yaml' };

export function createClient({ server, caData, token }: Access): Client {
  const agent = new Agent({ keepAlive: true, ca: Buffer.from(caData, 'base64') });
  function send(method: string, path: string, body: unknown, more: Record<string, string>): Promise<IncomingMessage> {
    const payload = body === undefined ? '' : JSON.stringify(body);
    // Node sends the body of a DELETE without saying its length.
    const length = { 'content-length': String(Buffer.byteLength(payload)) };
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...length, ...more };
    return new Promise((resolve, reject) => {
      const sent = request(server + path, { method, agent, headers }, resolve);
      sent.on('error', reject);
      sent.end(payload);
    });
  }
  return {
    async call(method, path, body, headers = {}) {
      const response = await send(method, path, body, headers);
      const chunks = await response.toArray();
      const text = Buffer.concat(chunks).toString();
      const parsed = text.startsWith('{') ? JSON.parse(text) : text;
      return { code: response.statusCode ?? 0, body: parsed, type: response.headers['content-type'] ?? '' };
    },
    async watch(path) {
      const response = await send('GET', path, undefined, {});
      const events: WatchEvent[] = [];
      const lines = createInterface({ input: response });
      lines.on('line', (line) => events.push(JSON.parse(line)));
      // A watch that is cut ends; what else it may mean is the test's to say.
      lines.on('error', () => lines.close());
      return { events, ended: new Promise<void>((resolve) => lines.on('close', resolve)) };
    },
    close: () => agent.destroy(),
  };
}

export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'sandbox-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export type TestCluster = Client & { sandbox: Sandbox };

/** A sandbox cluster of the test's own, quick to get pods ready; it ends with the test. */
export async function testCluster(t: TestContext, options: Partial<SandboxOptions> = {}): Promise<TestCluster> {
  const dataDir = temporaryFolder(t);
  const sandbox = await startSandbox({ dataDir, log: console.error, ...options });
  sandbox.faults.readyAfterMs = { min: 1, max: 5 };
  sandbox.faults.graceMs = 20;
  const client = createClient(sandbox);
  t.after(async () => {
    client.close();
    await sandbox.stop();
  });
  return { ...client, sandbox };
}

export function service(name: string, selector: Record<string, string>, more: object = {}): object {
  return { metadata: { name, ...more }, spec: { selector, ports: [{ name: 'http', port: 80, targetPort: 8080 }] } };
}

export function podTemplate(labels: Record<string, string>, image = 'example/web:v1', annotations?: object): Template {
  return {
    metadata: { labels, ...(annotations ? { annotations } : {}) },
    spec: { containers: [{ name: 'web', image, ports: [{ name: 'http', containerPort: 8080 }] }] },
  };
}

type Workload = {
  metadata: { name: string; labels?: Record<string, string> };
  spec: { replicas: number; selector: object; template: Template };
};
type Template = { metadata: { labels: Record<string, string>; annotations?: object }; spec: object };

/** A ReplicaSet or Deployment of this name whose pods carry `app` and the other labels. */
export function workload(
  name: string,
  replicas: number,
  labels: Record<string, string>,
  image?: string,
  annotations?: object,
): Workload {
  return {
    metadata: { name },
    spec: { replicas, selector: { matchLabels: labels }, template: podTemplate(labels, image, annotations) },
  };
}

/** The names of the pods behind a Service that are ready for traffic. */
export async function readyEndpoints(client: Client, serviceName: string): Promise<string[]> {
  const { body } = await client.call('GET', `${slices}?labelSelector=kubernetes.io/service-name=${serviceName}`);
  return body.items
    .flatMap((slice) => slice.endpoints ?? [])
    .filter((endpoint) => endpoint.conditions?.ready)
    .map((endpoint) => endpoint.targetRef!.name);
}
