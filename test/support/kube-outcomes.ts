import assert from 'node:assert/strict';
import type { Outcome } from '@cdaas/control-plane/drivers/kube-exchange.ts';
import { createOutbound, type Outbound, type Resolve } from '@cdaas/control-plane/outbound.ts';

/** The credential of every client in these tests; no outcome may hold it. */
export const token = 'planted-Token.0123456789_abc';

/** Lets clusters be at 127.0.0.1 on this port only. */
export function allowing(port: number, resolve?: Resolve): Outbound {
  return createOutbound([{ purpose: 'cluster', network: '127.0.0.1', prefix: 32, port }], resolve);
}

/** Asserts that it was not answered, and how. */
export function unreachable(outcome: { kind: string } | Outcome, code: string, sent: boolean): string {
  assert.ok('code' in outcome && 'sent' in outcome, JSON.stringify(outcome));
  assert.deepEqual([outcome.code, outcome.sent], [code, sent], JSON.stringify(outcome));
  assert.ok(!JSON.stringify(outcome).includes(token), 'the token is in it');
  return outcome.reason;
}

export function answered(outcome: { kind: string } | Outcome, status: number): unknown {
  assert.ok('status' in outcome, JSON.stringify(outcome));
  assert.equal(outcome.status, status, JSON.stringify(outcome));
  return outcome.body;
}
