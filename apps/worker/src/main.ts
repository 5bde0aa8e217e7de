import { closeInTurn } from '@cdaas/control-plane/close-in-turn.ts';
import { openDatabase } from '@cdaas/control-plane/database/db.ts';
import { createVault, readKey } from '@cdaas/control-plane/encryption.ts';
import { createLogger } from '@cdaas/control-plane/logging.ts';
import { createOutbound } from '@cdaas/control-plane/outbound.ts';
import { openQueue } from '@cdaas/control-plane/queue.ts';
import { environmentWords } from '@cdaas/control-plane/settings.ts';
import { type Config, readConfig, usage } from './config.ts';
import { startWorker } from './worker.ts';

const stopSeconds = 15;

async function main(config: Config): Promise<void> {
  const log = createLogger(config.logLevel);
  const { databaseUrl, redisUrl, clusterCheckSeconds } = config;
  const key = await readKey(config.encryptionKeyFile);
  const db = await openDatabase({ url: databaseUrl, role: 'cdaas_worker' });
  const onError = (err: Error) => log.warn({ err }, 'the queue has trouble; due rows are found without it');
  const queue = await openQueue({ databaseUrl, role: 'cdaas_worker', onError, ...(redisUrl ? { redisUrl } : {}) });
  const outbound = createOutbound(config.outboundRules);
  const worker = await startWorker({ db, queue, vault: createVault(key, db), outbound, log, clusterCheckSeconds });

  let stopping = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      // A second signal does not wait for the first.
      if (stopping) process.exit(1);
      stopping = true;
      // What hangs is left to the worker that takes over: a crash loses nothing.
      setTimeout(() => process.exit(1), stopSeconds * 1000).unref();
      closeInTurn([worker, queue, db].map((part) => () => part.close())).catch((err: unknown) => {
        log.error({ err }, 'stopping failed');
        process.exitCode = 1;
      });
    });
  }
}

if (process.argv.includes('--help')) {
  process.stdout.write(usage);
} else {
  const config = readConfig();
  if ('problems' in config) {
    process.stderr.write(`${environmentWords(config.problems)}\n${usage}`);
    process.exitCode = 2;
  } else {
    await main(config).catch((error: unknown) => {
      process.stderr.write(`The worker cannot start: ${error instanceof Error ? error.message : String(error)}\n`);
      process.exit(1);
    });
  }
}
