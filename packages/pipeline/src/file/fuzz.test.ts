import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isRecord } from '../is-record.ts';
import { check, shopFile, violationsOf, webManifests } from './file-fixtures.ts';
import { fileErrorCodes } from './violations.ts';

/** Whatever comes, the answer is plans or violations with known codes, and it comes soon. */
function assertAnswered(source: unknown): void {
  const started = process.cpuUsage();
  const result = check(source);
  const micros = process.cpuUsage(started).user;
  assert.ok(micros < 1_000_000, `took ${micros} µs`);
  if ('violations' in result) {
    assert.notEqual(result.violations.length, 0);
    for (const { code, message } of result.violations) assert.ok(fileErrorCodes.includes(code) && message !== '');
    const keys = result.violations.map((violation) => JSON.stringify(violation));
    assert.equal(new Set(keys).size, keys.length, 'a violation is told twice');
  } else assert.equal(result.plans.length, 1);
}

const words = fc.constantFrom(
  'qa',
  'slow',
  'web',
  'seconds',
  'none',
  'canary',
  'k8s/app.yaml',
  '',
  '__proto__',
  'constructor',
  '{{secrets.a}}',
  '{{x',
  'https://a/b',
  'toString',
);
const junk = fc.oneof(
  words,
  fc.integer(),
  fc.double(),
  fc.boolean(),
  fc.constant(null),
  fc.json().map((text) => JSON.parse(text) as unknown),
  fc.string({ unit: 'binary' }),
);

test('any JSON value is answered', () => {
  fc.assert(fc.property(fc.jsonValue(), assertAnswered), { numRuns: 300 });
});

test('any text taken as YAML is answered', () => {
  const line = fc.tuple(
    fc.integer({ min: 0, max: 6 }),
    fc.constantFrom(
      '- ',
      '? ',
      ': ',
      'a: ',
      '<<: ',
      '&a ',
      '*a ',
      '!!str ',
      '"',
      "'",
      '|\n',
      '---\n',
      '{',
      '[',
      '}',
      ']',
      ',',
      '#',
      '%YAML 1.1\n',
      '\t',
      'targets:',
      'manifests: ',
    ),
    fc.string({ maxLength: 5 }),
  );
  const text = fc
    .array(line, { maxLength: 40 })
    .map((lines) => lines.map(([indent, mark, rest]) => `${' '.repeat(indent)}${mark}${rest}`).join('\n'));
  fc.assert(fc.property(text, assertAnswered), { numRuns: 500 });
  fc.assert(
    fc.property(text, (inline) => assertAnswered(shopFile({ manifests: [{ inline }], files: null }))),
    { numRuns: 300 },
  );
});

const full = shopFile({
  description: 'weekly',
  context: { a: 'b' },
  deploymentConfig: {
    timeout: { duration: 5, unit: 'minutes' },
    keepDeploymentObject: false,
    ifDeploymentInProgress: { strategy: 'reject' },
  },
  targets: {
    b: {
      account: 'east',
      strategy: 'swap',
      constraints: { dependsOn: ['qa'], beforeDeployment: [{ pause: { duration: 1, unit: 'hours' } }] },
    },
  },
  strategies: {
    slow: {
      canary: {
        steps: [
          { setWeight: { weight: 5 } },
          { pause: { untilApproved: true, approvalExpiration: { duration: 1, unit: 'hours' } } },
        ],
      },
    },
    swap: {
      blueGreen: {
        redirectTrafficAfter: [
          { analysis: { queries: ['q'], interval: 1, units: 'hours', numberOfJudgmentRuns: 1 } },
          { exposeServices: { services: ['web'], ttl: { duration: 1, unit: 'hours' } } },
        ],
      },
    },
  },
  analysis: {
    defaultMetricProviderName: 'p',
    queries: [{ name: 'q', queryTemplate: '{{armory.namespace}}', upperLimit: 1 }],
  },
  webhooks: [
    { name: 'w', uriTemplate: 'https://h', headers: [{ key: 'a', value: 'b' }], bodyTemplate: { inline: '{}' } },
  ],
  trafficManagement: [
    { targets: ['qa'], smi: [{ rootServiceName: 'web' }] },
    { targets: ['b'], kubernetes: [{ activeService: 'web', previewService: 'next' }] },
  ],
  targetFilters: [{ includeTarget: 'qa' }],
  manifests: [{ path: 'k8s/app.yaml' }, { inline: '{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}' }],
});

test('the file that the fuzzing starts from is valid and uses every block', () => {
  assert.deepEqual(violationsOf(full), []);
});

/** Every place of a value: paths to mappings, lists and scalars. */
function pathsOf(value: unknown): (string | number)[][] {
  if (Array.isArray(value))
    return [[], ...value.flatMap((item, index) => pathsOf(item).map((path) => [index, ...path]))];
  if (isRecord(value))
    return [[], ...Object.entries(value).flatMap(([key, field]) => pathsOf(field).map((path) => [key, ...path]))];
  return [[]];
}

function replaced(value: unknown, [key, ...rest]: (string | number)[], by: unknown): unknown {
  if (key === undefined) return by;
  if (Array.isArray(value)) return value.map((item, index) => (index === key ? replaced(item, rest, by) : item));
  return isRecord(value) ? { ...value, [key]: replaced(value[key], rest, by) } : value;
}

test('any value in any place of a whole file is answered', () => {
  const places = pathsOf(full);
  const change = fc.tuple(fc.constantFrom(...places), junk);
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
      assertAnswered(changes.reduce((file, [path, value]) => replaced(file, path, value), full as unknown));
    }),
    { numRuns: 1500 },
  );
});

test('any line of a manifest may be missing, doubled or cut', () => {
  const lines = webManifests.split('\n');
  for (const index of lines.keys()) {
    for (const change of [
      [],
      [lines[index] ?? '', lines[index] ?? ''],
      [(lines[index] ?? '').slice(0, -2)],
      [`${lines[index]}: [`],
    ]) {
      assertAnswered(shopFile({ files: { 'k8s/app.yaml': [lines.toSpliced(index, 1, ...change).join('\n')] } }));
    }
  }
});
