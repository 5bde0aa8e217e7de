import type { Alias, Document, ErrorCode, Node, Pair, Scalar, YAMLMap, YAMLSeq } from 'yaml';
import { Composer, isAlias, isMap, isScalar, isSeq, Lexer, LineCounter, Parser } from 'yaml';
import type { Budget, LocatedDocument, Place, Position, SourceProblem } from './source.ts';
import { chargeKey, chargeText, chargeValue, sourceLimits } from './source.ts';

/**
 * `file`: YAML 1.2, core schema. `manifest`: YAML 1.1 as Kubernetes' own tools read it, where `0644` is octal and `yes`
 * is true, though without their rarer types. Merge keys (`<<`) are resolved in both.
 */
export type Dialect = 'file' | 'manifest';

/**
 * Reads a YAML stream into its documents, positions kept, anchors and merge keys resolved. An empty document is the
 * value null. Problems are collected as far as the text can be followed; with any problem there are no documents.
 * No message quotes the text, which may hold secrets.
 */
export function readYaml(
  text: string,
  dialect: Dialect,
  budget: Budget,
): { documents: LocatedDocument[] } | { problems: SourceProblem[] } {
  if (text.length > sourceLimits.characters) {
    return {
      problems: [
        { path: [], message: `the text is longer than ${sourceLimits.characters / 1024 / 1024} million characters` },
      ],
    };
  }
  const lines = new LineCounter();
  const composed = compose(text, dialect, lines);
  if (typeof composed === 'string') return { problems: [{ path: [], message: composed }] };

  const documents: LocatedDocument[] = [];
  const problems: SourceProblem[] = [];
  for (const [index, document] of composed.entries()) {
    const mistakes = [...document.errors, ...document.warnings.filter(({ code }) => code === 'TAG_RESOLVE_FAILED')];
    for (const mistake of mistakes) {
      problems.push({
        path: [],
        message: syntaxText[mistake.code],
        document: index + 1,
        position: positionAt(lines, mistake.pos[0]),
      });
    }
    if (mistakes.length > 0) continue;
    const walk = createWalk(lines, budget);
    const read = document.contents === null ? { value: null, place: { order: 0 } } : walk.read(document.contents, 0);
    problems.push(...walk.problems.map((problem) => ({ ...problem, document: index + 1 })));
    documents.push(read);
  }
  return problems.length > 0 ? { problems } : { documents };
}

const unresolvedTags = new Set(
  ['binary', 'merge', 'omap', 'pairs', 'set', 'timestamp'].map((name) => `tag:yaml.org,2002:${name}`),
);

const composerOptions = {
  file: { schema: 'core', merge: false },
  manifest: {
    schema: 'yaml-1.1',
    merge: false,
    // As in Kubernetes' YAML library: times and base-60 numbers (`22:22`) are plain text.
    customTags: (tags: Tags) =>
      tags.filter((tag) => typeof tag === 'string' || !(unresolvedTags.has(tag.tag) || tag.format === 'TIME')),
  },
} as const;
type Tags = Extract<NonNullable<ConstructorParameters<typeof Composer>[0]>['customTags'], readonly unknown[] | null> &
  object;

/** The parser's own nesting, which is a little deeper than that of the values. Stops before anything recurses into it. */
const maxParserStack = 2 * sourceLimits.depth + 50;

function compose(text: string, dialect: Dialect, lines: LineCounter): Document.Parsed[] | string {
  const parser = new Parser(lines.addNewLine);
  // Duplicate keys are found by the walk: the library compares every key with every other one.
  const composer = new Composer({
    ...composerOptions[dialect],
    uniqueKeys: false,
    prettyErrors: false,
    logLevel: 'silent',
  });
  const documents: Document.Parsed[] = [];
  lines.addNewLine(0);
  for (const lexeme of new Lexer().lex(text)) {
    for (const token of parser.next(lexeme)) documents.push(...composer.next(token));
    if (parser.stack.length > maxParserStack)
      return `more than ${sourceLimits.depth} levels of mappings and lists inside each other`;
  }
  for (const token of parser.end()) documents.push(...composer.next(token));
  documents.push(...composer.end(false, text.length));
  return documents;
}

function positionAt(lines: LineCounter, offset: number): Position {
  const { line, col } = lines.linePos(offset);
  return { line: Math.max(line, 1), column: Math.max(col, 1) };
}

