import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { parseOutboundAllow } from '@cdaas/control-plane/outbound.ts';
import { z } from 'zod';
import { Remedy } from './remedy.ts';

export const usage = `Usage: npm start [-- options]

Starts the whole of CDaaS in one process: API, worker, a sandbox cluster, and an embedded
Postgres. Everything it keeps lies in .cdaas/ (CDAAS_DATA_DIR).

Options
  --no-demo    do not deploy the sample application on the first start
  --help       show this

Environment (see docs/operating.md for all)
  HOST, PORT         address to listen on         127.0.0.1:8080; PORT=0 takes a free port
  CDAAS_DATA_DIR     folder of all data           .cdaas
  DATABASE_URL       a Postgres of your own       the embedded one
  REDIS_URL          a Redis for the queue        none: the queue is in Postgres
  OUTBOUND_ALLOW     private clusters to reach    only the sandbox, and public addresses
`;

const port = z.coerce.number().int().min(0).max(65_535);
const text = z.string().min(1);

/** Every environment variable that standalone reads, by name. Empty means unset. */
const Environment = z.object({
  HOST: text.default('127.0.0.1'),
  PORT: port.default(8080),
  PUBLIC_URL: z.url({ protocol: /^https?$/ }).optional(),
  CDAAS_DATA_DIR: text.default('.cdaas'),
  DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/ }).optional(),
  REDIS_URL: z.url({ protocol: /^rediss?$/ }).optional(),
  ENCRYPTION_KEY_FILE: text.optional(),
  OUTBOUND_ALLOW: z.string().default(''),
  METRICS_PORT: port.optional(),
  DRAIN_SECONDS: z.coerce.number().min(0).max(3600).default(5),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace']).default('info'),
  NO_COLOR: z.string().optional(),
});

export type Config = {
  host: string;
  port: number;
  /** Undefined: the address listened on. */
  publicUrl: string | undefined;
  dataDir: string;
  databaseUrl: string | undefined;
  redisUrl: string | undefined;
  encryptionKeyFile: string | undefined;
  outboundAllow: string;
  /** Undefined: the usual one, left out where it is taken. */
  metricsPort: number | undefined;
  /** How long a canary lets connections drain after traffic left a backend. */
  drainSeconds: number;
  logLevel: string;
  color: boolean;
};

export type Options = { help: boolean; demo: boolean };

/**
 * Reads the environment, once, at the start.
 *
 * @throws Remedy naming every variable that is wrong
 */
export function readConfig(environment: NodeJS.ProcessEnv = process.env): Config {
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''));
  const parsed = Environment.safeParse(given);
  const outbound = parseOutboundAllow(environment.OUTBOUND_ALLOW ?? '');
  const problems = [
    ...(parsed.error?.issues ?? []).map(({ path, message }) => `${path.join('.')}: ${message}`),
    ...(outbound.ok ? [] : outbound.problems),
  ];
  if (!parsed.success || problems.length > 0) {
    throw new Remedy(`The environment is not right:\n  ${problems.join('\n  ')}\nSee docs/operating.md.`);
  }
  const env = parsed.data;
  return {
    host: env.HOST,
    port: env.PORT,
    publicUrl: env.PUBLIC_URL?.replace(/\/$/, ''),
    dataDir: resolve(env.CDAAS_DATA_DIR),
    databaseUrl: env.DATABASE_URL,
    redisUrl: env.REDIS_URL,
    encryptionKeyFile: env.ENCRYPTION_KEY_FILE,
    outboundAllow: env.OUTBOUND_ALLOW,
    metricsPort: env.METRICS_PORT,
    drainSeconds: env.DRAIN_SECONDS,
    logLevel: env.LOG_LEVEL,
    color: process.stdout.isTTY === true && env.NO_COLOR === undefined,
  };
}

/**
 * Reads the words after `npm start --`.
 *
 * @throws Remedy for one that is not known
 */
export function readOptions(args: string[]): Options {
  try {
    const { values } = parseArgs({
      args,
      options: { help: { type: 'boolean', short: 'h' }, 'no-demo': { type: 'boolean' } },
    });
    return { help: values.help === true, demo: values['no-demo'] !== true };
  } catch (cause) {
    throw new Remedy(`${cause instanceof Error ? cause.message : String(cause)}\n\n${usage}`, { cause });
  }
}
