import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ClusterAddress } from './cluster-client.ts';

/** Why cases that need kubectl are skipped; false where it is installed. */
export const withoutKubectl =
  spawnSync('kubectl', ['version', '--client'], { stdio: 'ignore' }).status === 0 ? false : 'kubectl is not installed';

export type Kubectl = {
  /** Answers what it printed. @throws what it said on stderr */
  run(...args: string[]): Promise<string>;
  /** The path of a file with these contents. */
  file(name: string, contents: string): string;
  close(): void;
};

/** A kubeconfig with one cluster and its user. */
export function kubeconfigOf({ server, caData, token }: ClusterAddress): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'one',
    clusters: [{ name: 'one', cluster: { server, 'certificate-authority-data': caData } }],
    users: [{ name: 'one', user: { token } }],
    contexts: [{ name: 'one', context: { cluster: 'one', user: 'one' } }],
  });
}

/** kubectl for a cluster, as its users have it: with a kubeconfig and a home of its own. */
export function openKubectl(kubeconfig: string): Kubectl {
  const folder = mkdtempSync(join(tmpdir(), 'cdaas-kubectl-'));
  const file = (name: string, contents: string): string => {
    const path = join(folder, name);
    writeFileSync(path, contents, { mode: 0o600 });
    return path;
  };
  const env = { ...process.env, HOME: folder, KUBECONFIG: file('config', kubeconfig) };
  return {
    file,
    run: async (...args) => (await promisify(execFile)('kubectl', args, { cwd: folder, env })).stdout,
    close: () => rmSync(folder, { recursive: true, force: true }),
  };
}
