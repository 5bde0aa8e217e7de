// How `npm test` prints node's test events: one line for each top-level test or suite as it ends, what failed in full at
// the end, and the counts of each file as one JSON document for scripts/test.mjs (file named by CDAAS_TEST_COUNTS).
import { writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import { inspect } from 'node:util';

const color = process.env.CDAAS_TEST_COLOR === '1';
const paint = (code, text) => (color ? `\u001b[${code}m${text}\u001b[0m` : text);

export default async function* report(events) {
  const files = new Map();
  const failures = [];
  for await (const { type, data } of events) {
    if (type === 'test:pass' || type === 'test:fail') {
      const failed = type === 'test:fail';
      count(files, data, failed);
      if (failed && isOwnFailure(data)) failures.push(data);
      if (data.nesting === 0) yield line(data, failed);
    } else if (type === 'test:stderr' || type === 'test:stdout') {
      yield data.message.replace(/^(?=.)/gm, paint('2', '  | '));
    }
  }
  for (const failure of failures) yield detail(failure);
  writeFileSync(process.env.CDAAS_TEST_COUNTS, JSON.stringify(Object.fromEntries(files)));
}

function count(files, data, failed) {
  const file = data.file ? relative(process.cwd(), data.file) : '(runner)';
  // Cases that run on several clusters say on which: counted apart, so that it shows that none was left out.
  const [, cluster] = /^(sandbox|real)(?::| cluster)/.exec(data.name) ?? [];
  const key = cluster ? `${file}#${cluster}` : file;
  const counts = files.get(key) ?? { passed: 0, failed: 0, skipped: 0, ms: 0 };
  files.set(key, counts);
  if (data.nesting === 0) counts.ms += data.details?.duration_ms ?? 0;
  const isSkipped = data.skip !== undefined && data.skip !== false;
  // A suite is no test; one that failed by itself, in a hook, still counts, and one that is skipped: its tests are not told.
  if (data.details?.type === 'suite' && !isSkipped && !(failed && isOwnFailure(data))) return;
  if (isSkipped) counts.skipped += 1;
  else if (failed) counts.failed += 1;
  else counts.passed += 1;
}

/** A suite or a parent that failed only because of what is in it is told by its children. */
function isOwnFailure(data) {
  return data.details?.error?.failureType !== 'subtestsFailed';
}

function line(data, failed) {
  const mark = failed ? paint('31', '✖') : data.skip ? paint('33', '-') : paint('32', '✔');
  const where = data.file ? paint('2', ` ${relative(process.cwd(), data.file)}`) : '';
  return `${mark} ${data.name} ${paint('2', `${Math.round(data.details?.duration_ms ?? 0)} ms`)}${where}\n`;
}

function detail(data) {
  const where = data.file ? `${relative(process.cwd(), data.file)}:${data.line}` : '';
  const error = data.details?.error?.cause ?? data.details?.error;
  return `\n${paint('31', `✖ ${data.name}`)}  ${where}\n${indent(inspect(error, { depth: 6, colors: color }))}\n`;
}

function indent(text) {
  return text.replace(/^(?=.)/gm, '    ');
}
