import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDeploymentFile } from './parse.ts';
import { locate } from './source.ts';

function problemsOf(source: string | { json: unknown }): string[] {
  const parsed = parseDeploymentFile(typeof source === 'string' ? { yaml: source } : source);
  return 'violations' in parsed
    ? parsed.violations.map(({ message, line, column }) => `${line}:${column} ${message}`)
    : [];
}

function read(yaml: string): unknown {
  const parsed = parseDeploymentFile({ yaml });
  assert.ok('file' in parsed, problemsOf(yaml).join('\n'));
  return parsed.file.value;
}

const unreadable: [what: string, yaml: string, at: string, words: RegExp][] = [
  ['an empty text', '# nothing', 'undefined:undefined', /it is empty/],
  ['a list', '- a', 'undefined:undefined', /it is a list/],
  ['a single value', 'shop', 'undefined:undefined', /it is a single value/],
  ['a second document', 'a: 1\n---\nb: 2', '3:1', /more than one document/],
  ['a duplicate key', 'a: 1\nb:\n  c: 1\n  c: 2', '4:3', /appears twice/],
  ['a duplicate merge key', 'a: {<<: {b: 1}, <<: {c: 1}}', '1:17', /appears twice/],
  ['an open quote', 'a: "b', '1:6', /missing/],
  ['an open bracket', 'a: [b', '1:6', /indentation|missing|expect/],
  ['a tab as indentation', 'a:\n\tb: 1', '2:1', /tab/],
  ['an unknown alias', 'a: *b', '1:4', /not defined above/],
  ['an alias inside its own anchor', 'a: &x [*x]', '1:8', /lies inside/],
  ['an unknown tag', 'a: !secret b', '1:4', /tag/],
  ['a mapping as key', '{[a]: b}', '1:2', /a key must be/],
  ['an empty key', ': b', '1:1', /a key must be/],
  ['the key __proto__', '__proto__: {a: 1}', '1:1', /__proto__/],
  ['a NUL character', 'a: "\\0"', '1:4', /cannot be stored/],
  ['half of a surrogate pair', 'a: "\\ud800"', '1:4', /cannot be stored/],
  ['an infinite number', 'a: .inf', '1:4', /finite/],
  ['a whole number that would be rounded', 'a: 9007199254740993', '1:4', /carried exactly/],
  ['a merge key without a mapping', '<<: 7', '1:1', /needs a mapping/],
];

for (const [what, yaml, at, words] of unreadable) {
  test(`${what} makes a text unreadable, and where is said`, () => {
    const [first = ''] = problemsOf(yaml);
    assert.ok(first.startsWith(`${at} `), first);
    assert.match(first, words);
  });
}

test('all syntax errors of a text are told at once', () => {
  assert.equal(problemsOf('a: *x\nb: *y\nb: 1').length, 3);
});

test('anchors and merge keys are resolved, what is written out winning over what is merged', () => {
  const yaml =
    'base: &base {a: 1, b: 2}\nfirst: &first {b: 3, c: 4}\none: {b: 9, <<: *base}\ntwo: {<<: [*first, *base], c: 0}\nquoted: {"<<": 1}';
  const value = read(yaml) as Record<string, unknown>;
  assert.deepEqual(value.one, { b: 9, a: 1 });
  assert.deepEqual(value.two, { b: 3, c: 0, a: 1 });
  assert.deepEqual(value.quoted, { '<<': 1 });
});

test('an alias means the anchor above it, though a later one has the same name', () => {
  assert.deepEqual(read('a: &x {v: &y 1}\nb: &y 2\nc: *x\nd: *y\ne: &x 5\nf: *x'), {
    a: { v: 1 },
    b: 2,
    c: { v: 1 },
    d: 2,
    e: 5,
    f: 5,
  });
});

test('keys are texts as written, and words stay words as in YAML 1.2', () => {
  assert.deepEqual(read('8080: a\non: yes\nmode: 0644\n? "x y"\n: z'), {
    '8080': 'a',
    on: 'yes',
    mode: 644,
    'x y': 'z',
  });
});

test('a directive for YAML 1.1 does not change how the file is read', () => {
  assert.deepEqual(read('%YAML 1.1\n---\na: yes'), { a: 'yes' });
});

const bombs: [what: string, source: string | { json: unknown }][] = [
  [
    'a text of aliases of aliases',
    `a: &a [x,x,x,x,x,x,x,x,x]\n${[...'bcdefghijk'].map((name, index) => `${name}: &${name} [${Array(9).fill(`*${'abcdefghijk'[index]}`)}]`).join('\n')}`,
  ],
  ['a long text repeated by aliases', `a: &a "${'x'.repeat(100_000)}"\nb: [${Array(1000).fill('*a')}]`],
  ['deep lists in YAML', `a: ${'['.repeat(100_000)}`],
  ['deep mappings in YAML', Array.from({ length: 500 }, (_, depth) => `${' '.repeat(depth)}a:`).join('\n')],
  ['deep JSON', { json: JSON.parse(`{"a":${'['.repeat(10_000)}${']'.repeat(10_000)}}`) }],
  ['too many values', { json: { a: Array(200_001).fill(1) } }],
  ['a very long key', { json: { ['k'.repeat(1025)]: 1 } }],
  ['too many marks', `a: [${','.repeat(450_000)}`],
];

for (const [what, source] of bombs) {
  test(`${what}: refused in words, without using up the process`, () => {
    const started = process.cpuUsage();
    const [first = ''] = problemsOf(source);
    assert.match(first, /too large|levels|longer than/);
    assert.ok(process.cpuUsage(started).user < 5_000_000);
  });
}

test('what is not JSON, and texts that cannot be stored, are refused in a JSON value too', () => {
  assert.match(problemsOf({ json: { a: 'b\0' } })[0] ?? '', /cannot be stored/);
  assert.match(problemsOf({ json: { a: () => 1 } })[0] ?? '', /not JSON/);
  assert.match(problemsOf({ json: JSON.parse('{"a":{"__proto__":{}}}') })[0] ?? '', /__proto__/);
  assert.match(problemsOf({ json: null })[0] ?? '', /empty/);
});

test('a path leads to its value, or to the nearest key above where it is missing', () => {
  const parsed = parseDeploymentFile({ yaml: 'targets:\n  qa:\n    account: east\nlist:\n  - a: 1\n' });
  assert.ok('file' in parsed);
  const at = (...path: (string | number)[]) => locate(parsed.file, path, false).position;
  assert.deepEqual(at('targets', 'qa', 'account'), { line: 3, column: 14 });
  assert.deepEqual(at('targets', 'qa'), { line: 2, column: 3 });
  assert.deepEqual(at('targets', 'qa', 'strategy'), { line: 2, column: 3 });
  assert.deepEqual(at('list', 0), { line: 5, column: 5 });
  assert.deepEqual(at('list', 0, 'a'), { line: 5, column: 8 });
  assert.deepEqual(locate(parsed.file, ['targets', 'qa', 'account'], true).position, { line: 3, column: 5 });
});
