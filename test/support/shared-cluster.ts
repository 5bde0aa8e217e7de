import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type RealCluster, sharedClusterVariable, startSharedCluster } from './real-cluster.ts';

/**
 * Offers one real cluster to all test files of a run. It is started when the first of them asks for it, in this process,
 * which outlives theirs; they find it by a socket that the environment names.
 */
export function offerSharedCluster(): { stop(): Promise<void> } {
  const folder = mkdtempSync(join(tmpdir(), 'cdaas-shared-'));
  const socket = join(folder, 'cluster.sock');
  let cluster: Promise<RealCluster> | undefined;
  const answer = async (asking: Socket) => {
    asking.on('error', () => {});
    try {
      cluster ??= startSharedCluster(console.log);
      const { server, caData, token, kubeconfigFile } = await cluster;
      asking.end(JSON.stringify({ server, caData, token, kubeconfigFile }));
    } catch (error) {
      asking.end(JSON.stringify({ error: error instanceof Error ? error.message : String(error) }));
    }
  };
  const server = createServer((asking) => void answer(asking));
  server.listen(socket).unref();
  process.env[sharedClusterVariable] = socket;
  return {
    async stop() {
      server.close();
      await (await cluster?.catch(() => undefined))?.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
