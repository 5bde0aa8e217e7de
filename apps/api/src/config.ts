import type { OutboundRule } from '@cdaas/control-plane/outbound.ts';
import { count, fields, readEnvironment } from '@cdaas/control-plane/settings.ts';
import { z } from 'zod';
import { type ApiSettings, settingsFor, usualLimits } from './deps.ts';

export const usage = `Usage: node apps/api/src/main.ts

Runs the API. Start as many as you like; they share nothing but the database and the queue.

Environment (see docs/operating.md)
  DATABASE_URL          Postgres, on a direct connection (no transaction pooler)    required
  PUBLIC_URL            where clients reach it, for example https://cdaas.example.org   required
  ENCRYPTION_KEY_FILE   the key that wraps all others, the same as the workers'     required
  REDIS_URL             a Redis for the queue                                       none: the queue is in Postgres
  OUTBOUND_ALLOW        private addresses to reach, purpose:cidr:port, …            public addresses only
  HOST, PORT            address to listen on                                        127.0.0.1, 8080
  METRICS_HOST, METRICS_PORT  address of /metrics                                   127.0.0.1, 9464
  ALLOWED_HOSTS         further names it is called by, host or host:port, …         that of PUBLIC_URL only
  TRUSTED_PROXIES       addresses of proxies whose X-Forwarded-For counts           none
  BODY_LIMIT_BYTES      largest request body                                        1048576
  REQUESTS_PER_MINUTE   of one caller                                               1200
  CLUSTERS_PER_TENANT   registered at most                                          200
  DRAIN_SECONDS         how long a canary lets connections drain                    5
  SHUTDOWN_SECONDS      how long requests in flight may take when it stops          25
  DATABASE_POOL_SIZE    connections                                                 10
  LOG_LEVEL             fatal, error, warn, info, debug or trace                    info
`;

const list = z.string().transform((text) => text.split(/[\s,]+/).filter((word) => word !== ''));

const Environment = z.object({
  DATABASE_URL: fields.postgresUrl,
  PUBLIC_URL: fields.publicUrl,
  ENCRYPTION_KEY_FILE: fields.keyFile,
  REDIS_URL: fields.redisUrl.optional(),
  OUTBOUND_ALLOW: fields.outboundAllow,
  HOST: z.string().default('127.0.0.1'),
  PORT: fields.port.default(8080),
  METRICS_HOST: z.string().default('127.0.0.1'),
  METRICS_PORT: fields.port.default(9464),
  ALLOWED_HOSTS: list.default([]),
  TRUSTED_PROXIES: list.default([]),
  BODY_LIMIT_BYTES: count(1_024, 67_108_864).default(1_048_576),
  REQUESTS_PER_MINUTE: count(1, 1_000_000).default(usualLimits.requestsPerMinute),
  CLUSTERS_PER_TENANT: count(1, 10_000).default(usualLimits.clustersPerTenant),
  DRAIN_SECONDS: fields.drainSeconds,
  SHUTDOWN_SECONDS: count(0, 3_600).default(25),
  DATABASE_POOL_SIZE: count(1, 1_000).default(10),
  LOG_LEVEL: fields.logLevel,
});

export type Config = {
  databaseUrl: string;
  databasePoolSize: number;
  redisUrl: string | undefined;
  encryptionKeyFile: string;
  outboundRules: OutboundRule[];
  host: string;
  port: number;
  metricsHost: string;
  metricsPort: number;
  shutdownSeconds: number;
  logLevel: string;
  settings: ApiSettings;
};

/** Reads the environment, once, at the start; answers every problem at once. */
export function readConfig(environment: NodeJS.ProcessEnv = process.env): Config | { problems: string[] } {
  const read = readEnvironment(Environment, environment);
  if ('problems' in read) return read;
  const { env } = read;
  const settings = settingsFor(env.PUBLIC_URL);
  return {
    databaseUrl: env.DATABASE_URL,
    databasePoolSize: env.DATABASE_POOL_SIZE,
    redisUrl: env.REDIS_URL,
    encryptionKeyFile: env.ENCRYPTION_KEY_FILE,
    outboundRules: env.OUTBOUND_ALLOW,
    host: env.HOST,
    port: env.PORT,
    metricsHost: env.METRICS_HOST,
    metricsPort: env.METRICS_PORT,
    shutdownSeconds: env.SHUTDOWN_SECONDS,
    logLevel: env.LOG_LEVEL,
    settings: {
      ...settings,
      allowedHosts: [...settings.allowedHosts, ...env.ALLOWED_HOSTS.map((host) => host.toLowerCase())],
      trustedProxies: env.TRUSTED_PROXIES,
      bodyLimitBytes: env.BODY_LIMIT_BYTES,
      requestsPerMinute: env.REQUESTS_PER_MINUTE,
      clustersPerTenant: env.CLUSTERS_PER_TENANT,
      drainSeconds: env.DRAIN_SECONDS,
    },
  };
}
