import { readFileSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { startSandbox } from '@cdaas/sandbox/sandbox.ts';
import type { ClusterAddress } from '../test/support/cluster-client.ts';
import { startRealCluster } from '../test/support/real-cluster.ts';
import { type CpuSeconds, cpuSeconds } from './processes.ts';

/** Requests of the control plane by kind, such as `patch trafficsplits`. Watches are those that were begun or ended. */
export type Counts = Record<string, number>;

/** A cluster to measure on. */
export type BenchCluster = {
  name: string;
  /** As an administrator. */
  address: ClusterAddress;
  /** The control plane's own token, whose requests are counted. */
  token: string;
  /** Forgets what was counted. */
  resetCounts(): void;
  counts(): Counts;
  cpu(): CpuSeconds;
  stop(): Promise<void>;
};

/** In this process: its CPU is told with the bench's own. */
export async function sandboxCluster(folder: string, hasMesh: boolean): Promise<BenchCluster> {
  let counted: Counts = {};
  const dataDir = join(folder, 'sandbox');
  const sandbox = await startSandbox({
    dataDir,
    onRequest({ method, url, userAgent }) {
      if (userAgent !== 'cdaas') return;
      const kind = kindOf(method, url);
      counted[kind] = (counted[kind] ?? 0) + 1;
    },
  });
  sandbox.faults.readyAfterMs = { min: 0, max: 0 };
  sandbox.faults.graceMs = 0;
  sandbox.adaptor.down = !hasMesh;
  const { server, caData, token } = sandbox;
  return {
    name: 'sandbox',
    address: { server, caData, token },
    token,
    resetCounts() {
      counted = {};
    },
    counts: () => ({ ...counted }),
    cpu: () => ({}),
    async stop() {
      await sandbox.stop();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

/** Kubernetes in processes of its own; requests are counted from its audit log. */
export async function realCluster(hasMesh: boolean): Promise<BenchCluster> {
  const cluster = await startRealCluster({
    splitVersions: ['v1alpha1', 'v1alpha2'],
    adaptor: hasMesh,
    audit: true,
    readyAfterMs: 0,
    endAfterMs: 0,
    say: console.log,
  });
  const { auditFile, processes } = cluster.controlPlane;
  if (auditFile === undefined) throw new Error('the real cluster has no audit log');
  const { token } = await cluster.makeCredential();
  return {
    name: 'Kubernetes',
    address: cluster,
    token,
    resetCounts: () => truncateSync(auditFile),
    counts: () => countAudit(readFileSync(auditFile, 'utf8')),
    cpu: () =>
      Object.fromEntries([...processes].map(([name, { pid }]) => [name, pid === undefined ? 0 : cpuSeconds(pid)])),
    stop: () => cluster.stop(),
  };
}

type AuditEvent = {
  verb: string;
  user: { username: string };
  objectRef?: { resource?: string; subresource?: string };
  requestURI: string;
};

function countAudit(log: string): Counts {
  const counts: Counts = {};
  for (const line of log.split('\n').filter((text) => text !== '')) {
    const { verb, objectRef, requestURI } = JSON.parse(line) as AuditEvent;
    const kind = `${verb} ${objectRef?.resource ?? requestURI}`;
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

/** The kind of a request as the audit log would name it. */
function kindOf(method: string, url: string): string {
  const { pathname, searchParams } = new URL(url, 'https://cluster');
  const match = /^\/(?:api\/v1|apis\/[^/]+\/[^/]+)(?:\/namespaces\/[^/]+(?=\/))?\/([^/]+)(?:\/([^/]+))?/.exec(pathname);
  const [, resource = pathname, name] = match ?? [];
  const reads = searchParams.get('watch') ? 'watch' : name === undefined ? 'list' : 'get';
  const verbs: Record<string, string> = { GET: reads, POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' };
  return `${verbs[method] ?? method} ${resource}`;
}
