import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startTrouble } from './postgres.ts';

test('data of another PostgreSQL is named with both versions and a way on, any other trouble by the end of the log', () => {
  const told =
    'FATAL:  database files are incompatible with server\n' +
    'DETAIL:  The data directory was initialized by PostgreSQL version 17, which is not compatible with this version 18.4.';
  const words = startTrouble('/d/postgres', '/d/postgres.log', told);
  assert.match(words, /was made by PostgreSQL 17; this release of CDaaS brings PostgreSQL 18\.4,/);
  assert.match(words, /DATABASE_URL[\s\S]*move \/d\/postgres away/);
  assert.match(
    startTrouble('/d/postgres', '/d/postgres.log', 'FATAL: no'),
    /The end of \/d\/postgres\.log:\n\nFATAL: no/,
  );
});
