import { createHash } from 'node:crypto';
import { AppError } from '@cdaas/contract/errors.ts';
import { deleteCluster, getCluster, registerCluster } from '@cdaas/control-plane/clusters.ts';
import type { CallerContext } from '@cdaas/control-plane/principals.ts';
import type { Sandbox } from '@cdaas/sandbox/sandbox.ts';
import { type DataDir, readJson, writePrivate } from './data-dir.ts';
import { Remedy } from './remedy.ts';

/** The account name of the sandbox cluster in deployment files. */
export const sandboxAccount = 'sandbox';

/**
 * Registers the sandbox cluster, by the same use case as POST /clusters, and writes its kubeconfig. A sandbox that is
 * another one than was registered (its folder was deleted) is registered anew.
 */
export async function registerSandbox(ctx: CallerContext, dir: DataDir, sandbox: Sandbox): Promise<void> {
  writePrivate(dir.kubeconfig, sandbox.kubeconfig);
  const recordFile = `${dir.sandbox}.json`;
  const digest = createHash('sha256').update(sandbox.kubeconfig).digest('hex');
  const registered = await isRegistered(ctx);
  if (registered && readJson(recordFile) === digest) return;
  if (registered) await forget(ctx);
  const { server, caData, token } = sandbox;
  await registerCluster(ctx, { name: sandboxAccount, server, caData, token });
  writePrivate(recordFile, JSON.stringify(digest));
}

async function isRegistered(ctx: CallerContext): Promise<boolean> {
  try {
    await getCluster(ctx, { name: sandboxAccount });
    return true;
  } catch (error) {
    if (error instanceof AppError && error.code === 'not.found') return false;
    throw error;
  }
}

async function forget(ctx: CallerContext): Promise<void> {
  try {
    await deleteCluster(ctx, { name: sandboxAccount });
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'cluster.inUse') throw error;
    throw new Remedy(
      'The sandbox cluster is another one than deployments in progress were started on: its folder was deleted.\n' +
        'Delete the rest of the data folder too, or bring the sandbox folder back.',
      { cause: error },
    );
  }
}
