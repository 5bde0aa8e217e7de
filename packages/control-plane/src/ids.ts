import { createHash, randomBytes } from 'node:crypto';

/**
 * A UUID version 7 (RFC 9562 §5.7): sorts by the millisecond it was made in, so rows made together lie together.
 *
 * @param at the clock that rows are dated by
 */
export function newId(at: Date): string {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(at.getTime(), 0, 6);
  bytes[6] = 0x70 | (bytes[6]! & 0x0f);
  bytes[8] = 0x80 | (bytes[8]! & 0x3f);
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** Whether a text can be the id of a row at all; anything else is simply not found. */
export function isId(text: string): boolean {
  return /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(text);
}

/**
 * The value of `armory-pod-template-hash` of one run: 10 characters of [0-9a-z] from SHA-256 of the deployment's id and
 * the Deployment's name. It is new for every run, and the same whenever it is asked for again.
 */
export function templateHash(deploymentId: string, deploymentName: string): string {
  const digest = createHash('sha256').update(`${deploymentId}/${deploymentName}`).digest('hex');
  return BigInt(`0x${digest}`).toString(36).padStart(10, '0').slice(-10);
}
