import assert from 'node:assert/strict';
import { test } from 'node:test';
import { z } from 'zod';
import { environmentWords, fields, readEnvironment } from './settings.ts';

const schema = z.object({
  DATABASE_URL: fields.postgresUrl,
  REDIS_URL: fields.redisUrl.optional(),
  OUTBOUND_ALLOW: fields.outboundAllow,
  PORT: fields.port.default(8080),
  DRAIN_SECONDS: fields.drainSeconds,
  LOG_LEVEL: fields.logLevel,
});
const DATABASE_URL = 'postgres://u:p@db/cdaas';

test('an empty variable counts as unset', () => {
  const read = readEnvironment(schema, { DATABASE_URL, REDIS_URL: '', OUTBOUND_ALLOW: '', PORT: '', LOG_LEVEL: '' });
  const env = { DATABASE_URL, OUTBOUND_ALLOW: [], PORT: 8080, DRAIN_SECONDS: 5, LOG_LEVEL: 'info' };
  assert.deepEqual(read, { env });
});

test('OUTBOUND_ALLOW is read as rules', () => {
  const read = readEnvironment(schema, { DATABASE_URL, OUTBOUND_ALLOW: 'cluster:10.0.0.0/8:6443' });
  assert.ok('env' in read);
  assert.deepEqual(read.env.OUTBOUND_ALLOW, [{ purpose: 'cluster', network: '10.0.0.0', prefix: 8, port: 6443 }]);
});

test('everything wrong is told at once, by the name of the variable and without its value', () => {
  const read = readEnvironment(schema, {
    DATABASE_URL: 'mysql://u:planted@db/x',
    REDIS_URL: 'http://:planted@db',
    OUTBOUND_ALLOW: 'nonsense, cluster:here:1',
    PORT: '70000',
    DRAIN_SECONDS: '0.5',
    LOG_LEVEL: 'loud',
  });
  assert.ok('problems' in read);
  assert.deepEqual(
    read.problems.map((problem) => problem.split(':')[0]),
    ['DATABASE_URL', 'REDIS_URL', 'OUTBOUND_ALLOW', 'OUTBOUND_ALLOW', 'PORT', 'DRAIN_SECONDS', 'LOG_LEVEL'],
  );
  assert.ok(!environmentWords(read.problems).includes('planted'));
  assert.ok(read.problems.includes('PORT: must be a port, 0 to 65535'));
});
