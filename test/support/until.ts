import { setTimeout as sleep } from 'node:timers/promises';

type Found<T> = Exclude<T, undefined | null | false>;

/**
 * Waits until a condition holds, asking again and again, and answers what it then said; after the time-out it fails with what
 * was waited for.
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  what: string,
  timeoutMs = 30_000,
  everyMs = 20,
): Promise<Found<T>> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const found = await condition();
    if (found) return found as Found<T>;
    if (performance.now() > end) throw new Error(`timed out after ${timeoutMs} ms waiting for ${what}`);
    await sleep(everyMs);
  }
}
