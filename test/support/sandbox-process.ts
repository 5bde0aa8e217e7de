import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import type { ClusterAddress } from './cluster-client.ts';

/** A sandbox cluster in a process of its own, that can be killed. */
export type SandboxProcess = ClusterAddress & { kubeconfig: string; kill(): Promise<void> };

/** Starts the cluster kept in a folder and waits until it serves. */
export async function spawnSandbox(dataDir: string): Promise<SandboxProcess> {
  const main = fileURLToPath(new URL('../../packages/sandbox/src/main.ts', import.meta.url));
  const file = join(dataDir, 'kubeconfig');
  const child = spawn(process.execPath, [main, '--data', dataDir, '--kubeconfig', file], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const gone = new Promise<void>((resolve) => child.once('close', () => resolve()));
  await new Promise<void>((resolve, reject) => {
    let errors = '';
    // It prints its address once it serves and the kubeconfig is written.
    child.stdout.once('data', () => resolve());
    child.stderr.on('data', (chunk) => {
      errors += chunk;
    });
    child.once('error', reject);
    child.once('close', (code) => reject(new Error(`the sandbox process ended with ${code}: ${errors}`)));
  });
  const kubeconfig = readFileSync(file, 'utf8');
  const { clusters, users } = parse(kubeconfig) as Kubeconfig;
  const [cluster, user] = [clusters[0]?.cluster, users[0]?.user];
  if (!cluster || !user) throw new Error(`the sandbox process wrote no kubeconfig: ${kubeconfig}`);
  return {
    server: cluster.server,
    caData: cluster['certificate-authority-data'],
    token: user.token,
    kubeconfig,
    async kill() {
      child.kill('SIGKILL');
      await gone;
    },
  };
}

type Kubeconfig = {
  clusters: { cluster: { server: string; 'certificate-authority-data': string } }[];
  users: { user: { token: string } }[];
};
