import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createAgain, nextName } from './again.ts';

test('the command to go on with keeps what was given, and changes what is to be another', () => {
  const args = ['--kubeconfig', 'my cluster/config', '--demo', '--account', 'east'];
  const again = createAgain({ CDAAS_DATA_DIR: '/d', PORT: '8080', DATABASE_URL: 'postgres://u:secret@h/d' }, args);
  assert.equal(
    again({ env: { PORT: '8081' } }),
    "CDAAS_DATA_DIR=/d PORT=8081 npm start -- --kubeconfig 'my cluster/config' --demo --account east",
  );
  assert.equal(
    again({ account: 'east-2' }),
    "CDAAS_DATA_DIR=/d PORT=8080 npm start -- --kubeconfig 'my cluster/config' --demo --account east-2",
  );
});

test('where nothing was given the command is a bare one', () => {
  assert.equal(createAgain({ PORT: '' }, [])({ env: { METRICS_PORT: '1' } }), 'METRICS_PORT=1 npm start');
});

test('names are counted on', () => {
  assert.deepEqual(['own', 'own-2', 'own-9'].map(nextName), ['own-2', 'own-3', 'own-10']);
});
