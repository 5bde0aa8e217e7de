import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseDeploymentFile } from './parse.ts';
import { locate } from './source.ts';

function problemsOf(source: string | { json: string }): string[] {
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

test('a file whose line breaks are gone gets a few errors, and the first says why', () => {
  const file =
    '# the shop\nversion: v1\napplication: shop\ntargets:\n  qa: {account: east}\nmanifests:\n  - inline: |\n      a: 1\n';
  for (const text of [file, file.slice(file.indexOf('version'))]) {
    const parsed = parseDeploymentFile({ yaml: text.replaceAll('\n', '') });
    assert.ok('violations' in parsed);
    assert.ok(parsed.violations.length <= 3);
    assert.match(parsed.violations[0]?.hint ?? '', /curl -d removes line breaks; use --data-binary/);
  }
  const broken = parseDeploymentFile({ yaml: '{"application": "shop"' });
  assert.ok('violations' in broken && broken.violations.every(({ hint }) => hint === undefined));
});

test('YAML that was sent as JSON gets told how to send it', () => {
  const hints = (json: string) => {
    const parsed = parseDeploymentFile({ json });
    return 'violations' in parsed ? parsed.violations.map(({ hint }) => hint) : [];
  };
  assert.deepEqual(hints('# the shop\napplication: shop\n'), [
    'it was sent as JSON; for a YAML file send Content-Type: application/yaml',
  ]);
  assert.deepEqual(hints('{"application": shop}'), [undefined]);
});

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

const bombs: [what: string, source: string | { json: string }][] = [
  [
    'a text of aliases of aliases',
    `a: &a [x,x,x,x,x,x,x,x,x]\n${[...'bcdefghijk'].map((name, index) => `${name}: &${name} [${Array(9).fill(`*${'abcdefghijk'[index]}`)}]`).join('\n')}`,
  ],
  ['a long text repeated by aliases', `a: &a "${'x'.repeat(100_000)}"\nb: [${Array(1000).fill('*a')}]`],
  ['deep lists in YAML', `a: ${'['.repeat(100_000)}`],
  ['deep mappings in YAML', Array.from({ length: 500 }, (_, depth) => `${' '.repeat(depth)}a:`).join('\n')],
  ['deep JSON', { json: `{"a":${'['.repeat(500_000)}` }],
  ['too many values', { json: JSON.stringify({ a: Array(200_001).fill(1) }) }],
  ['a very long key', { json: JSON.stringify({ ['k'.repeat(1025)]: 1 }) }],
  ['many documents', '---\n'.repeat(190_000)],
  ['many ends of documents', 'a\n...\n'.repeat(100_000)],
  ['many aliases', `a: &a 1\nb:\n${'- *a\n'.repeat(60_000)}`],
  ['too many marks', `a: [${','.repeat(450_000)}`],
];

for (const [what, source] of bombs) {
  test(`${what}: refused in words, without using up the process`, () => {
    const started = process.cpuUsage();
    const [first = ''] = problemsOf(source);
    assert.match(first, /too large|levels|longer than/);
    assert.ok(process.cpuUsage(started).user < 1_000_000);
  });
}

const unreadableJson: [what: string, json: string, at: string, words: RegExp][] = [
  ['an empty text', ' ', '1:2', /ends too early/],
  ['an open mapping', '{"a": 1', '1:8', /comma or \}/],
  ['an open list', '{"a": [1', '1:9', /comma or \]/],
  ['an open text', '{"a": "b', '1:7', /not closed/],
  ['a missing comma', '{"a": 1\n "b": 2}', '2:2', /comma/],
  ['a comma too many', '{"a": 1,}', '1:9', /a key in double quotes/],
  ['a comma too many in a list', '[1,]', '1:4', /expects a value/],
  ['a missing colon', '{"a" 1}', '1:6', /colon/],
  ['a key without quotes', '{a: 1}', '1:2', /a key in double quotes/],
  ['single quotes', '{"a": \'b\'}', '1:7', /expects a value/],
  ['a word that is no value', '{"a": yes}', '1:7', /expects a value/],
  ['a word that begins as one', '{"a": nullable}', '1:7', /expects a value/],
  ['a number with zeros before it', '{"a": 007}', '1:7', /expects a value/],
  ['a number that ends in a dot', '{"a": 1.}', '1:7', /expects a value/],
  ['a line break in a text', '{"a": "b\nc"}', '1:9', /line break/],
  ['an unknown escape', '{"a": "\\x"}', '1:7', /escape/],
  ['an escape at the end', '{"a": "\\', '1:7', /not closed/],
  ['a second document', '{}\n{}', '2:1', /after the end/],
  ['a key that appears twice', '{"a": 1,\n "b": {"c": 1, "c": 2}}', '2:16', /the key 'c' appears twice/],
  ['a key that appears twice, once escaped', '{"a": 1, "\\u0061": 2}', '1:10', /the key 'a' appears twice/],
  ['the key __proto__', '{"a": {"__proto__": {}}}', '1:8', /__proto__/],
  ['a NUL character', '{"a": "b\\u0000"}', '1:7', /cannot be stored/],
  ['half of a surrogate pair', '{"a": "\\ud800"}', '1:7', /cannot be stored/],
  ['an infinite number', '{"a": 1e999}', '1:7', /finite/],
  ['a whole number that would be rounded', '{"a": 9007199254740993}', '1:7', /carried exactly/],
  ['nothing', 'null', 'undefined:undefined', /it is empty/],
];

