import { Prisma } from '../generated/client.ts';

/** Whether a row with the same unique values was there already. */
export function isUniqueViolation(error: unknown): boolean {
  return error instanceof Prisma.PrismaClientKnownRequestError && error.code === 'P2002';
}

/** Prisma's codes for a server that cannot be reached, is too busy to connect to, or closed the connection. */
const unavailableCodes = new Set(['P1001', 'P1002', 'P1008', 'P1011', 'P1017', 'P2024', 'P2028', 'P2037']);
/** The same in the words of the driver's adapter, where Prisma says no more than "raw query failed". */
const unavailableKinds = new Set([
  'DatabaseNotReachable',
  'ConnectionClosed',
  'SocketTimeout',
  'TlsConnectionError',
  'TooManyConnections',
]);
/** And in Postgres' own: shutting down, crashed, starting up; no connection; disk, memory or connections exhausted (Appendix A). */
const unavailableStates = /^(57P0[1-3]|08\w{3}|53[1-3]00)$/;
const unavailableErrno = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN']);
/** What pg says without a code, of connections that ended or were never made (pg's client.js, pg-pool's index.js). */
const unavailableWords = /^Connection terminated|^timeout exceeded when trying to connect$|is not queryable$/;

/** Whether the database is what failed, not the request: the answer is 503 and trying again may help. */
export function isDatabaseUnavailable(error: unknown): boolean {
  if (error instanceof Prisma.PrismaClientInitializationError) return true;
  if (error instanceof Prisma.PrismaClientKnownRequestError) {
    if (unavailableCodes.has(error.code)) return true;
    const driver = error.meta?.driverAdapterError;
    return driver instanceof Error && isDriverUnavailable(driver.cause);
  }
  if (!(error instanceof Error)) return false;
  const code = 'code' in error ? String(error.code) : '';
  if (unavailableErrno.has(code) || unavailableStates.test(code)) return true;
  if (code === '' && unavailableWords.test(error.message)) return true;
  return isDriverUnavailable(error.cause) || isDatabaseUnavailable(error.cause);
}

function isDriverUnavailable(cause: unknown): boolean {
  if (typeof cause !== 'object' || cause === null) return false;
  if ('kind' in cause && unavailableKinds.has(String(cause.kind))) return true;
  return 'originalCode' in cause && unavailableStates.test(String(cause.originalCode));
}
