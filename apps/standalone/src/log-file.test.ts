import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { createLogger } from '@cdaas/control-plane/logging.ts';
import { openLogFile } from './log-file.ts';

describe('the log file', () => {
  const folder = mkdtempSync(join(tmpdir(), 'cdaas-log-file-'));
  after(() => rmSync(folder, { recursive: true }));

  test('on a full disk drops lines, says so once, and goes on when there is room', () => {
    const path = join(folder, 'cdaas.log');
    const told: string[] = [];
    let isFull = false;
    const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
    const log = createLogger(
      'info',
      openLogFile(
        path,
        (words) => told.push(words),
        (file, text) => {
          if (isFull) throw full;
          return writeSync(file, text);
        },
      ),
    );
    log.info('before');
    isFull = true;
    for (const line of ['one', 'two', 'three']) log.info(line);
    assert.deepEqual(told, [`${path} takes no log lines (ENOSPC); they are dropped. Is the disk full?`]);
    isFull = false;
    log.info('after');
    assert.deepEqual(told.slice(1), [`${path} takes log lines again; 3 were dropped.`]);
    const lines = readFileSync(path, 'utf8').split('\n').filter(Boolean);
    assert.deepEqual(
      lines.map((line) => (JSON.parse(line) as { msg: string }).msg),
      ['before', 'after'],
    );
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });
});
