import assert from 'node:assert/strict';
import { test } from 'node:test';
import { localUrl } from './addresses.ts';
import { readConfig, readOptions } from './config.ts';
import { Remedy } from './remedy.ts';

test('an empty environment gives the defaults of the documentation', () => {
  const { host, port, dataDir, databaseUrl, drainSeconds } = readConfig([], {});
  assert.deepEqual(
    { host, port, databaseUrl, drainSeconds },
    { host: '127.0.0.1', port: 8080, databaseUrl: undefined, drainSeconds: 5 },
  );
  assert.match(dataDir, /[/\\]\.cdaas$/);
});

test('an option that npm kept for itself is not lost without a word', () => {
  const refusal = (environment: NodeJS.ProcessEnv, args: string[] = []) => {
    try {
      readOptions(args, environment);
    } catch (error) {
      return error instanceof Remedy ? error.message.split('\n')[0] : error;
    }
    return null;
  };
  assert.equal(
    refusal({ npm_config_demo: '' }),
    'npm kept --no-demo for itself: options stand after two dashes, npm start -- --…',
  );
  assert.match(String(refusal({ npm_config_kubeconfig: 'true' }, ['file'])), /^npm kept --kubeconfig for itself/);
  assert.equal(refusal({ npm_config_registry: 'x' }, ['--no-demo']), null);
});

test('an empty variable counts as unset', () => {
  assert.equal(readConfig([], { PORT: '', DATABASE_URL: '', PUBLIC_URL: '' }).port, 8080);
});

test('a public URL loses the slash at its end', () => {
  assert.equal(readConfig([], { PUBLIC_URL: 'https://cdaas.example.org/' }).publicUrl, 'https://cdaas.example.org');
});

test('everything wrong in the environment is told at once', () => {
  assert.throws(
    () =>
      readConfig([], {
        PORT: 'http',
        DRAIN_SECONDS: '-1',
        DATABASE_URL: 'mysql://db/x',
        OUTBOUND_ALLOW: 'cluster:here',
      }),
    (error) =>
      error instanceof Remedy &&
      ['PORT', 'DRAIN_SECONDS', 'DATABASE_URL', 'cluster:here'].every((word) => error.message.includes(word)),
  );
});

test('options are read, and an unknown one is refused with the usage', () => {
  assert.deepEqual(readOptions([]), { help: false, demo: true, own: null });
  assert.deepEqual(readOptions(['--no-demo']), { help: false, demo: false, own: null });
  assert.deepEqual(readOptions(['-h']), { help: true, demo: true, own: null });
  assert.throws(() => readOptions(['--nodemo']), /--nodemo[\s\S]*Usage: npm start/);
});

test("a cluster of one's own has an account name, and a demo only where it is asked for", () => {
  const own = { kubeconfig: '/k/config', context: undefined, account: 'own' };
  assert.deepEqual(readOptions(['--kubeconfig', '/k/config']), { help: false, demo: false, own });
  assert.deepEqual(readOptions(['--kubeconfig=/k/config', '--context', 'a@b', '--account', 'east', '--demo']), {
    help: false,
    demo: true,
    own: { kubeconfig: '/k/config', context: 'a@b', account: 'east' },
  });
  assert.throws(() => readOptions(['--context', 'a@b']), /--context goes with --kubeconfig only/);
  assert.throws(() => readOptions(['--kubeconfig', 'f', '--account', 'East']), /--account: up to 63 of a-z/);
  assert.throws(() => readOptions(['--kubeconfig', 'f', '--demo', '--no-demo']), /exclude each other/);
});

test('the local URL of an address is one that this machine can call', () => {
  assert.equal(localUrl('127.0.0.1', 8080), 'http://127.0.0.1:8080');
  assert.equal(localUrl('0.0.0.0', 80), 'http://127.0.0.1:80');
  assert.equal(localUrl('::1', 8080), 'http://[::1]:8080');
});
