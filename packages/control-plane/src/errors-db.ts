import { Prisma } from './generated/client.ts';

/** Whether a row with the same unique values was there already. */
export function isUniqueViolation(error: unknown): boolean {
  return error instanceof Prisma.PrismaClientKnownRequestError && error.code === 'P2002';
}

/** Whether Postgres refused because a row that is referred to is missing, or is still referred to. */
export function isForeignKeyViolation(error: unknown): boolean {
  return error instanceof Prisma.PrismaClientKnownRequestError && error.code === 'P2003';
}

/** Prisma's codes for a server that cannot be reached, is too busy to connect to, or closed the connection. */
const unavailable = new Set(['P1001', 'P1002', 'P1008', 'P1011', 'P1017', 'P2024', 'P2028', 'P2037']);
const unavailableErrno = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN']);

/** Whether the database is what failed, not the request: the answer is 503 and trying again may help. */
export function isDatabaseUnavailable(error: unknown): boolean {
  if (error instanceof Prisma.PrismaClientInitializationError) return true;
  if (error instanceof Prisma.PrismaClientKnownRequestError && unavailable.has(error.code)) return true;
  if (!(error instanceof Error)) return false;
  if ('code' in error && unavailableErrno.has(String(error.code))) return true;
  return error.cause !== undefined && isDatabaseUnavailable(error.cause);
}
