import assert from 'node:assert/strict';
import { execFile, spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { until } from '../support/until.ts';
import { type Body, temporaryFolder, testCluster } from './client.ts';

const run = promisify(execFile);
const installed = spawnSync('kubectl', ['version', '--client'], { stdio: 'ignore' }).status === 0;
const skip = installed ? false : 'kubectl is not installed';

const application = `
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [{ name: web, image: "example/web:v1" }] }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec:
  selector: { app: web }
  ports: [{ port: 80, targetPort: 8080 }]
---
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: { name: web, namespace: shop }
spec:
  service: web
  backends: [{ service: web, weight: 90 }, { service: web-canary, weight: 10 }]
`;

/** kubectl on a cluster of the test's own; answers what it printed. */
async function kubectlOn(t: TestContext) {
  const { sandbox, ...client } = await testCluster(t);
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'config'), sandbox.kubeconfig);
  writeFileSync(join(folder, 'app.yaml'), application);
  const env = { ...process.env, HOME: folder, KUBECONFIG: join(folder, 'config') };
  const kubectl = async (...args: string[]) => (await run('kubectl', args, { cwd: folder, env })).stdout;
  return { kubectl, sandbox, client, env, folder };
}

test('kubectl applies, waits, gets, describes and deletes', { skip }, async (t) => {
  const { kubectl } = await kubectlOn(t);
  assert.match(await kubectl('apply', '--server-side', '-f', 'app.yaml'), /trafficsplit.*web serverside-applied/);
  await kubectl('wait', '--for=condition=Available', '-n', 'shop', 'deployment/web', '--timeout=10s');
  await kubectl('rollout', 'status', '-n', 'shop', 'deployment/web', '--timeout=10s');

  const pods = await kubectl('get', 'pods', '-n', 'shop');
  assert.match(pods, /^NAME +READY +STATUS +RESTARTS +AGE\n(web-\S+ +1\/1 +Running +0 +\d+s\n){2}$/);
  const split = JSON.parse(await kubectl('get', 'ts', 'web', '-n', 'shop', '-o', 'json')) as Body;
  assert.equal(split.spec.backends[1]!.weight, 10);
  assert.match(await kubectl('get', 'ts', '-A'), /shop +web +web +web,web-canary +90,10/);
  assert.match(await kubectl('describe', 'deployment', 'web', '-n', 'shop'), /2 desired \| 2 updated \| 2 total/);
  assert.match(await kubectl('get', 'all', '-n', 'shop'), /deployment.apps\/web +2\/2/);

  await kubectl('delete', 'ts', 'web', '-n', 'shop');
  await assert.rejects(kubectl('get', 'ts', 'web', '-n', 'shop'), /NotFound/);
  await kubectl('delete', 'namespace', 'shop', '--timeout=10s');
  await assert.rejects(kubectl('get', 'namespace', 'shop'), /NotFound/);
});

test('kubectl applies client-side, scales, labels, patches and diffs', { skip }, async (t) => {
  const { kubectl } = await kubectlOn(t);
  await kubectl('apply', '-f', 'app.yaml');
  assert.doesNotMatch(await kubectl('apply', '-f', 'app.yaml'), /configured|created/);
  await kubectl('diff', '-f', 'app.yaml');
  await kubectl('scale', '-n', 'shop', 'deployment/web', '--replicas=3');
  await kubectl('label', '-n', 'shop', 'service/web', 'team=a');
  await kubectl('patch', '-n', 'shop', 'ts/web', '--type=merge', '-p', '{"spec":{"service":"root"}}');
  await kubectl('rollout', 'restart', '-n', 'shop', 'deployment/web');
  await kubectl('rollout', 'status', '-n', 'shop', 'deployment/web', '--timeout=10s');
  assert.equal(await kubectl('get', '-n', 'shop', 'deployment/web', '-o', 'jsonpath={.status.availableReplicas}'), '3');
  assert.equal(await kubectl('get', '-n', 'shop', 'svc/web', '-o', 'jsonpath={.metadata.labels.team}'), 'a');
});

