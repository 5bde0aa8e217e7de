import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ApiError } from './errors.ts';
import { jsonPatch, mergePatch, strategicMerge } from './patch.ts';

describe('A merge patch', () => {
  // RFC 7386, appendix A.
  const cases: [target: unknown, patch: unknown, result: unknown][] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ];
  for (const [target, patch, result] of cases) {
    test(`${JSON.stringify(patch)} on ${JSON.stringify(target)} gives ${JSON.stringify(result)}`, () => {
      assert.deepEqual(mergePatch(target, patch), result);
    });
  }
});

describe('A JSON patch', () => {
  const document = { metadata: { labels: { 'a/b': '1' } }, list: [1, 2, 3] };

  test('adds, removes, replaces, moves and copies', () => {
    const result = jsonPatch(document, [
      { op: 'test', path: '/list/0', value: 1 },
      { op: 'replace', path: '/metadata/labels/a~1b', value: '2' },
      { op: 'add', path: '/list/1', value: 9 },
      { op: 'add', path: '/list/-', value: 4 },
      { op: 'remove', path: '/list/0' },
      { op: 'copy', from: '/list/0', path: '/first' },
      { op: 'move', from: '/list', path: '/numbers' },
    ]);
    assert.deepEqual(result, { metadata: { labels: { 'a/b': '2' } }, numbers: [9, 2, 3, 4], first: 9 });
    assert.deepEqual(document.list, [1, 2, 3]);
  });

  test('whose test fails or whose path is not there is refused with 422', () => {
    for (const operation of [
      { op: 'test', path: '/list/0', value: 2 },
      { op: 'remove', path: '/nothing' },
      { op: 'replace', path: '/list/7', value: 1 },
    ]) {
      assert.throws(
        () => jsonPatch(document, [operation]),
        (error: unknown) => error instanceof ApiError && error.status.code === 422,
      );
    }
  });
});

describe('A strategic merge patch', () => {
  const deployment = {
    spec: {
      template: {
        spec: {
          containers: [
            { name: 'web', image: 'web:v1' },
            { name: 'proxy', image: 'proxy:v1' },
          ],
        },
      },
    },
  };
  const patched = (containers: unknown[]) =>
    strategicMerge('Deployment', deployment, { spec: { template: { spec: { containers } } } });

  test('merges containers by name and appends new ones', () => {
    assert.deepEqual(
      patched([
        { name: 'web', image: 'web:v2' },
        { name: 'log', image: 'log:v1' },
      ]),
      {
        spec: {
          template: {
            spec: {
              containers: [
                { name: 'web', image: 'web:v2' },
                { name: 'proxy', image: 'proxy:v1' },
                { name: 'log', image: 'log:v1' },
              ],
            },
          },
        },
      },
    );
  });

  test('deletes an item of a keyed list and replaces a map on request', () => {
    assert.deepEqual(patched([{ name: 'proxy', $patch: 'delete' }]), {
      spec: { template: { spec: { containers: [{ name: 'web', image: 'web:v1' }] } } },
    });
    const service = { spec: { selector: { app: 'web', ring: 'blue' } } };
    const replace = { spec: { selector: { $patch: 'replace', app: 'api' } } };
    assert.deepEqual(strategicMerge('Service', service, replace), { spec: { selector: { app: 'api' } } });
  });
});
