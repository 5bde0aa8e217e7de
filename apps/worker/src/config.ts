import type { OutboundRule } from '@cdaas/control-plane/outbound.ts';
import { count, fields, readEnvironment } from '@cdaas/control-plane/settings.ts';
import { z } from 'zod';

export const usage = `Usage: node apps/worker/src/main.ts

Runs a worker: it takes due deployments, drives them and watches their clusters. Start as many as you like.

Environment (see docs/operating.md)
  DATABASE_URL          Postgres, on a direct connection (no transaction pooler)    required
  ENCRYPTION_KEY_FILE   the key that wraps all others, the same as the API's        required
  REDIS_URL             a Redis for the queue                                       none: the queue is in Postgres
  OUTBOUND_ALLOW        private addresses to reach, purpose:cidr:port, …            public addresses only
  CLUSTER_CHECK_SECONDS how often each cluster is asked whether it answers          30
  LOG_LEVEL             fatal, error, warn, info, debug or trace                    info
`;

const Environment = z.object({
  DATABASE_URL: fields.postgresUrl,
  ENCRYPTION_KEY_FILE: fields.keyFile,
  REDIS_URL: fields.redisUrl.optional(),
  OUTBOUND_ALLOW: fields.outboundAllow,
  CLUSTER_CHECK_SECONDS: count(5, 86_400).default(30),
  LOG_LEVEL: fields.logLevel,
});

export type Config = {
  databaseUrl: string;
  encryptionKeyFile: string;
  redisUrl: string | undefined;
  outboundRules: OutboundRule[];
  clusterCheckSeconds: number;
  logLevel: string;
};

/** Reads the environment, once, at the start; answers every problem at once. */
export function readConfig(environment: NodeJS.ProcessEnv = process.env): Config | { problems: string[] } {
  const read = readEnvironment(Environment, environment);
  if ('problems' in read) return read;
  const { env } = read;
  return {
    databaseUrl: env.DATABASE_URL,
    encryptionKeyFile: env.ENCRYPTION_KEY_FILE,
    redisUrl: env.REDIS_URL,
    outboundRules: env.OUTBOUND_ALLOW,
    clusterCheckSeconds: env.CLUSTER_CHECK_SECONDS,
    logLevel: env.LOG_LEVEL,
  };
}
