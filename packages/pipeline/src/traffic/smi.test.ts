import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { entryAt } from '../entry-at.ts';
import type { KubernetesObject } from '../kubernetes.ts';
import { samplePlan } from '../testing/samples.ts';
import { chooseSplitApiVersion, meshWeights, quantity, splitSpec, splitWeights, wantsStringWeights } from './smi.ts';

const route = entryAt(samplePlan().routes, 0);

function split(spec: unknown): KubernetesObject {
  return { apiVersion: 'split.smi-spec.io/v1alpha2', kind: 'TrafficSplit', metadata: { name: 'web' }, spec };
}

function profile(overrides: unknown): KubernetesObject {
  const spec = { dstOverrides: overrides };
  return { apiVersion: 'linkerd.io/v1alpha2', kind: 'ServiceProfile', metadata: { name: 'web' }, spec };
}

describe('the API version of TrafficSplits', () => {
  const rows: [string[], string | undefined][] = [
    [['v1alpha1', 'v1alpha2'], 'split.smi-spec.io/v1alpha2'],
    [['v1alpha4', 'v1alpha1'], 'split.smi-spec.io/v1alpha1'],
    [['v1alpha3', 'v1alpha4'], 'split.smi-spec.io/v1alpha4'],
    [['v1alpha3'], 'split.smi-spec.io/v1alpha3'],
    [['v1beta1'], undefined],
    [[], undefined],
  ];
  for (const [served, version] of rows) {
    test(`out of [${served.join(', ')}] it is ${version}`, () => {
      assert.equal(chooseSplitApiVersion(served), version);
    });
  }
});

describe('the weights of a TrafficSplit', () => {
  test('both backends are written, zero included', () => {
    assert.deepEqual(splitSpec(route, { stable: 100, canary: 0 }), {
      service: 'web',
      backends: [
        { service: 'web', weight: 100 },
        { service: 'web-canary', weight: 0 },
      ],
    });
  });

  test('they are strings where the schema of the cluster wants strings, and only there', () => {
    const schema = (weight: unknown) => ({
      properties: { spec: { properties: { backends: { items: { properties: { weight } } } } } },
    });
    assert.equal(wantsStringWeights(schema({ type: 'string' })), true);
    for (const weight of [{ type: 'number' }, { 'x-kubernetes-int-or-string': true }, undefined]) {
      assert.equal(wantsStringWeights(schema(weight)), false);
    }
    assert.equal(wantsStringWeights(undefined), false);
    const [root, canary] = splitSpec(route, { stable: 90, canary: 10 }, true).backends;
    assert.deepEqual([root?.weight, canary?.weight], ['90', '10']);
  });

  const backends = (stable: unknown, canary: unknown) => [
    { service: 'web', weight: stable },
    { service: 'web-canary', weight: canary },
  ];
  const rows: [string, unknown, ReturnType<typeof splitWeights>][] = [
    ['as written', { service: 'web', backends: backends(90, 10) }, { stable: 90, canary: 10 }],
    ['as strings', { service: 'web', backends: backends('90', '10') }, { stable: 90, canary: 10 }],
    ['as milli-quantities', { service: 'web', backends: backends('90000m', '10') }, { stable: 90, canary: 10 }],
    ['in the other order', { service: 'web', backends: backends(90, 10).reverse() }, { stable: 90, canary: 10 }],
    ['of another root', { service: 'api', backends: backends(90, 10) }, null],
    ['with a backend missing', { service: 'web', backends: backends(90, 10).slice(1) }, null],
    ['with one too many', { service: 'web', backends: [...backends(90, 10), { service: 'x', weight: 0 }] }, null],
    ['with a weight missing', { service: 'web', backends: backends(90, undefined) }, null],
    ['without spec', undefined, null],
  ];
  for (const [name, spec, weights] of rows) {
    test(`${name}: ${JSON.stringify(weights)}`, () => {
      assert.deepEqual(splitWeights(split(spec), route), weights);
    });
  }
});

describe('the weights that the mesh has taken', () => {
  const authority = (service: string) => `${service}.shop-qa.svc.cluster.local`;
  const rows: [string, unknown, ReturnType<typeof meshWeights>][] = [
    [
      'as Linkerd’s adaptor writes them',
      [
        { authority: authority('web'), weight: '80' },
        { authority: authority('web-canary'), weight: '20' },
      ],
      { stable: 80, canary: 20 },
    ],
    [
      'with ports',
      [
        { authority: `${authority('web')}:80`, weight: 80 },
        { authority: `${authority('web-canary')}:80`, weight: 20 },
      ],
      { stable: 80, canary: 20 },
    ],
    [
      'to another Service',
      [
        { authority: authority('web'), weight: '80' },
        { authority: authority('other'), weight: '20' },
      ],
      null,
    ],
    ['to one Service only', [{ authority: authority('web'), weight: '100' }], null],
    ['none', [], null],
    ['absent', undefined, null],
  ];
  for (const [name, overrides, weights] of rows) {
    test(`${name}: ${JSON.stringify(weights)}`, () => {
      assert.deepEqual(meshWeights(profile(overrides), 'web', 'web-canary'), weights);
    });
  }

  test('a Service without a profile has none', () => {
    assert.equal(meshWeights(undefined, 'web', 'web-canary'), null);
  });
});

describe('quantities', () => {
  const rows: [unknown, number | null][] = [
    [90, 90],
    ['90', 90],
    ['90000m', 90],
    ['500m', 0.5],
    ['0', 0],
    ['1.5', 1.5],
    [Number.NaN, null],
    ['90%', null],
    ['', null],
    ['-1', null],
    [null, null],
    [undefined, null],
  ];
  for (const [value, number] of rows) {
    test(`${JSON.stringify(value)} is ${number}`, () => {
      assert.equal(quantity(value), number);
    });
  }
});
