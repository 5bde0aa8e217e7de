// Runs test files, each in a process of its own and two at a time, in the order in which they are given: `node --test` would
// sort them by name.
import { join } from 'node:path';
import { compose } from 'node:stream';
import { run } from 'node:test';
import report from './test-reporter.mjs';

// What `node --test` does at Ctrl-C: the running files end, and what was started for all of them is taken down.
const stopped = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => stopped.abort());

const tests = run({
  files: process.argv.slice(2),
  concurrency: 2,
  signal: stopped.signal,
  globalSetupPath: join('test', 'support', 'global-setup.ts'),
});
tests.on('test:fail', () => {
  process.exitCode = 1;
});
compose(tests, report).pipe(process.stdout);