/** Turns the nodes of one document into values and places. */
function createWalk(lines: LineCounter, budget: Budget) {
  const problems: SourceProblem[] = [];
  const anchors = new Map<string, Node>();
  // What an alias means is settled where it is first met: an anchor of the same name may follow.
  const aliasTargets = new Map<Alias, Node | undefined>();
  const resolving = new Set<Node>();
  let insideAlias = 0;
  let order = 0;
  let stopped = false;

  const refuse = (node: Node | null | undefined, message: string): void => {
    problems.push({ path: [], message, ...(node?.range ? { position: positionAt(lines, node.range[0]) } : {}) });
    if (budget.values < 0 || budget.characters < 0 || problems.length >= 20) stopped = true;
  };

  const read = (node: Node | null, depth: number): LocatedDocument => {
    const place: Place = { order: order++ };
    if (node?.range) place.value = positionAt(lines, node.range[0]);
    const problem = chargeValue(depth, budget);
    if (problem !== undefined) refuse(node, problem);
    if (stopped || problem !== undefined || node === null) return { value: null, place };
    if (isAlias(node)) return readAlias(node, depth);
    if ('anchor' in node && typeof node.anchor === 'string' && insideAlias === 0) anchors.set(node.anchor, node);
    if (isMap(node)) return readMap(node, place, depth);
    if (isSeq(node)) return readList(node, place, depth);
    if (isScalar(node)) return { value: scalarValue(node, budget, refuse), place };
    refuse(node, 'this kind of YAML is not supported');
    return { value: null, place };
  };

  const targetOf = (alias: Alias): Node | undefined => {
    if (!aliasTargets.has(alias)) aliasTargets.set(alias, anchors.get(alias.source));
    return aliasTargets.get(alias);
  };

  const readAlias = (alias: Alias, depth: number): LocatedDocument => {
    const target = targetOf(alias);
    const nowhere = { value: null, place: { order } };
    if (target === undefined) {
      refuse(alias, 'an alias (*) names an anchor (&) that is not defined above it');
      return nowhere;
    }
    if (resolving.has(target)) {
      refuse(alias, 'an alias (*) lies inside the value that it stands for');
      return nowhere;
    }
    resolving.add(target);
    insideAlias += 1;
    const resolved = read(target, depth);
    insideAlias -= 1;
    resolving.delete(target);
    return resolved;
  };

  const readList = (node: YAMLSeq, place: Place, depth: number): LocatedDocument => {
    const children = new Map<string | number, Place>();
    const items: unknown[] = [];
    for (const [index, item] of (node.items as (Node | null)[]).entries()) {
      if (stopped) break;
      const child = read(item, depth + 1);
      items.push(child.value);
      children.set(index, child.place);
    }
    return { value: items, place: { ...place, children } };
  };

  const readMap = (node: YAMLMap, place: Place, depth: number): LocatedDocument => {
    const fields = new Map<string, { value: unknown; place: Place; merged: boolean }>();
    for (const pair of node.items as Pair<Node, Node | null>[]) {
      if (stopped) break;
      if (isMergeKey(pair.key)) {
        for (const [key, field] of readMerged(pair, depth))
          if (!fields.has(key)) fields.set(key, { ...field, merged: true });
        continue;
      }
      const key = readKey(pair.key);
      if (key === undefined) continue;
      const known = fields.get(key);
      if (known !== undefined && !known.merged) {
        refuse(pair.key, `the key '${key.length > 60 ? `${key.slice(0, 57)}...` : key}' appears twice in one mapping`);
        continue;
      }
      const child = read(pair.value, depth + 1);
      if (pair.key.range) child.place.key = positionAt(lines, pair.key.range[0]);
      fields.set(key, { ...child, merged: false });
    }
    const children = new Map<string | number, Place>();
    for (const [key, field] of fields) children.set(key, field.place);
    return {
      value: Object.fromEntries([...fields].map(([key, { value }]) => [key, value])),
      place: { ...place, children },
    };
  };

  const readKey = (node: Node): string | undefined => {
    const scalar = isAlias(node) ? targetOf(node) : node;
    if (!isScalar(scalar) || (scalar.value === null && !scalar.source)) {
      refuse(node, 'a key must be a word or a text');
      return undefined;
    }
    if (typeof scalar.anchor === 'string' && insideAlias === 0) anchors.set(scalar.anchor, scalar);
    // As written: `8080:` and `on:` are the keys "8080" and "on".
    const key = typeof scalar.value === 'string' ? scalar.value : (scalar.source ?? String(scalar.value));
    const problem = chargeKey(key, budget);
    if (problem !== undefined) refuse(node, problem);
    return problem === undefined ? key : undefined;
  };

  /** `<<: *defaults` or `<<: [*a, *b]`, the earlier one winning. */
  const readMerged = (pair: Pair<Node, Node | null>, depth: number): Map<string, LocatedDocument> => {
    const fields = new Map<string, LocatedDocument>();
    const { value, place } = read(pair.value, depth + 1);
    const isList = Array.isArray(value);
    const sources = isList ? value : [value];
    for (const [index, source] of sources.entries()) {
      if (typeof source !== 'object' || source === null || Array.isArray(source)) {
        if (!stopped) refuse(pair.key, 'a merge key (<<) needs a mapping or a list of mappings');
        continue;
      }
      const places = isList ? place.children?.get(index)?.children : place.children;
      for (const [key, field] of Object.entries(source)) {
        if (!fields.has(key)) fields.set(key, { value: field, place: places?.get(key) ?? place });
      }
    }
    return fields;
  };

  return { read, problems };
}

