import { type ClusterHealthDeps, checkCluster, takeDueChecks } from '@cdaas/control-plane/clusters/health.ts';

/** How often a worker looks for clusters whose check is due. */
const lookEveryMs = 1_000;
/** Checks under way at once: a cluster that is slow to answer holds up none of the others. */
const atOnce = 32;

/** Looks after the health of registered clusters, beside everything else, until it is closed. */
export function startHealthChecks(deps: ClusterHealthDeps): { close(): Promise<void> } {
  const running = new Set<Promise<void>>();
  const stop = new AbortController();
  let looking: Promise<void> | null = null;
  let failing = false;

  const look = async (): Promise<void> => {
    try {
      const free = atOnce - running.size;
      const due = free > 0 ? await takeDueChecks(deps, free) : [];
      for (const taken of due) {
        const { clusterId } = taken;
        const check: Promise<void> = checkCluster(deps, taken, stop.signal)
          .catch((err: unknown) => deps.log.warn({ err, clusterId }, 'checking a cluster failed'))
          .finally(() => running.delete(check));
        running.add(check);
      }
      failing = false;
    } catch (err) {
      // Without Postgres it would say the same every second.
      if (!failing) deps.log.warn({ err }, 'looking for clusters to check fails');
      failing = true;
    }
  };
  const timer = setInterval(() => {
    looking ??= look().finally(() => {
      looking = null;
    });
  }, lookEveryMs);
  timer.unref();
  return {
    async close() {
      clearInterval(timer);
      stop.abort();
      await looking;
      await Promise.all(running);
    },
  };
}
