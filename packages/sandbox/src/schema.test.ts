import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { prune, type Schema, violations } from './schema.ts';

const weight = { 'x-kubernetes-int-or-string': true };
const backend: Schema = { type: 'object', required: ['service'], properties: { service: { type: 'string' }, weight } };
const schema: Schema = {
  type: 'object',
  properties: {
    spec: {
      type: 'object',
      required: ['service'],
      properties: {
        service: { type: 'string' },
        mode: { type: 'string', enum: ['a', 'b'], default: 'a' },
        percent: { type: 'integer', minimum: 0, maximum: 100 },
        backends: { type: 'array', items: backend },
      },
    },
  },
};

describe('A schema', () => {
  const cases: [why: string, spec: unknown, fields: string[]][] = [
    ['takes what fits', { service: 'web', percent: 5, backends: [{ service: 'web', weight: '500m' }] }, []],
    ['names what is missing', { backends: [{}] }, ['spec.service', 'spec.backends[0].service']],
    ['names a wrong type by its path', { service: 1, backends: {} }, ['spec.service', 'spec.backends']],
    ['holds numbers to their bounds', { service: 'web', percent: 101 }, ['spec.percent']],
    ['wants whole numbers for integers', { service: 'web', percent: 1.5 }, ['spec.percent']],
    ['holds values to their enum', { service: 'web', mode: 'c' }, ['spec.mode']],
    [
      'wants an integer or a string',
      { service: 'web', backends: [{ service: 'a', weight: 1.5 }] },
      ['spec.backends[0].weight'],
    ],
  ];
  for (const [why, spec, fields] of cases) {
    test(why, () => {
      const found = violations(schema, { spec }).map((cause) => cause.field);
      assert.deepEqual(found.sort(), fields.sort());
    });
  }

  test('prunes what it does not know and fills in defaults', () => {
    const value = { spec: { service: 'web', extra: 1, backends: [{ service: 'a', note: 'x' }] }, other: {} };
    assert.deepEqual(prune(schema, value), { spec: { service: 'web', mode: 'a', backends: [{ service: 'a' }] } });
  });

  test('keeps unknown fields where it is told to', () => {
    assert.deepEqual(prune({ 'x-kubernetes-preserve-unknown-fields': true }, { a: { b: 1 } }), { a: { b: 1 } });
  });
});