function isMergeKey(key: Node): boolean {
  return isScalar(key) && key.type === 'PLAIN' && key.source === '<<';
}

function scalarValue(node: Scalar, budget: Budget, refuse: (node: Node, message: string) => void): unknown {
  const { value } = node;
  if (typeof value === 'string') {
    const problem = chargeText(value, budget);
    if (problem !== undefined) refuse(node, problem);
    return value;
  }
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) refuse(node, 'a number must be finite');
    // Rounding would change what the user wrote without a word.
    else if (
      Number.isInteger(value) &&
      !Number.isSafeInteger(value) &&
      /^[-+]?[0-9_xob a-f]+$/i.test(node.source ?? '')
    ) {
      refuse(node, 'a whole number is too large to be carried exactly; put it in quotes if it is a text');
    }
    return value;
  }
  if (value === null || typeof value === 'boolean') return value;
  refuse(node, 'this kind of value is not supported');
  return null;
}

/** Our own words for the library's codes, because its messages quote the text. */
const syntaxText: Record<ErrorCode, string> = {
  ALIAS_PROPS: 'an alias (*) cannot have an anchor or a tag',
  BAD_ALIAS: 'an alias (*) has no name or a name that is not allowed',
  BAD_COLLECTION_TYPE: 'a tag (!) does not fit the kind of value',
  BAD_DIRECTIVE: 'a directive (%) is not known or not complete',
  BAD_DQ_ESCAPE: 'a text in double quotes has an escape (\\) that YAML does not know',
  BAD_INDENT: 'the indentation does not fit the lines around',
  BAD_PROP_ORDER: 'an anchor or tag stands in the wrong place',
  BAD_SCALAR_START: 'a plain text cannot start with this character; put it in quotes',
  BLOCK_AS_IMPLICIT_KEY: 'a mapping or list starts where only a key can stand; is a quote or a line break missing?',
  BLOCK_IN_FLOW: 'an indented mapping or list cannot stand inside { } or [ ]',
  DUPLICATE_KEY: 'a key appears twice in one mapping',
  IMPOSSIBLE: 'this is not YAML',
  KEY_OVER_1024_CHARS: 'a key is longer than 1024 characters',
  MISSING_CHAR: 'a quote, comma, colon, bracket or line break is missing',
  MULTILINE_IMPLICIT_KEY: 'a key must stand on one line; is a colon or a quote missing?',
  MULTIPLE_ANCHORS: 'a value has more than one anchor (&)',
  MULTIPLE_DOCS: 'there is more than one document',
  MULTIPLE_TAGS: 'a value has more than one tag (!)',
  NON_STRING_KEY: 'a key must be a word or a text',
  RESOURCE_EXHAUSTION: 'the text is nested too deeply',
  TAB_AS_INDENT: 'a tab is used for indentation; YAML wants spaces',
  TAG_RESOLVE_FAILED: 'a tag (!) is not supported',
  UNEXPECTED_TOKEN: 'something stands where YAML does not expect it; is a quote, bracket or line break missing?',
};