for (const [what, json, at, words] of unreadableJson) {
  test(`${what} makes JSON unreadable, and where is said`, () => {
    const [first = ''] = problemsOf({ json });
    assert.ok(first.startsWith(`${at} `), first);
    assert.match(first, words);
  });
}

test('all keys that appear twice are told at once, each by its path', () => {
  const parsed = parseDeploymentFile({ json: '{"a": {"b": 1, "b": 2}, "c": [{"d": 1, "d": 2}], "a": 3}' });
  assert.ok('violations' in parsed);
  assert.deepEqual(
    parsed.violations.map(({ path }) => path),
    ['/a/b', '/c/0/d', '/a'],
  );
});

test('any JSON is read as JSON.parse reads it', () => {
  const spaces = fc.constantFrom(undefined, 2, '\t');
  fc.assert(
    fc.property(fc.jsonValue(), spaces, (value, space) => {
      const json = JSON.stringify({ value }, null, space);
      if (/\\u0000|\\ud[89a-f]|__proto__/.test(json)) return;
      const parsed = parseDeploymentFile({ json });
      assert.ok('file' in parsed || /carried exactly/.test(JSON.stringify(parsed)), json);
      if ('file' in parsed) assert.deepEqual(parsed.file.value, JSON.parse(json));
    }),
    { numRuns: 300 },
  );
});

test("JSON written by people has places; JSON on one line is a program's, whose places say nothing to people", () => {
  const value = { targets: { qa: { account: 'east' } }, list: ['a'] };
  const positions = (json: string) => {
    const parsed = parseDeploymentFile({ json });
    assert.ok('file' in parsed);
    return [
      ['targets', 'qa', 'account'],
      ['targets', 'qa'],
      ['list', 0],
    ].map((path) => locate(parsed.file, path, false).position);
  };
  assert.deepEqual(positions(JSON.stringify(value, null, 2)), [
    { line: 4, column: 18 },
    { line: 3, column: 5 },
    { line: 8, column: 5 },
  ]);
  assert.deepEqual(positions(`${JSON.stringify(value)}\n`), [undefined, undefined, undefined]);
});

test('a megabyte of JSON is read in well under a second', () => {
  const entry = { name: 'web', image: 'registry.example/shop:1', ports: [80, 443], ready: true, note: 'a\nb' };
  const json = JSON.stringify({ list: Array(9_000).fill(entry) }, null, 1);
  assert.ok(json.length > 1024 * 1024);
  const started = process.cpuUsage();
  assert.deepEqual(problemsOf({ json }), []);
  assert.ok(process.cpuUsage(started).user < 1_000_000);
});

test('2,000 documents and 20,000 aliases are read, and stars in texts are no aliases', () => {
  assert.deepEqual(problemsOf(`a: &a 1\nb:\n${'- *a\n'.repeat(20_000)}`), []);
  assert.match(problemsOf(`a: &a 1\nb:\n${'- *a\n'.repeat(20_001)}`)[0] ?? '', /more than 20000 aliases/);
  assert.deepEqual(problemsOf(`a: |\n  *b\nb:\n${'- |\n  * c\n'.repeat(20_001)}`), []);
  assert.match(problemsOf('---\n'.repeat(2_000))[0] ?? '', /empty/);
  assert.match(problemsOf('---\n'.repeat(2_001))[0] ?? '', /more than 2000 documents/);
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
