import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { ClusterName } from '@cdaas/contract/clusters.ts';
import type { OutboundRule } from '@cdaas/control-plane/outbound.ts';
import { environmentWords, fields, readEnvironment } from '@cdaas/control-plane/settings.ts';
import { z } from 'zod';
import { type Again, createAgain } from './again.ts';
import { Remedy } from './remedy.ts';

/** The account name of a cluster of one's own, where none is given. */
const ownAccount = 'own';

export const usage = `Usage: npm start [-- options]

Starts the whole of CDaaS in one process: API, worker, a sandbox cluster, and an embedded
Postgres. Everything it keeps lies in .cdaas/ (CDAAS_DATA_DIR).

Options
  --kubeconfig FILE   deploy to a cluster of your own instead of the sandbox: it is registered,
                      and its address may be reached; nothing is deployed on it unasked
  --context NAME      the context in that file        its current one
  --account NAME      the name in deployment files    ${ownAccount}
  --no-demo           do not deploy the sample application on the first start
  --demo              deploy it on a cluster of your own too
  --help              show this

Environment (see docs/operating.md for all)
  HOST, PORT         address to listen on         127.0.0.1:8080; PORT=0 takes a free port
  CDAAS_DATA_DIR     folder of all data           .cdaas
  DATABASE_URL       a Postgres of your own       the embedded one
  REDIS_URL          a Redis for the queue        none: the queue is in Postgres
  OUTBOUND_ALLOW     private clusters to reach    only the sandbox or --kubeconfig's, and public addresses
`;

const text = z.string();

/** Every environment variable that standalone reads, by name. */
const Environment = z.object({
  HOST: text.default('127.0.0.1'),
  PORT: fields.port.default(8080),
  PUBLIC_URL: fields.publicUrl.optional(),
  CDAAS_DATA_DIR: text.default('.cdaas'),
  DATABASE_URL: fields.postgresUrl.optional(),
  REDIS_URL: fields.redisUrl.optional(),
  ENCRYPTION_KEY_FILE: fields.keyFile.optional(),
  OUTBOUND_ALLOW: fields.outboundAllow,
  METRICS_PORT: fields.port.optional(),
  DRAIN_SECONDS: fields.drainSeconds,
  LOG_LEVEL: fields.logLevel,
  NO_COLOR: text.optional(),
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
  outboundRules: OutboundRule[];
  /** Undefined: the usual one, left out where it is taken. */
  metricsPort: number | undefined;
  /** How long a canary lets connections drain after traffic left a backend. */
  drainSeconds: number;
  logLevel: string;
  color: boolean;
  /** The command to go on with where something stands in the way of this one. */
  again: Again;
};

/** `own`: the cluster to use instead of the sandbox. */
export type Options = { help: boolean; demo: boolean; own: OwnOptions | null };

export type OwnOptions = { kubeconfig: string; context: string | undefined; account: string };

/**
 * Reads the environment, once, at the start.
 *
 * @param args the words after `npm start --`
 * @throws Remedy naming every variable that is wrong
 */
export function readConfig(args: readonly string[], environment: NodeJS.ProcessEnv = process.env): Config {
  const read = readEnvironment(Environment, environment);
  if ('problems' in read) throw new Remedy(`${environmentWords(read.problems)}See docs/operating.md.`);
  const { env } = read;
  return {
    host: env.HOST,
    port: env.PORT,
    publicUrl: env.PUBLIC_URL?.replace(/\/$/, ''),
    dataDir: resolve(env.CDAAS_DATA_DIR),
    databaseUrl: env.DATABASE_URL,
    redisUrl: env.REDIS_URL,
    encryptionKeyFile: env.ENCRYPTION_KEY_FILE,
    outboundRules: env.OUTBOUND_ALLOW,
    metricsPort: env.METRICS_PORT,
    drainSeconds: env.DRAIN_SECONDS,
    logLevel: env.LOG_LEVEL,
    color: process.stdout.isTTY === true && env.NO_COLOR === undefined,
    again: createAgain(environment, args),
  };
}

const knownOptions = {
  help: { type: 'boolean', short: 'h', default: false },
  demo: { type: 'boolean' },
  'no-demo': { type: 'boolean' },
  kubeconfig: { type: 'string' },
  context: { type: 'string' },
  account: { type: 'string' },
} as const;

/** npm keeps options that stand before `--` for itself, and starts without them: that must not pass unseen. */
function refuseKeptByNpm(environment: NodeJS.ProcessEnv): void {
  const kept = Object.keys(knownOptions).filter((name) => environment[`npm_config_${name}`] !== undefined);
  const [first] = kept;
  if (first === undefined) return;
  const off = first === 'demo' && ['', 'false'].includes(environment.npm_config_demo ?? '');
  throw new Error(`npm kept --${off ? 'no-demo' : first} for itself: options stand after two dashes, npm start -- --…`);
}

/**
 * Reads the words after `npm start --`.
 *
 * @throws Remedy for one that is not known
 */
export function readOptions(args: string[], environment: NodeJS.ProcessEnv = process.env): Options {
  try {
    refuseKeptByNpm(environment);
    const { values } = parseArgs({ args, options: knownOptions });
    const { help, kubeconfig, context, account = ownAccount } = values;
    if (kubeconfig === undefined) {
      for (const name of ['context', 'account', 'demo'] as const)
        if (values[name] !== undefined) throw new Error(`--${name} goes with --kubeconfig only`);
      return { help, demo: values['no-demo'] !== true, own: null };
    }
    if (values.demo && values['no-demo']) throw new Error('--demo and --no-demo exclude each other');
    const name = ClusterName.safeParse(account);
    if (!name.success) throw new Error(`--account: ${name.error.issues[0]?.message}`);
    return { help, demo: values.demo === true, own: { kubeconfig: resolve(kubeconfig), context, account } };
  } catch (cause) {
    throw new Remedy(`${cause instanceof Error ? cause.message : String(cause)}\n\n${usage}`, { cause });
  }
}
