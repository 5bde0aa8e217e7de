import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ApiError } from './errors.ts';
import type { KubeObject } from './objects.ts';
import { matchesSelector, parseFieldSelector, parseLabelSelector } from './selectors.ts';

const labels = { app: 'web', tier: 'front', 'example.com/ring': '' };

describe('A label selector', () => {
  const cases: [selector: string, matches: boolean][] = [
    ['', true],
    ['app=web', true],
    ['app==web', true],
    ['app = web , tier=front', true],
    ['app=web,tier=back', false],
    ['app!=api', true],
    ['app!=web', false],
    ['ring!=blue', true],
    ['app in (api, web)', true],
    ['app in (api)', false],
    ['tier notin (back,middle)', true],
    ['tier notin (front)', false],
    ['ring notin (blue)', true],
    ['app', true],
    ['ring', false],
    ['!ring', true],
    ['!app', false],
    ['example.com/ring=', true],
    ['app in (api,web),!ring,tier', true],
  ];
  for (const [selector, matches] of cases) {
    test(`"${selector}" ${matches ? 'takes' : 'leaves'} the labels`, () => {
      assert.equal(parseLabelSelector(selector)(labels), matches);
    });
  }

  test('matches no label at all where labels are missing', () => {
    assert.equal(parseLabelSelector('app=web')(undefined), false);
    assert.equal(parseLabelSelector('!app')(undefined), true);
  });

  test('that cannot be read is refused with 400', () => {
    assert.throws(() => parseLabelSelector('app in web'), isBadRequest);
  });
});

describe('A selector object', () => {
  test('needs every matchLabels pair and every expression', () => {
    const selector = {
      matchLabels: { app: 'web' },
      matchExpressions: [
        { key: 'tier', operator: 'In', values: ['front'] },
        { key: 'ring', operator: 'DoesNotExist' },
      ],
    };
    assert.equal(matchesSelector(selector, labels), true);
    assert.equal(matchesSelector(selector, { ...labels, ring: 'blue' }), false);
    assert.equal(matchesSelector(selector, { app: 'web' }), false);
  });
});

describe('A field selector', () => {
  const pod = { metadata: { name: 'a', namespace: 'shop' }, spec: { nodeName: 'sandbox' } } as unknown as KubeObject;

  test('compares names, and fields that the resource indexes', () => {
    assert.equal(parseFieldSelector('pods', 'metadata.name=a,metadata.namespace!=other')(pod), true);
    assert.equal(parseFieldSelector('pods', 'spec.nodeName=sandbox')(pod), true);
    assert.equal(parseFieldSelector('pods', 'status.phase=Running')(pod), false);
  });

  test('on a field that is not indexed is refused with 400', () => {
    assert.throws(() => parseFieldSelector('services', 'spec.type=ClusterIP'), isBadRequest);
  });
});

function isBadRequest(error: unknown): boolean {
  return error instanceof ApiError && error.status.code === 400;
}