test('kubectl get -w prints a change as it happens', { skip }, async (t) => {
  const { kubectl, env, folder } = await kubectlOn(t);
  await kubectl('apply', '--server-side', '-f', 'app.yaml');
  const watching = spawn('kubectl', ['get', 'ts', '-A', '-w'], {
    env,
    cwd: folder,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => watching.kill());
  const lines: string[] = [];
  createInterface({ input: watching.stdout }).on('line', (line) => lines.push(line));
  await until(() => lines.some((line) => line.includes('90,10')), 'the first row');
  const weights = '[{"service":"web","weight":50},{"service":"web-canary","weight":50}]';
  await kubectl('patch', '-n', 'shop', 'ts/web', '--type=merge', '-p', `{"spec":{"backends":${weights}}}`);
  await until(() => lines.some((line) => line.includes('50,50')), 'the changed row');
});

test('kubectl is told whose field it would take, and takes it by force', { skip }, async (t) => {
  const { kubectl } = await kubectlOn(t);
  await kubectl('apply', '--server-side', '-f', 'app.yaml');
  const pin = '{"spec":{"selector":{"hash":"x"}}}';
  await kubectl('patch', '-n', 'shop', 'svc/web', '--type=merge', '-p', pin, '--field-manager=cdaas');
  const refused = kubectl('apply', '--server-side', '-f', 'app.yaml');
  await assert.rejects(refused, /conflict with "cdaas" using v1: .spec.selector/);
  await kubectl('apply', '--server-side', '--force-conflicts', '-f', 'app.yaml');
  assert.equal(await kubectl('get', '-n', 'shop', 'svc/web', '-o', 'jsonpath={.spec.selector}'), '{"app":"web"}');
});

test('kubectl describe and kubectl events tell what was told of an object', { skip }, async (t) => {
  const { kubectl, client } = await kubectlOn(t);
  await kubectl('apply', '--server-side', '-f', 'app.yaml');
  const { metadata } = JSON.parse(await kubectl('get', 'svc', 'web', '-n', 'shop', '-o', 'json')) as Body;
  const now = `${new Date().toISOString().slice(0, 19)}Z`;
  await client.call('POST', '/api/v1/namespaces/shop/events', {
    metadata: { name: 'web.1' },
    involvedObject: { apiVersion: 'v1', kind: 'Service', namespace: 'shop', name: 'web', uid: metadata.uid },
    reason: 'TrafficShifted',
    message: '10 % of traffic to the new version',
    type: 'Normal',
    count: 1,
    firstTimestamp: now,
    lastTimestamp: now,
    source: { component: 'cdaas' },
  });
  const told = /Normal +TrafficShifted +.*10 % of traffic to the new version/;
  assert.match(await kubectl('describe', 'svc', 'web', '-n', 'shop'), told);
  assert.match(await kubectl('describe', 'svc', 'web', '-n', 'shop'), /Endpoints: +10\.244\.\d+\.\d+:8080,/);
  assert.match(await kubectl('get', 'events', '-n', 'shop'), told);
  assert.match(await kubectl('events', '-n', 'shop', '--for', 'service/web'), told);
  assert.doesNotMatch(await kubectl('describe', 'ts', 'web', '-n', 'shop'), told);
});

test('kubectl tells a user without a right which right is missing', { skip }, async (t) => {
  const { kubectl, client } = await kubectlOn(t);
  await kubectl('apply', '--server-side', '-f', 'app.yaml');
  await client.call('POST', '/api/v1/namespaces/shop/serviceaccounts', { metadata: { name: 'guest' } });
  const { body } = await client.call('POST', '/api/v1/namespaces/shop/serviceaccounts/guest/token', {});
  const token = Reflect.get(body.status, 'token') as string;
  const refused = kubectl('get', 'pods', '-n', 'shop', '--token', token);
  await assert.rejects(refused, /User "system:serviceaccount:shop:guest" cannot list resource "pods" in API group ""/);
});
