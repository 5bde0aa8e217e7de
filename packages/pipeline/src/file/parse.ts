import { readJson } from './json-source.ts';
import { type Budget, createBudget, type LocatedDocument, type SourceProblem } from './source.ts';
import type { Violation } from './violations.ts';
import { toPointer } from './words.ts';
import { readYaml } from './yaml-source.ts';

/** A deployment file as plain JSON with the place of every value, ready for resolveDeploymentFile. */
export type ParsedFile = LocatedDocument & {
  /** What is left for reading the manifests; see source.ts. */
  budget: Budget;
};

/** A deployment file as text. */
export type FileText = { yaml: string } | { json: string };

/**
 * Reads a deployment file: positions are kept, duplicate keys refused, in YAML anchors and merge keys resolved. Never throws. Violations are all `file.syntax`: unreadable, HTTP 400.
 */
export function parseDeploymentFile(source: FileText): { file: ParsedFile } | { violations: Violation[] } {
  const budget = createBudget();
  const read = 'yaml' in source ? readOne(source.yaml, budget) : readJson(source.json, budget);
  const hint = 'yaml' in source ? (isOneLine(source.yaml) ? lineBreaksHint : undefined) : notJsonHint(source.json);
  if ('problems' in read) {
    const told = hint === undefined ? read.problems : read.problems.slice(0, maxOfOneLine);
    return { violations: told.map((problem, index) => toViolation(problem, index === 0 ? hint : undefined)) };
  }
  const { value } = read.document;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const what = value === null ? 'empty' : `a ${Array.isArray(value) ? 'list' : 'single value'}`;
    return {
      violations: [
        toViolation(
          {
            path: [],
            message: `it is ${what}; a deployment file is a mapping (application, targets, manifests, …)`,
          },
          hint,
        ),
      ],
    };
  }
  return { file: { ...read.document, budget } };
}

/** YAML whose line breaks are gone is one mistake, however many it looks like; behind a `#` all of it is a comment. */
const lineBreaksHint = 'all of it stands on one line: curl -d removes line breaks; use --data-binary';
const maxOfOneLine = 3;

function isOneLine(text: string): boolean {
  const written = text.trim();
  return !/[\r\n]/.test(written) && !written.startsWith('{');
}

/** Whoever sends YAML, and says that it is JSON. */
function notJsonHint(text: string): string | undefined {
  if (/^\s*["{[]/.test(text)) return undefined;
  return 'it was sent as JSON; for a YAML file send Content-Type: application/yaml';
}

function readOne(text: string, budget: Budget): { document: LocatedDocument } | { problems: SourceProblem[] } {
  const read = readYaml(text, 'file', budget);
  if ('problems' in read) return read;
  const written = read.documents.filter(({ value }) => value !== null);
  const [document = { value: null, place: { order: 0 } }, second] = written;
  if (second === undefined) return { document };
  const position = second.place.value;
  const message = 'it holds more than one document (---); only manifests may';
  return { problems: [position === undefined ? { path: [], message } : { path: [], message, position }] };
}

function toViolation({ message, path, position }: SourceProblem, hint?: string): Violation {
  const at = position === undefined ? '' : ` (line ${position.line}, column ${position.column})`;
  return {
    code: 'file.syntax',
    message: `The deployment file cannot be read: ${message}${at}`,
    path: toPointer(path),
    ...position,
    ...(hint === undefined ? {} : { hint }),
  };
}
