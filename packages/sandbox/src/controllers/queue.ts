/** A work queue as Kubernetes controllers have: a key that is already waiting is not queued twice. */
export type Queue = {
  /** Asks for a key to be looked at, at once or after a time. A sooner request does not cancel a later one. */
  add(key: string, afterMs?: number): void;
  stop(): void;
};

/** Keys looked at in one turn of the event loop, so that the API goes on answering. */
const batch = 64;

export function createQueue(reconcile: (key: string) => void, log: (line: string) => void): Queue {
  const waiting = new Set<string>();
  const timers = new Set<NodeJS.Timeout>();
  let scheduled = false;
  let stopped = false;

  function schedule(): void {
    if (scheduled || stopped) return;
    scheduled = true;
    setImmediate(work);
  }

  function work(): void {
    scheduled = false;
    let budget = batch;
    for (const key of waiting) {
      if (stopped || budget-- === 0) break;
      waiting.delete(key);
      try {
        reconcile(key);
      } catch (error) {
        log(`${key}: ${error instanceof Error ? error.stack : String(error)}`);
      }
    }
    if (waiting.size > 0) schedule();
  }

  return {
    add(key, afterMs = 0) {
      if (stopped) return;
      if (afterMs > 0) {
        const timer = setTimeout(() => {
          timers.delete(timer);
          waiting.add(key);
          schedule();
        }, afterMs);
        timers.add(timer);
        return;
      }
      waiting.add(key);
      schedule();
    },
    stop() {
      stopped = true;
      for (const timer of timers) clearTimeout(timer);
    },
  };
}

export function keyFor(object: { metadata: { namespace?: string; name: string } }): string {
  return `${object.metadata.namespace ?? ''}/${object.metadata.name}`;
}

export function splitKey(key: string): [namespace: string, name: string] {
  const slash = key.indexOf('/');
  return [key.slice(0, slash), key.slice(slash + 1)];
}
