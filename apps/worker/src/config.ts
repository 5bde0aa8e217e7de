import { parseOutboundAllow } from '@cdaas/control-plane/outbound.ts';
import { z } from 'zod';

export const usage = `Usage: node apps/worker/src/main.ts

Runs a worker: it takes due deployments, drives them and watches their clusters. Start as many as you like.

Environment (see docs/operating.md)
  DATABASE_URL          Postgres, on a direct connection (no transaction pooler)    required
  ENCRYPTION_KEY_FILE   the key that wraps all others, the same as the API's        required
  REDIS_URL             a Redis for the queue                                       none: the queue is in Postgres
  OUTBOUND_ALLOW        private addresses to reach, purpose:cidr:port, …            public addresses only
  LOG_LEVEL             fatal, error, warn, info, debug or trace                    info
`;

const Environment = z.object({
  DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/, error: 'must be a postgres:// URL' }),
  ENCRYPTION_KEY_FILE: z.string({ error: 'must name the file of the key-encryption key' }).min(1),
  REDIS_URL: z.url({ protocol: /^rediss?$/, error: 'must be a redis:// URL' }).optional(),
  OUTBOUND_ALLOW: z.string().default(''),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace']).default('info'),
});

export type Config = {
  databaseUrl: string;
  encryptionKeyFile: string;
  redisUrl: string | undefined;
  outboundAllow: string;
  logLevel: string;
};

/** Reads the environment, once, at the start; answers every problem at once. Empty means unset. */
export function readConfig(environment: NodeJS.ProcessEnv = process.env): Config | { problems: string[] } {
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''));
  const parsed = Environment.safeParse(given);
  const outbound = parseOutboundAllow(environment.OUTBOUND_ALLOW ?? '');
  const problems = [
    ...(parsed.error?.issues ?? []).map(({ path, message }) => `${path.join('.')}: ${message}`),
    ...(outbound.ok ? [] : outbound.problems),
  ];
  if (!parsed.success || problems.length > 0) return { problems };
  const { DATABASE_URL, ENCRYPTION_KEY_FILE, REDIS_URL, OUTBOUND_ALLOW, LOG_LEVEL } = parsed.data;
  return {
    databaseUrl: DATABASE_URL,
    encryptionKeyFile: ENCRYPTION_KEY_FILE,
    redisUrl: REDIS_URL,
    outboundAllow: OUTBOUND_ALLOW,
    logLevel: LOG_LEVEL,
  };
}
