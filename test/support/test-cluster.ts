import { hashKey } from '@cdaas/pipeline/marks.ts';
import { type Sandbox, startSandbox } from '@cdaas/sandbox/sandbox.ts';
import type { InterceptedRequest, Verdict } from '@cdaas/sandbox/writes.ts';
import { type ClusterAddress, type ClusterClient, createClusterClient } from './cluster-client.ts';

export type Intercepting = (request: InterceptedRequest, phase: 'before' | 'after') => Promise<Verdict> | Verdict;

/** A cluster, and somebody beside the control plane who can reach it. */
export type AnyCluster = {
  /** As the control plane is told to reach it. */
  address: ClusterAddress;
  client: ClusterClient;
  /** Answers whatever a test still holds; it has failed by then. */
  held: Set<(verdict: Verdict) => void>;
  /** Puts a say into every write of the control plane in a namespace, until the returned function is called. */
  intercept(namespace: string, handler: Intercepting): () => void;
  close(): Promise<void>;
};

/** A sandbox cluster. */
export type Cluster = AnyCluster & {
  sandbox: Sandbox;
  /** Takes the API away, and brings it back at the same address with the same objects. */
  outage(): Promise<{ over(): Promise<void> }>;
};

export async function startCluster(dataDir: string): Promise<Cluster> {
  const { intercept, ask } = createIntercepting();
  const verbs: Record<string, string> = { create: 'POST', update: 'PUT', patch: 'PATCH', delete: 'DELETE' };
  const start = async () => {
    const sandbox = await startSandbox({ dataDir });
    sandbox.faults.readyAfterMs = { min: 10, max: 40 };
    sandbox.faults.graceMs = 20;
    sandbox.adaptor.lagMs = 5;
    sandbox.intercept = async (request, phase) => {
      if (client?.inFlight.has(`${verbs[request.verb]} ${request.path}`)) return 'continue';
      return ask(request, phase);
    };
    return sandbox;
  };
  let client: ClusterClient | undefined;
  const sandbox = await start();
  client = createClusterClient(sandbox);
  const cluster: Cluster = {
    sandbox,
    address: sandbox,
    client,
    held: new Set(),
    intercept,
    async outage() {
      await cluster.sandbox.stop();
      return {
        async over() {
          cluster.sandbox = await start();
        },
      };
    },
    async close() {
      cluster.client.close();
      await cluster.sandbox.stop();
    },
  };
  return cluster;
}

/** Those who have a say in writes, by namespace. */
export function createIntercepting(): { intercept: AnyCluster['intercept']; ask: Intercepting } {
  const handlers = new Map<string, Set<Intercepting>>();
  return {
    intercept(namespace, handler) {
      const known = handlers.get(namespace) ?? new Set();
      handlers.set(namespace, known.add(handler));
      return () => known.delete(handler);
    },
    async ask(request, phase) {
      const namespace = /\/namespaces\/([^/]+)/.exec(request.path)?.[1] ?? '';
      for (const handler of handlers.get(namespace) ?? []) {
        const verdict = await handler(request, phase);
        if (verdict !== 'continue') return verdict;
      }
      return 'continue';
    },
  };
}

/** Holds one write of the control plane: `phase` before it is carried out, or after it was and before it is answered. */
export function holdWrite(
  { cluster, namespace }: { cluster: AnyCluster; namespace: string },
  matches: (request: InterceptedRequest) => boolean,
  phase: 'before' | 'after' = 'before',
): { reached: Promise<InterceptedRequest>; release(verdict?: Verdict): void } {
  const reached = Promise.withResolvers<InterceptedRequest>();
  const verdict = Promise.withResolvers<Verdict>();
  cluster.held.add(verdict.resolve);
  const stop = cluster.intercept(namespace, (request, when) => {
    if (when !== phase || !matches(request)) return 'continue';
    stop();
    reached.resolve(request);
    return verdict.promise;
  });
  return { reached: reached.promise, release: (answer = 'continue') => verdict.resolve(answer) };
}

/** A write to the TrafficSplit that asks for a weight of the canary. */
export function asksForWeight(weight: number): (request: InterceptedRequest) => boolean {
  return ({ verb, path, body }) => {
    const backends = (body as { spec?: { backends?: { weight: number }[] } } | undefined)?.spec?.backends;
    return verb === 'patch' && path.includes('/trafficsplits/') && backends?.[1]?.weight === weight;
  };
}

/** A write to a Service that pins its selector to something: `nth` of a run counts from 1. */
export function pins(service: string, nth: number): (request: InterceptedRequest) => boolean {
  let count = 0;
  return ({ verb, path, body }) => {
    const selector = (body as { spec?: { selector?: Record<string, unknown> } } | undefined)?.spec?.selector;
    const pin = verb === 'patch' && path.endsWith(`/services/${service}`) && selector?.[hashKey];
    if (typeof pin === 'string' && Object.keys(selector ?? {}).length === 1) count += 1;
    else return false;
    return count === nth;
  };
}
