/*
 * Closed: calls pass, consecutive failures are counted. After `threshold` of them it opens: calls are refused at once.
 * When its delay has passed, one caller is told to probe (half-open) while the others are still refused: an answer
 * closes it, a failure opens it again for twice as long, up to `maxDelayMs`. Delays are jittered, so that many
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
  /** It was open, and calls pass again. */
  onClosed?: () => void;
};

export type Admission = { kind: 'pass' } | { kind: 'probe' } | { kind: 'refuse'; retryInMs: number };

export type Breaker = {
  /** Asks whether a call may go out. Whoever is told to probe must report succeeded() or probeFailed(). */
  admit(): Admission;
  succeeded(): void;
  failed(): void;
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
  onClosed = () => {},
}: BreakerOptions = {}): Breaker {
  let failures = 0;
  let state: 'closed' | 'open' | 'probing' = 'closed';
  let delayMs = firstDelayMs;
  let retryAt = 0;

  const open = () => {
    state = 'open';
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
      const wasOpen = state !== 'closed';
      state = 'closed';
      failures = 0;
      delayMs = firstDelayMs;
      if (wasOpen) onClosed();
    },
    failed() {
      failures += 1;
      // Calls that were under way when it opened add nothing: only the probe's failure lengthens the delay.
      if (state === 'closed' && failures >= threshold) open();
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
