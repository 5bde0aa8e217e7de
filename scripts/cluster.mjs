#!/usr/bin/env node
// `npm run cluster`: makes sure that what it needs is installed, then runs test/kubernetes/cluster.ts on Node 24 and stands
// in for it: signals go through, its exit code is ours. Plain JavaScript for Node 20; see ensure.mjs.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { checkNode, ensureInstalled, node24, reportAndFail, root } from './ensure.mjs';

try {
  checkNode();
  await ensureInstalled();
  const main = join(root, 'test', 'kubernetes', 'cluster.ts');
  const child = spawn(node24, ['--disable-warning=ExperimentalWarning', main, ...process.argv.slice(2)], {
    stdio: 'inherit',
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('error', reportAndFail);
  child.on('exit', (code, signal) => {
    process.exitCode = signal === null ? (code ?? 1) : 1;
  });
} catch (error) {
  reportAndFail(error);
}
