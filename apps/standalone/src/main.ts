import { readConfig, readOptions, usage } from './config.ts';
import { Remedy } from './remedy.ts';
import { runStandalone } from './run.ts';
import { createScreen } from './screen.ts';

/** Signals of one Ctrl-C reach this process several times: from the terminal, from npm and from scripts/start.mjs. */
const sameSignalMs = 500;

const shutDown = new AbortController();
let firstSignalAt: number | undefined;

function onSignal(): void {
  const now = performance.now();
  if (firstSignalAt === undefined) {
    firstSignalAt = now;
    shutDown.abort();
    return;
  }
  if (now - firstSignalAt < sameSignalMs) return;
  process.stderr.write('Quitting at once; the database recovers at the next start.\n');
  process.exit(130);
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
// scripts/start.mjs holds the other end of this channel: it closes when that process is gone, however it went.
process.on('disconnect', () => {
  firstSignalAt ??= performance.now();
  shutDown.abort();
});
process.channel?.unref();
// A terminal that is gone, or `| head`, must not keep the parts from being stopped in order.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);

try {
  const args = process.argv.slice(2);
  const options = readOptions(args);
  if (options.help) process.stdout.write(usage);
  else {
    const config = readConfig(args);
    const screen = createScreen((text) => process.stdout.write(text), config.color);
    await runStandalone(config, options, screen, shutDown.signal);
  }
} catch (error) {
  process.stderr.write(
    `\n${error instanceof Remedy ? error.message : String(error instanceof Error ? error.stack : error)}\n\n`,
  );
  process.exitCode = 1;
}
// Nothing is waited for any more; what is still open (a kept-alive connection) must not hold the process.
process.exit();
