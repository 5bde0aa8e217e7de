import type { Unreachable } from './kube-exchange.ts';

/**
 * What many requests together come to, or that the cluster did not answer all of them in time: whoever waits for all must
 * not wait for the sum of what each may take. Those under way end by themselves, and their answers are dropped.
 */
export async function withinTime<T>(ms: number, answer: Promise<T>): Promise<T | Unreachable> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Unreachable>((resolve) => {
    const reason = `the cluster did not answer everything within ${ms / 1000} s`;
    timer = setTimeout(() => resolve({ kind: 'unreachable', code: 'timeout', reason, sent: true }), ms);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
