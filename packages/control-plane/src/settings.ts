import { z } from 'zod';
import { type OutboundRule, parseOutboundAllow } from './outbound.ts';

/**
 * The environment variables that several processes read: one rule and one wording each. Messages never repeat a value,
 * which may hold a password.
 */

const postgresUrl = z.url({
  protocol: /^postgres(ql)?$/,
  error: 'must be a postgres:// URL, for example postgres://cdaas:…@db.example.org:5432/cdaas',
});
const redisUrl = z.url({ protocol: /^rediss?$/, error: 'must be a redis:// URL' });
const publicUrl = z.url({
  protocol: /^https?$/,
  error: 'must be the URL that clients reach the API by, for example https://cdaas.example.org',
});
const keyFile = z.string({
  error: 'must name the file of the key-encryption key; make one with: openssl rand -base64 32',
});
const outboundAllow = z
  .string()
  .default('')
  .transform((text, context): OutboundRule[] => {
    const parsed = parseOutboundAllow(text);
    if (parsed.ok) return parsed.rules;
    for (const message of parsed.problems) context.addIssue(message);
    return z.NEVER;
  });
const logLevel = z
  .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace'], {
    error: 'must be fatal, error, warn, info, debug or trace',
  })
  .default('info');

/** A whole number. */
export function count(least: number, most: number, error = `must be a whole number from ${least} to ${most}`) {
  return z.coerce.number({ error }).int(error).min(least, error).max(most, error);
}

export const fields = {
  postgresUrl,
  redisUrl,
  publicUrl,
  keyFile,
  outboundAllow,
  logLevel,
  port: count(0, 65_535, 'must be a port, 0 to 65535'),
  /** How long a deployment lets connections drain after traffic left a backend. */
  drainSeconds: count(0, 3_600).default(5),
};

/**
 * Reads environment variables, once, at the start of a process. Empty means unset.
 *
 * @returns what the schema makes of them, or everything that is wrong, each line beginning with the variable's name
 */
export function readEnvironment<Schema extends z.ZodObject>(
  schema: Schema,
  environment: Record<string, string | undefined>,
): { env: z.output<Schema> } | { problems: string[] } {
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''));
  const parsed = schema.safeParse(given);
  if (parsed.success) return { env: parsed.data };
  return { problems: parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`) };
}

/** The problems of `readEnvironment`, for the terminal. */
export function environmentWords(problems: readonly string[]): string {
  return `The environment is not right:\n${problems.map((problem) => `  ${problem}\n`).join('')}`;
}
