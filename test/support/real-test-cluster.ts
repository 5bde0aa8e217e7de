import { createClusterClient } from './cluster-client.ts';
import { useRealCluster } from './real-cluster.ts';
import { type AnyCluster, createIntercepting } from './test-cluster.ts';
import { type Asked, startUnpleasantCluster } from './unpleasant-cluster.ts';

/** The real cluster, reached by the control plane through somebody who can hold its writes; tests reach it directly. */
export async function openRealCluster(): Promise<AnyCluster> {
  const real = await useRealCluster();
  const between = await startUnpleasantCluster(real);
  const client = createClusterClient(real);
  const { intercept, ask } = createIntercepting();
  between.begin({
    async request({ verb, path, body }, reply) {
      if (!isWrite(verb)) return 'pass';
      const before = await ask({ verb, path, body }, 'before');
      if (before === 'drop') return reply.drop();
      if (before !== 'continue') return reply.refuse(before.code, before.reason, before.message);
      const answer = await reply.pass();
      const after = await ask({ verb, path, body }, 'after');
      if (after === 'drop') return reply.drop();
      if (after !== 'continue') return reply.refuse(after.code, after.reason, after.message);
      return reply.send(answer);
    },
  });
  return {
    address: between.access,
    client,
    held: new Set(),
    intercept,
    async close() {
      client.close();
      await between.close();
      await real.stop();
    },
  };
}

function isWrite(verb: Asked['verb']): verb is 'create' | 'update' | 'patch' | 'delete' {
  return verb === 'create' || verb === 'update' || verb === 'patch' || verb === 'delete';
}
