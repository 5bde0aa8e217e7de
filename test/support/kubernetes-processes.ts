import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { request as requestPlain } from 'node:http';
import { request } from 'node:https';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Authority, createAuthority } from './certificates.ts';
import type { ClusterAddress } from './cluster-client.ts';
import { freePort } from './free-port.ts';

export type ControlPlaneOptions = {
  /** The binary of test/kubernetes. */
  binary: string;
  /** Where everything is kept; made if missing. Its path is short enough for a unix socket in it (100 characters). */
  folder: string;
  /** Milliseconds from scheduled to ready, where a pod asks for nothing else. */
  readyAfterMs?: number;
  /** Milliseconds that a deleted pod lingers as terminating. */
  endAfterMs?: number;
  /** Whether the API server writes down requests of ServiceAccounts (metadata only), one JSON line each. */
  audit?: boolean;
};

export type ControlPlane = ClusterAddress & {
  authority: Authority;
  auditFile: string | undefined;
  /** The processes, by name, for measurements. */
  processes: ReadonlyMap<string, ChildProcess>;
  /** Comes when one of them has ended by itself, with the end of its log. */
  failed: Promise<Error>;
  /** Ends all of them at once; what is in the folder can be read afterwards. */
  stop(): Promise<void>;
};

/** Of the controllers those that a deployment can meet. Node heartbeats, volumes and jobs are left out. */
const controllers = [
  'clusterrole-aggregation-controller',
  'deployment-controller',
  'endpoints-controller',
  'endpointslice-controller',
  'garbage-collector-controller',
  'horizontal-pod-autoscaler-controller',
  'namespace-controller',
  'replicaset-controller',
  'resourcequota-controller',
  'root-ca-certificate-publisher-controller',
  'serviceaccount-controller',
];

const startTimeoutMs = 120_000;
const administrator = 'cluster-admin';

/**
 * Starts etcd, kube-apiserver, kube-controller-manager, kube-scheduler and the stand-in for the kubelets, on a free port
 * of 127.0.0.1, and waits until pods can be created. They end with this process, however it ends.
 */
export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  mkdirSync(options.folder, { recursive: true, mode: 0o700 });
  const authority = await createAuthority('test-cluster');
  for (let tries = 1; ; tries += 1) {
    try {
      return await startOnFreePort(options, authority);
    } catch (error) {
      // Somebody else took the port between the look and the start.
      if (tries === 3 || !String(error).includes('address already in use')) throw error;
    }
  }
}

async function startOnFreePort(options: ControlPlaneOptions, authority: Authority): Promise<ControlPlane> {
  const { binary, folder, readyAfterMs = 10, endAfterMs = 20, audit = false } = options;
  const port = await freePort();
  const server = `https://127.0.0.1:${port}`;
  const caData = Buffer.from(authority.certificate).toString('base64');
  const auditFile = audit ? join(folder, 'audit.log') : undefined;
  const processes = new Map<string, ChildProcess>();
  const trouble = new AbortController();
  const failed = new Promise<Error>((resolve) => {
    trouble.signal.addEventListener('abort', () => resolve(trouble.signal.reason as Error), { once: true });
  });

  const start = (program: string, flags: Record<string, string | number | boolean>) => {
    const log = openSync(join(folder, `${program}.log`), 'a');
    const args = Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`);
    // In a group of its own, so that Ctrl-C in a terminal is ours to answer.
    const child = spawn(binary, ['--until-stdin-closes', program, ...args], {
      cwd: folder,
      detached: true,
      stdio: ['pipe', log, log],
    });
    closeSync(log);
    child.once('error', (error) => trouble.abort(error));
    child.once('exit', (code, signal) => trouble.abort(new Error(endOf(folder, program, code ?? signal))));
    processes.set(program, child);
  };
  const killAll = () => {
    for (const child of processes.values()) child.kill('SIGKILL');
  };
  // Before whoever removes the folder.
  process.prependOnceListener('exit', killAll);
  const stop = async () => {
    await Promise.all([...processes.values()].map(end));
    process.off('exit', killAll);
  };

  try {
    const tokens = writeInputs(folder, authority, await authority.forServer(), { server, caData, audit });
    start('etcd', etcdFlags(folder));
    start('kube-apiserver', apiServerFlags(folder, port, auditFile));
    const token = tokens[administrator] ?? '';
    const ask = (path: string) => statusOf({ server, ca: authority.certificate, token }, path);
    await becomes(async () => (await ask('/readyz')) === 200, trouble.signal);
    // Limits of clients are raised: by default kube-controller-manager alone may send 20 requests a second.
    const limits = { 'kube-api-qps': 2_000, 'kube-api-burst': 4_000 };
    const common = { 'leader-elect': false, 'secure-port': 0, profiling: false, ...limits };
    start('kube-controller-manager', {
      ...common,
      kubeconfig: kubeconfigOf(folder, 'kube-controller-manager'),
      controllers: controllers.join(','),
      'root-ca-file': join(folder, 'ca.crt'),
      'concurrent-replicaset-syncs': 20,
      'concurrent-service-endpoint-syncs': 20,
    });
    start('kube-scheduler', { ...common, kubeconfig: kubeconfigOf(folder, 'kube-scheduler') });
    start('kubelet-stand-in', {
      kubeconfig: kubeconfigOf(folder, 'kubelet-stand-in'),
      'ready-after': `${readyAfterMs}ms`,
      'end-after': `${endAfterMs}ms`,
    });
    const needed = ['/api/v1/namespaces/default/serviceaccounts/default', '/api/v1/nodes/node-1'];
    for (const path of needed) await becomes(async () => (await ask(path)) === 200, trouble.signal);
    await forgetHistory(join(folder, 'etcd.sock'));
    return { server, caData, token, authority, auditFile, processes, failed, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function etcdFlags(folder: string): Record<string, string | boolean> {
  // A cluster of one member: nobody dials the addresses that it tells of itself, which must have a port.
  const nowhere = 'http://127.0.0.1:1';
  return {
    'data-dir': join(folder, 'etcd'),
    'listen-client-urls': `unix://${join(folder, 'etcd.sock')}`,
    'advertise-client-urls': nowhere,
    'listen-peer-urls': `unix://${join(folder, 'peer.sock')}`,
    'initial-advertise-peer-urls': nowhere,
    'initial-cluster': `default=${nowhere}`,
    // What is in it need not survive a power cut.
    'unsafe-no-fsync': true,
    'log-level': 'warn',
  };
}

