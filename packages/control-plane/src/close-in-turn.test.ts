import assert from 'node:assert/strict';
import { test } from 'node:test';
import { closeInTurn } from './close-in-turn.ts';

test('a part that fails to close does not keep the rest open, and its failure is told at the end', async () => {
  const closed: string[] = [];
  const part = (name: string, error?: Error) => async () => {
    closed.push(name);
    if (error) throw error;
  };
  const first = new Error('sweep');
  await assert.rejects(closeInTurn([part('sweep', first), part('lock')]), first);
  assert.deepEqual(closed, ['sweep', 'lock']);
  const both = closeInTurn([part('sweep', first), part('engine', new Error('engine'))]);
  await assert.rejects(both, (error) => error instanceof AggregateError && error.errors.length === 2);
});
