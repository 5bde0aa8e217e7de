import { z } from 'zod';
import { isRecord } from '../is-record.ts';
import { didYouMean, typeHint } from './hints.ts';
import { type DeploymentFile, deploymentFile } from './schema.ts';
import type { CheckParams } from './schema-fields.ts';
import { stepKinds } from './schema-strategies.ts';
import type { Path } from './source.ts';
import { at, exists, keys, type View } from './view.ts';
import type { Report } from './violations.ts';
import { shorten, toWords } from './words.ts';

/**
 * Checks the shape of the file and reports every breach in the words of spec/deployment-file.md §13. `oversized`: a list
 * or mapping has more entries than allowed, so rules across fields should not be run.
 */
export function checkShape(root: View, report: Report): { file: DeploymentFile | undefined; oversized: boolean } {
  const parsed = deploymentFile.safeParse(root.value);
  if (parsed.success) return { file: parsed.data, oversized: false };
  const { issues } = parsed.error;
  for (const issue of issues) reportIssue(issue, root, report);
  return {
    file: undefined,
    oversized: issues.some(
      (issue) => issue.code === 'too_big' || (issue.code === 'custom' && issue.params?.tooMany === true),
    ),
  };
}

function reportIssue(issue: z.core.$ZodIssue, root: View, report: Report): void {
  const path = issue.path.filter((key): key is string | number => typeof key !== 'symbol');
  const view = at(root, ...path);
  const words = toWords(path);
  switch (issue.code) {
    case 'invalid_type':
      return exists(view) ? mistyped(view, expectedWords(issue.expected), report) : missing(path, root, report);
    case 'unrecognized_keys':
      // Nobody reads hints for hundreds of keys, and looking for near words takes time.
      for (const [index, key] of issue.keys.entries()) unknownKey(view, key, report, index < 50);
      return;
    case 'custom': {
      const { code, message, words: allowed } = issue.params as CheckParams;
      const hint =
        allowed !== undefined && typeof view.value === 'string' ? didYouMean(view.value, allowed) : undefined;
      // z.unknown() lets a missing value through to our own check.
      if (!exists(view)) return missing(path, root, report);
      const got = code === 'field.enum' ? `, not '${shorten(String(view.value))}'` : '';
      return report.violation(code, path, `${words} ${message}${got}`, { hint });
    }
    case 'too_small':
      return report.violation('field.required', path, `${words} must not be empty`);
    case 'too_big':
      return report.violation('field.range', path, `${words} may have at most ${issue.maximum} entries`);
    default:
      return report.violation('field.type', path, `${words} is not valid`);
  }
}

function missing(path: Path, root: View, report: Report): void {
  const parent = at(root, ...path.slice(0, -1));
  const key = String(path.at(-1));
  const misspelt = keys(parent).find(
    (written) => didYouMean(written, [key]) !== undefined && !isKnownKey(parent.path, written),
  );
  const hint = misspelt === undefined ? undefined : `'${shorten(misspelt)}' is not the name of this field`;
  report.violation('field.required', path, `${toWords(path)} is required`, { hint });
}

function mistyped(view: View, expected: string, report: Report): void {
  const hint = typeHint(view.path.at(-1), expected, view.value);
  const message = `${toWords(view.path)} must be ${articled(expected)}, not ${articled(typeWords(view.value))}`;
  report.violation('field.type', view.path, message, { hint });
}

const expectedNames: Record<string, string> = { object: 'mapping', record: 'mapping', array: 'list', string: 'text' };
function expectedWords(expected: string): string {
  return expectedNames[expected] ?? expected;
}

function typeWords(value: unknown): string {
  if (value === null) return 'nothing';
  if (Array.isArray(value)) return 'list';
  return expectedWords(typeof value);
}

function articled(noun: string): string {
  return noun === 'nothing' ? noun : `a ${noun}`;
}

/** Words for keys that are known elsewhere, or were once: where they belong. */
const misplaced: Record<string, string> = {
  context: 'custom variables go into the top-level `context`, which reaches every target',
  requiresRoles: 'put it beside approvalExpiration, in the pause itself',
  alias: 'it belongs to files of kind lambda',
  path: 'write the body under `inline`',
};

function unknownKey(parent: View, key: string, report: Report, withHint: boolean): void {
  const path = [...parent.path, key];
  const known = knownKeys(parent.path);
  const isStep = known.includes('runWebhook') && (stepKinds as string[]).includes(key);
  const message = isStep
    ? `${key} is not allowed in ${toWords(parent.path.slice(0, -1))}; only ${known.join(', ')} are`
    : `${toWords(path)} is not a known field`;
  const place = Object.hasOwn(misplaced, key) ? misplaced[key] : undefined;
  const hint = isStep || !withHint ? undefined : (didYouMean(key, known) ?? place ?? `known here: ${known.join(', ')}`);
  report.violation('field.unknown', path, message, { hint, onKey: true });
}

function isKnownKey(parent: Path, key: string): boolean {
  return knownKeys(parent).includes(key);
}

/** The keys that the schema knows for the mapping at this path; none if it is not one with fixed keys. */
export function knownKeys(path: Path): string[] {
  let schema: unknown = deploymentFile;
  for (const key of path) {
    schema = unwrap(schema);
    if (schema instanceof z.ZodObject) schema = Object.hasOwn(schema.shape, key) ? schema.shape[key] : undefined;
    else if (schema instanceof z.ZodArray) schema = schema.element;
    else if (schema instanceof z.ZodRecord) schema = schema.valueType;
    else return [];
  }
  schema = unwrap(schema);
  return schema instanceof z.ZodObject && isRecord(schema.shape) ? Object.keys(schema.shape) : [];
}

/** What an optional or preprocessed field holds. */
function unwrap(schema: unknown): unknown {
  let inner = schema;
  for (;;) {
    if (inner instanceof z.ZodOptional) inner = inner.unwrap();
    else if (inner instanceof z.ZodPipe) inner = inner.out;
    else return inner;
  }
}