function apiServerFlags(folder: string, port: number, auditFile: string | undefined) {
  const file = (name: string) => join(folder, name);
  return {
    'etcd-servers': `unix://${file('etcd.sock')}`,
    'bind-address': '127.0.0.1',
    'secure-port': port,
    'advertise-address': '127.0.0.1',
    'endpoint-reconciler-type': 'none',
    'tls-cert-file': file('server.crt'),
    'tls-private-key-file': file('server.key'),
    'client-ca-file': file('ca.crt'),
    'token-auth-file': file('tokens.csv'),
    'service-account-issuer': 'https://kubernetes.default.svc',
    'service-account-key-file': file('service-accounts.key'),
    'service-account-signing-key-file': file('service-accounts.key'),
    'authorization-mode': 'RBAC',
    'service-cluster-ip-range': '10.96.0.0/12',
    'allow-privileged': true,
    // It taints new nodes until the controller of node heartbeats, which is not run, has seen them.
    'disable-admission-plugins': 'TaintNodesByCondition',
    profiling: false,
    ...(auditFile === undefined
      ? {}
      : { 'audit-log-path': auditFile, 'audit-log-mode': 'blocking', 'audit-policy-file': file('audit-policy.yaml') }),
  };
}

/** Writes what the programs read, and answers the token of each user. */
function writeInputs(
  folder: string,
  authority: Authority,
  serverPair: { certificate: string; key: string },
  { server, caData, audit }: { server: string; caData: string; audit: boolean },
): Record<string, string> {
  const write = (name: string, content: string) => writeFileSync(join(folder, name), content, { mode: 0o600 });
  write('ca.crt', authority.certificate);
  write('server.crt', serverPair.certificate);
  write('server.key', serverPair.key);
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  write('service-accounts.key', privateKey.export({ type: 'sec1', format: 'pem' }).toString());
  const users = [administrator, 'kube-controller-manager', 'kube-scheduler', 'kubelet-stand-in'];
  const tokens = Object.fromEntries(users.map((user) => [user, randomBytes(24).toString('hex')]));
  write('tokens.csv', users.map((user) => `${tokens[user]},${user},${user},system:masters\n`).join(''));
  for (const user of users)
    writeFileSync(kubeconfigOf(folder, user), kubeconfigText({ server, caData, token: tokens[user] ?? '' }, user), {
      mode: 0o600,
    });
  if (audit) write('audit-policy.yaml', auditPolicy);
  return tokens;
}

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - level: Metadata
    userGroups: ['system:serviceaccounts']
  - level: None
`;

function kubeconfigOf(folder: string, user: string): string {
  return join(folder, `${user}.kubeconfig`);
}

/** The kubeconfig of the control plane's administrator. */
export function administratorKubeconfig(folder: string): string {
  return kubeconfigOf(folder, administrator);
}

export function kubeconfigText({ server, caData, token }: ClusterAddress, user: string, name = 'test-cluster'): string {
  return `apiVersion: v1
kind: Config
clusters:
  - name: ${name}
    cluster:
      server: ${server}
      certificate-authority-data: ${caData}
users:
  - name: ${user}
    user:
      token: ${token}
contexts:
  - name: ${name}
    context:
      cluster: ${name}
      user: ${user}
current-context: ${name}
`;
}

/** The HTTP status that a path is answered with; 0 where nobody answers. */
function statusOf({ server, ca, token }: { server: string; ca: string; token: string }, path: string): Promise<number> {
  return new Promise((resolve) => {
    const sent = request(`${server}${path}`, { ca, headers: { authorization: `Bearer ${token}` }, agent: false });
    sent.on('response', (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    sent.on('error', () => resolve(0));
    sent.end();
  });
}

/** Makes etcd forget the first versions of objects, as every cluster has that has run for some minutes. */
function forgetHistory(socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const sent = requestPlain({ socketPath, path: '/v3/kv/compaction', method: 'POST' }, (response) => {
      response.resume();
      response.once('end', () => {
        if (response.statusCode === 200) resolve();
        else reject(new Error(`etcd answered ${response.statusCode} when asked to compact`));
      });
    });
    sent.on('error', reject);
    sent.end(JSON.stringify({ revision: '10', physical: true }));
  });
}

async function becomes(condition: () => Promise<boolean>, trouble: AbortSignal): Promise<void> {
  const end = performance.now() + startTimeoutMs;
  while (!(await condition())) {
    trouble.throwIfAborted();
    if (performance.now() > end)
      throw new Error(`the Kubernetes control plane is not ready after ${startTimeoutMs} ms`);
    await sleep(50);
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const gone = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGKILL');
  await gone;
}

function endOf(folder: string, program: string, how: number | string | null): string {
  const log = readFileSync(join(folder, `${program}.log`), 'utf8');
  return `${program} ended with ${how}:\n${log.trimEnd().split('\n').slice(-15).join('\n')}`;
}
