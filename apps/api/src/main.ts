import { closeInTurn } from '@cdaas/control-plane/close-in-turn.ts';
import { openDatabase } from '@cdaas/control-plane/database/db.ts';
import { createVault, readKey } from '@cdaas/control-plane/encryption.ts';
import { createLogger } from '@cdaas/control-plane/logging.ts';
import { createOutbound } from '@cdaas/control-plane/outbound.ts';
import { openQueue } from '@cdaas/control-plane/queue.ts';
import { environmentWords } from '@cdaas/control-plane/settings.ts';
import { type Config, readConfig, usage } from './config.ts';
import { startApi } from './server.ts';

/** For what is left to close after the requests in flight. */
const closeSeconds = 5;

const config = readConfig();
if ('problems' in config) {
  process.stderr.write(`${environmentWords(config.problems)}\n${usage}`);
  process.exit(2);
}
await run(config).catch((error: unknown) => {
  process.stderr.write(`The API cannot start: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});

async function run({ settings, databaseUrl, redisUrl, ...rest }: Config): Promise<void> {
  const log = createLogger(rest.logLevel);
  const key = await readKey(rest.encryptionKeyFile);
  const role = 'cdaas_api';
  const db = await openDatabase({ url: databaseUrl, role, poolSize: rest.databasePoolSize });
  const onError = (err: Error) => log.warn({ err }, 'the queue has trouble; workers find due rows by themselves');
  const queue = await openQueue({ databaseUrl, role, onError, ...(redisUrl === undefined ? {} : { redisUrl }) });
  const vault = createVault(key, db);
  const outbound = createOutbound(rest.outboundRules);
  const api = await startApi(
    { db, queue, vault, outbound, log, settings },
    {
      host: rest.host,
      port: rest.port,
      metricsHost: rest.metricsHost,
      metricsPort: rest.metricsPort,
      drainSeconds: rest.shutdownSeconds,
    },
  );
  log.info({ host: rest.host, port: api.port, metricsPort: api.metricsPort }, 'API serves');

  let stopping = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      // A second signal does not wait for the first.
      if (stopping) process.exit(1);
      stopping = true;
      log.info({ signal }, 'API stops');
      setTimeout(() => process.exit(1), (rest.shutdownSeconds + closeSeconds) * 1000).unref();
      closeInTurn([api, queue, db].map((part) => () => part.close())).catch((err: unknown) => {
        log.error({ err }, 'stopping failed');
        process.exitCode = 1;
      });
    });
  }
}
