#!/usr/bin/env node
// `npm start`: makes sure that what the project needs is there, then runs apps/standalone on Node 24 and stands in for it:
// signals go through, its exit code is ours. Plain JavaScript for Node 20; see ensure.mjs.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { checkNode, ensureInstalled, ensurePrismaClient, node24, reportAndFail, root } from './ensure.mjs';

try {
  checkNode();
  await ensureInstalled();
  await ensurePrismaClient();
  standIn();
} catch (error) {
  reportAndFail(error);
}

function standIn() {
  const main = join(root, 'apps', 'standalone', 'src', 'main.ts');
  const flags = ['--max-semi-space-size=8', '--heap-growing-percent=30', '--disable-warning=ExperimentalWarning'];
  // V8 collects again once the heap grew by 30 %; by itself it lets it grow to four times what is alive.
  // The ipc channel carries no messages: its end tells the child that this process is gone, also after a kill -9.
  const child = spawn(node24, [...flags, main, ...process.argv.slice(2)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  });
  // After Ctrl-C the terminal has already sent SIGINT to the child as well; it takes signals in quick succession as one.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('error', reportAndFail);
  child.on('exit', (code, signal) => {
    process.exitCode = signal === null ? (code ?? 1) : 1;
    if (signal !== null) console.error(`CDaaS was ended by ${signal}.`);
  });
}
