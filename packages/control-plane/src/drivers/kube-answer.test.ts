import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { resourcePath } from './kube.ts';
import { statusMessage, statusReason, toObject } from './kube-answer.ts';

describe('an answer as an object', () => {
  const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'a', labels: { x: 'y' } }, spec: { nodeName: 'n' } };

  test('keeps everything but managedFields', () => {
    const answer = { ...pod, metadata: { ...pod.metadata, managedFields: [{}], selfLink: '/x' } };
    assert.deepEqual(toObject(answer), { ...pod, metadata: { ...pod.metadata, selfLink: '/x' } });
  });

  for (const kind of ['Service', 'Deployment'])
    test(`of a ${kind} keeps who set which field of the specification, fit to be shown`, () => {
      const fieldsV1 = { 'f:metadata': { 'f:labels': {} }, 'f:spec': { 'f:selector': { 'f:app': {} } } };
      const entry = {
        manager: 'argo\u202ecd',
        operation: 'Apply',
        time: '2026-01-01T00:00:00Z',
        apiVersion: 'v1',
        fieldsV1,
      };
      const object = {
        apiVersion: 'v1',
        kind,
        metadata: { name: 'a', managedFields: [entry, 'x', { manager: 1 }] },
        spec: { selector: {}, template: { spec: { containers: [] } } },
      };
      assert.deepEqual(toObject(object)?.metadata.managedFields, [
        {
          manager: 'argo cd',
          operation: 'Apply',
          time: '2026-01-01T00:00:00Z',
          fieldsV1: { 'f:spec': { 'f:selector': {} } },
        },
      ]);
    });

  const malformed: [string, unknown][] = [
    ['null', null],
    ['a list', []],
    ['no kind', { ...pod, kind: undefined }],
    ['no metadata', { ...pod, metadata: 'x' }],
    ['no name', { ...pod, metadata: {} }],
    ['labels that are no map', { ...pod, metadata: { name: 'a', labels: ['x'] } }],
    ['labels that are numbers', { ...pod, metadata: { name: 'a', labels: { x: 1 } } }],
    ['a numeric resourceVersion', { ...pod, metadata: { name: 'a', resourceVersion: 1 } }],
    ['owners without a uid', { ...pod, metadata: { name: 'a', ownerReferences: [{ kind: 'X' }] } }],
  ];
  for (const [what, value] of malformed) {
    test(`${what} is no object`, () => assert.equal(toObject(value), undefined));
  }
});

describe('what a server said', () => {
  test('is shown without control and invisible characters', () => {
    assert.equal(statusMessage({ message: ' a\r\n\u001b[31mb\u202ec\u0000d\u200be\u2028 ' }), 'a [31mb c d e');
  });
  test('is cut at 500 characters', () => {
    const text = statusMessage({ message: 'x'.repeat(100_000) });
    assert.equal(text.length, 500);
    assert.ok(text.endsWith('…'));
  });
  test('falls back to the reason, and to nothing', () => {
    assert.equal(statusMessage({ reason: 'NotFound' }), 'NotFound');
    assert.equal(statusMessage({ message: 7 }), '');
    assert.equal(statusMessage('<html>'), '');
    assert.equal(statusReason({ reason: 'not a word' }), undefined);
  });
});

describe('paths', () => {
  test('follow group, namespace and name', () => {
    const cases: [Parameters<typeof resourcePath>[0], string][] = [
      [{ apiVersion: 'v1', plural: 'pods', namespace: 'a' }, '/api/v1/namespaces/a/pods'],
      [{ apiVersion: 'v1', plural: 'namespaces', name: 'a' }, '/api/v1/namespaces/a'],
      [
        { apiVersion: 'apps/v1', plural: 'replicasets', namespace: 'a', name: 'b' },
        '/apis/apps/v1/namespaces/a/replicasets/b',
      ],
    ];
    for (const [ref, path] of cases) assert.equal(resourcePath(ref), path);
  });
  test('names cannot reach another object', () => {
    const ref = { apiVersion: 'v1', plural: 'services', namespace: 'a' };
    assert.equal(resourcePath({ ...ref, name: '../x?y=#z' }), '/api/v1/namespaces/a/services/..%2Fx%3Fy%3D%23z');
    for (const name of ['', '.', '..']) assert.throws(() => resourcePath({ ...ref, name }), TypeError);
  });
});
