import { createHash } from 'node:crypto';
import { AppError } from '@cdaas/contract/errors.ts';
import type { EarlierAnswer } from './start-pipeline.ts';

/** Says whether two bodies are the same; everything that changes what a request does belongs in. */
export function hashBody(...parts: readonly string[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${Buffer.byteLength(part)}:`).update(part);
  return hash.digest('hex');
}

/**
 * The first answer, for the same request again (design.md, law 6).
 *
 * @throws AppError idempotency.mismatch where the key came with another body
 */
export function replay(first: EarlierAnswer, bodyHash: string): unknown {
  if (first.bodyHash === bodyHash) return first.response;
  throw new AppError('idempotency.mismatch', 'This Idempotency-Key was already used with another request.', {
    hint: 'Use a new key for a new request; the same key only repeats the same one.',
  });
}

/** The error for a request whose first sending has not been answered yet. */
export function stillRunning(): AppError {
  return new AppError('idempotency.running', 'The first request with this Idempotency-Key is still being handled.', {
    retryAfterSeconds: 1,
  });
}
