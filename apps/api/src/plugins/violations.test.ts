import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RegisterCluster } from '@cdaas/contract/clusters.ts';
import { z } from 'zod';
import { violationsOf } from './violations.ts';

function violations(schema: z.ZodType, value: unknown, part = 'body') {
  const parsed = schema.safeParse(value);
  assert.ok(parsed.error);
  return violationsOf(parsed.error.issues, part, value);
}

test('all that is wrong is told at once, each by its place and with its own code', () => {
  const schema = z.strictObject({
    name: z.string(),
    size: z.number().max(3),
    kind: z.enum(['a', 'b']),
    list: z.array(z.string()),
  });
  const found = violations(schema, { size: 4, kind: 'c', list: ['x', 5], odd: 1 });
  assert.deepEqual(
    found.map(({ code, path }) => [code, path]),
    [
      ['field.required', '/name'],
      ['field.range', '/size'],
      ['field.enum', '/kind'],
      ['field.type', '/list/1'],
      ['field.unknown', '/odd'],
    ],
  );
});

test('of alternatives the one that fits best is reported', () => {
  assert.deepEqual(
    violations(RegisterCluster, { name: 'x', kubeconfig: 5 }).map(({ path }) => path),
    ['/kubeconfig'],
  );
  assert.deepEqual(
    violations(RegisterCluster, { name: 'x', server: 'https://x', caData: 5, token: 't' }).map(({ path }) => path),
    ['/caData'],
  );
});

test('keys in pointers are escaped', () => {
  const schema = z.object({ 'a/b~c': z.string() });
  assert.equal(violations(schema, { 'a/b~c': 1 })[0].path, '/a~1b~0c');
});

test('a missing body and a bad query parameter are told as what they are', () => {
  assert.match(violations(z.object({}), undefined)[0].message, /body is required/);
  const [query] = violations(z.object({ limit: z.coerce.number() }), { limit: 'many' }, 'querystring');
  assert.equal(query.code, 'request.invalid');
  assert.match(query.message, /query parameter limit/);
});
