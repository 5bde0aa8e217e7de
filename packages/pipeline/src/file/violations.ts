import type { LocatedDocument, Path } from './source.ts';
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
 * `column` (both from 1) are there where the source was YAML; for a violation inside a manifest (`path` ends in `/inline`
 * or lies in `/files`) they count within the text of that manifest.
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
export type Where = { onKey?: boolean; inManifest?: { line?: number; column?: number } };

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
      const position = details.inManifest ?? place.position;
      const found: Violation = { code, message, path: pointer };
      if (position?.line !== undefined) found.line = position.line;
      if (position?.column !== undefined) found.column = position.column;
      if (details.hint !== undefined) found.hint = details.hint;
      // A value of the wrong type breaks every rule about it; only the type is worth telling.
      if (mistyped.has(pointer)) return;
      if (code === 'field.type') mistyped.add(pointer);
      const key = `${code} ${pointer} ${message} ${found.line ?? ''}`;
      if (!violations.has(key)) violations.set(key, entry(place.order, position, found));
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

function entry<T>(order: number, position: { line?: number; column?: number } | undefined, found: T): Entry<T> {
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
