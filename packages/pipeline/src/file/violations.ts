import type { Located, LocatedDocument, Path, Position } from './source.ts';
import { locate } from './source.ts';
import { toPointer } from './words.ts';

/** Every code that this folder can put on a violation (spec/deployment-file.md §13 and its further words). */
export const fileErrorCodes = [
  'file.syntax',
  'field.required',
  'field.type',
  'field.unknown',
  'field.enum',
  'field.range',
  'account.unknown',
  'ref.target',
  'ref.strategy',
  'ref.webhook',
  'ref.query',
  'ref.provider',
  'target.cycle',
  'strategy.choice',
  'strategy.missing',
  'step.choice',
  'step.unsupported',
  'pause.form',
  'roles.empty',
  'timeout.min',
  'ttl.range',
  'weight.range',
  'query.limits',
  'manifest.choice',
  'manifest.missing',
  'manifest.kind',
  'manifest.object',
  'name.duplicate',
  'service.missing',
  'service.same',
  'traffic.conflict',
  'template.variable',
] as const;
export type FileErrorCode = (typeof fileErrorCodes)[number];

/**
 * One thing that is wrong with a deployment file, in the user's words. `path` is a JSON pointer into the file. `line` and
 * `column` (both from 1) are there where the file was written by people (json-source.ts). Of a violation inside a manifest
 * they count in the text of its own file where `path` lies in `/files`; where it ends in `/inline` they count in the
 * deployment file as well, and are there for a literal block (`|`) only.
 */
export type Violation = {
  code: FileErrorCode;
  message: string;
  path: string;
  line?: number;
  column?: number;
  hint?: string;
};

/** Where a finding lies, if not simply at its path: on the key instead of the value, or at a place inside a manifest. */
export type Where = { onKey?: boolean; inManifest?: Position | undefined };

/** Collects what is wrong and what is worth a warning, and gives it back in the order of the document. */
export type Report = {
  violation(code: FileErrorCode, path: Path, message: string, details?: Where & { hint?: string | undefined }): void;
  warning(path: Path, text: string): void;
  /** How many violations there are so far. */
  count(): number;
  /** In the order of the document, none twice, at most `maxViolations`. */
  violations(): Violation[];
  warnings(): string[];
};

/** An answer stays readable: whoever has more mistakes than this sees the first ones and the count of the rest. */
const maxViolations = 200;

type Entry<T> = { order: number; line: number; column: number; found: T };

export function createReport(document: LocatedDocument): Report {
  const violations = new Map<string, Entry<Violation>>();
  const warnings = new Map<string, Entry<string>>();
  const mistyped = new Set<string>();

  return {
    violation(code, path, message, details = {}) {
      const pointer = toPointer(path);
      const place = locate(document, path, details.onKey === true);
      const position = details.inManifest === undefined ? place.position : inFile(path, place, details.inManifest);
      const found: Violation = { code, message, path: pointer };
      if (position !== undefined) found.line = position.line;
      if (position !== undefined) found.column = position.column;
      if (details.hint !== undefined) found.hint = details.hint;
      // A value of the wrong type breaks every rule about it; only the type is worth telling.
      if (mistyped.has(pointer)) return;
      if (code === 'field.type') mistyped.add(pointer);
      const key = `${code} ${pointer} ${message} ${found.line ?? ''}`;
      const inOrderOf = details.inManifest ?? position;
      if (!violations.has(key)) violations.set(key, entry(place.order, inOrderOf, found));
    },
    warning(path, text) {
      const place = locate(document, path, false);
      if (!warnings.has(text)) warnings.set(text, entry(place.order, place.position, text));
    },
    count: () => violations.size,
    violations: () => capped(inOrder(violations)),
    warnings: () => inOrder(warnings).slice(0, maxViolations),
  };
}

/** A place in a manifest as people find it: in that manifest's own file, or in the deployment file around it. */
function inFile(path: Path, { block }: Located, { line, column }: Position): Position | undefined {
  if (path[0] === 'files') return { line, column };
  return block && { line: block.line + line - 1, column: block.indent + column };
}

function entry<T>(order: number, position: Position | undefined, found: T): Entry<T> {
  return { order, line: position?.line ?? 0, column: position?.column ?? 0, found };
}

function inOrder<T>(entries: Map<string, Entry<T>>): T[] {
  // Array sort is stable: what is found at one place stays in the order in which the rules run.
  return [...entries.values()]
    .sort((a, b) => a.order - b.order || a.line - b.line || a.column - b.column)
    .map(({ found }) => found);
}

function capped(violations: Violation[]): Violation[] {
  const next = violations[maxViolations];
  if (next === undefined) return violations;
  const rest = violations.length - maxViolations;
  return [
    ...violations.slice(0, maxViolations),
    { code: next.code, path: next.path, message: `and ${rest} more of such mistakes; correct these first` },
  ];
}
