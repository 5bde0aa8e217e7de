import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readConfig } from './config.ts';

const enough = {
  DATABASE_URL: 'postgres://u:p@db/cdaas',
  PUBLIC_URL: 'https://cdaas.example.org/',
  ENCRYPTION_KEY_FILE: '/etc/cdaas/key',
};

test('with what is required, everything else has a default', () => {
  const config = readConfig(enough);
  assert.ok(!('problems' in config));
  assert.equal(config.settings.publicUrl, 'https://cdaas.example.org');
  assert.deepEqual(config.settings.allowedHosts, ['cdaas.example.org']);
  assert.equal(config.metricsHost, '127.0.0.1');
  assert.equal(config.redisUrl, undefined);
});

test('every problem is told at once, by the name of the variable', () => {
  const config = readConfig({ PORT: 'x', LOG_LEVEL: 'loud', OUTBOUND_ALLOW: 'nonsense', ENCRYPTION_KEY_FILE: '' });
  assert.ok('problems' in config);
  for (const name of ['DATABASE_URL', 'PUBLIC_URL', 'ENCRYPTION_KEY_FILE', 'PORT', 'LOG_LEVEL', 'OUTBOUND_ALLOW']) {
    assert.ok(
      config.problems.some((problem) => problem.startsWith(name)),
      name,
    );
  }
});

test('further hosts are allowed beside that of the public URL, in lower case', () => {
  const config = readConfig({ ...enough, ALLOWED_HOSTS: 'CDAAS.internal:8080, 10.0.0.5' });
  assert.ok(!('problems' in config));
  assert.deepEqual(config.settings.allowedHosts, ['cdaas.example.org', 'cdaas.internal:8080', '10.0.0.5']);
});

test('no problem repeats the value of a variable that holds a password', () => {
  const config = readConfig({ ...enough, DATABASE_URL: 'mysql://u:planted@db/x' });
  assert.ok('problems' in config);
  assert.ok(!config.problems.join().includes('planted'));
});
