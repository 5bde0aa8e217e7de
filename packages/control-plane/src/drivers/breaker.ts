/*
 * Closed: calls pass, consecutive failures are counted. After `threshold` of them it opens: calls are refused at once.
 * When its delay has passed, one caller is told to probe (half-open) while the others are still refused: a failure
 * opens it again for twice as long, up to `maxDelayMs`. After an answer calls pass, on trial: a server that answers the
 * probe may still do nothing of what is asked (an API server without its etcd). The first call that succeeds ends the
 * trial, and is told; a failure before that opens it again, for longer. Delays are jittered, so that many
 * processes do not probe a returning cluster in step.
 */

export type BreakerOptions = {
  /** Consecutive failures that open it. */
  threshold?: number;
  firstDelayMs?: number;
  maxDelayMs?: number;
  /** Milliseconds since the epoch. */
  now?: () => number;
  /** In [0, 1). */
  random?: () => number;
  /** As if it had been open: the first call that succeeds is told. */
  isDoubted?: boolean;
  /** It was open, and a call succeeded. */
  onClosed?: () => void;
};

export type Admission = { kind: 'pass' } | { kind: 'probe' } | { kind: 'refuse'; retryInMs: number };

export type Breaker = {
  /** Asks whether a call may go out. Whoever is told to probe must report probeAnswered() or probeFailed(). */
  admit(): Admission;
  succeeded(): void;
  /** The other side answered that it could not do what it was asked: it is there, and no more follows from that. */
  answered(): void;
  failed(): void;
  /** Calls pass again, on trial. */
  probeAnswered(): void;
  /** The probe failed: open again, for longer. */
  probeFailed(): void;
  /** Somebody else saw the other side answer: if it is open, the next caller probes. */
  hurry(): void;
};

export function createBreaker({
  threshold = 5,
  firstDelayMs = 1000,
  maxDelayMs = 10_000,
  now = Date.now,
  random = Math.random,
  isDoubted = false,
  onClosed = () => {},
}: BreakerOptions = {}): Breaker {
  let failures = 0;
  let state: 'closed' | 'open' | 'probing' = 'closed';
  let delayMs = firstDelayMs;
  /** No call has succeeded since it was open. */
  let inDoubt = isDoubted;
  let retryAt = 0;

  const open = () => {
    state = 'open';
    inDoubt = true;
    retryAt = now() + delayMs * (0.8 + 0.4 * random());
    delayMs = Math.min(delayMs * 2, maxDelayMs);
  };

  return {
    admit() {
      if (state === 'closed') return { kind: 'pass' };
      const retryInMs = Math.max(0, retryAt - now());
      if (state === 'probing' || retryInMs > 0) return { kind: 'refuse', retryInMs };
      state = 'probing';
      return { kind: 'probe' };
    },
    succeeded() {
      const isBack = inDoubt;
      state = 'closed';
      failures = 0;
      delayMs = firstDelayMs;
      inDoubt = false;
      if (isBack) onClosed();
    },
    answered() {
      if (!inDoubt) failures = 0;
    },
    failed() {
      failures += 1;
      // Calls that were under way when it opened add nothing: only the probe's failure lengthens the delay.
      if (state === 'closed' && failures >= threshold) open();
    },
    probeAnswered() {
      if (state !== 'probing') return;
      state = 'closed';
      failures = threshold - 1;
    },
    probeFailed() {
      failures += 1;
      open();
    },
    hurry() {
      if (state === 'open') retryAt = now();
    },
  };
}
