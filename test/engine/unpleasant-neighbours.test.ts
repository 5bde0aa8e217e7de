import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import { type Neighbours, openNeighbours } from '../support/neighbours.ts';
import { cases } from './unpleasant-cases.ts';

/* Of the table's cases those that cost a worker most: time-outs, large answers and storms. */
const costly = ['never answers', 'answers with pages of lists larger than 8 MiB'];

let neighbours: Neighbours;
before(async () => {
  neighbours = await openNeighbours('neighbours');
});
after(() => neighbours.close());

it('A canary on a cluster that is well does not notice one that is not', async () => {
  await neighbours.measure(undefined);
  const undisturbed = await neighbours.measure(undefined);
  for (const title of costly) {
    const { trouble } = cases.find((one) => one.title === title) ?? {};
    assert.ok(trouble, title);
    const { p50, max, heapMiB } = await neighbours.measure(trouble);
    // Generous: the machine that tests run on has other things to do.
    assert.ok(p50 <= undisturbed.p50 * 3 + 50, `${title}: p50 ${p50} ms, undisturbed ${undisturbed.p50} ms`);
    assert.ok(max <= 2_000, `${title}: a step took ${max} ms`);
    assert.ok(heapMiB <= 300, `${title}: ${heapMiB} MiB of heap`);
  }
});
