import type { Document, ErrorCode } from 'yaml';
import { Composer, Lexer, LineCounter, Parser } from 'yaml';
import { type Budget, type LocatedDocument, type SourceProblem, sourceLimits } from './source.ts';
import { positionAt, walkYaml } from './yaml-walk.ts';

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
  const composed = compose(text, dialect, lines, budget);
  if (typeof composed === 'string') return { problems: [{ path: [], message: composed }] };

  const documents: LocatedDocument[] = [];
  const problems: SourceProblem[] = [];
  for (const [index, document] of composed.entries()) {
    const mistakes = [...document.errors, ...document.warnings.filter(({ code }) => code === 'TAG_RESOLVE_FAILED')];
    for (const mistake of mistakes.slice(0, maxMistakes)) {
      problems.push({
        path: [],
        message: syntaxText[mistake.code],
        document: index + 1,
        position: positionAt(lines, mistake.pos[0]),
      });
    }
    if (mistakes.length > 0) continue;
    const walked = walkYaml(document.contents, text, lines, budget);
    problems.push(...walked.problems.map((problem) => ({ ...problem, document: index + 1 })));
    documents.push(walked.document);
  }
  return problems.length > 0 ? { problems: withoutRepeats(problems) } : { documents };
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

/** The library may tell one mistake twice. */
function withoutRepeats(problems: SourceProblem[]): SourceProblem[] {
  return [...new Map(problems.map((problem) => [JSON.stringify(problem), problem])).values()];
}

/** Of one document. One missing quote can make thousands. */
const maxMistakes = 20;

function compose(text: string, dialect: Dialect, lines: LineCounter, budget: Budget): Document.Parsed[] | string {
  const parser = new Parser(lines.addNewLine);
  // Duplicate keys are found by the walk: the library compares every key with every other one.
  const composer = new Composer({
    ...composerOptions[dialect],
    uniqueKeys: false,
    prettyErrors: false,
    logLevel: 'silent',
  });
  const documents: Document.Parsed[] = [];
  const add = (more: Iterable<Document.Parsed>): void => {
    for (const document of more) {
      documents.push(document);
      budget.documents -= 1;
    }
  };
  lines.addNewLine(0);
  let before = '';
  for (const lexeme of new Lexer().lex(text)) {
    budget.lexemes -= 1;
    if (lexeme.startsWith('*') && before !== plainText) budget.aliases -= 1;
    before = lexeme;
    for (const token of parser.next(lexeme)) add(composer.next(token));
    const limit = exceeded(budget);
    if (limit !== undefined) return limit;
    if (parser.stack.length > maxParserStack)
      return `more than ${sourceLimits.depth} levels of mappings and lists inside each other`;
  }
  for (const token of parser.end()) add(composer.next(token));
  add(composer.end(false, text.length));
  return exceeded(budget) ?? documents;
}

/** The lexer's mark before a plain or block text, which may begin with any character. */
const plainText = '\x1f';

function exceeded({ lexemes, documents, aliases }: Budget): string | undefined {
  if (lexemes < 0) return `too large: more than ${sourceLimits.lexemes} words, marks and spaces`;
  if (documents < 0) return `too large: more than ${sourceLimits.documents} documents (---)`;
  return aliases < 0 ? `too large: more than ${sourceLimits.aliases} aliases (*)` : undefined;
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
