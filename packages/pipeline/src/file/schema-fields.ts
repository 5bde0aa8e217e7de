import { z } from 'zod';
import type { TimeUnit } from '../plan.ts';
import type { FileErrorCode } from './violations.ts';

/**
 * The building blocks of the schema. A check of ours carries its error code and words in `params`, where
 * schema-violations.ts finds them; everything else is told from zod's own issue.
 */
export type CheckParams = { code: FileErrorCode; message: string; words?: readonly string[]; tooMany?: true };

function params(check: CheckParams): CheckParams {
  return check;
}

type RawIssue = { code: 'custom'; input: unknown; params: CheckParams };
function failing(input: unknown, params: CheckParams): RawIssue {
  return { code: 'custom', input, params };
}

/** A mapping that knows all its keys: any other one is an error, because a typo in it changes behaviour. */
export const closed = <Shape extends z.ZodRawShape>(shape: Shape) => z.strictObject(shape);

/** Lists and mappings are bounded, so that no rule over them can take long. */
export const limits = {
  targets: 200,
  strategies: 200,
  steps: 200,
  manifests: 500,
  files: 500,
  queries: 200,
  webhooks: 200,
  trafficItems: 100,
  trafficEntries: 50,
  names: 500,
  variables: 500,
} as const;

export const list = <Item extends z.ZodType>(item: Item, max: number, min = 0) => z.array(item).min(min).max(max);

// `when`: the count is told even where entries are wrong as well, and stops the rules from running over too many.
export const table = <Value extends z.ZodType>(value: Value, max: number, min = 0) =>
  z
    .record(z.string(), value)
    .refine((entries) => countOf(entries) >= min, {
      params: params({ code: 'field.required', message: 'must not be empty' }),
      when: () => true,
    })
    .refine((entries) => countOf(entries) <= max, {
      params: params({ code: 'field.range', message: `may have at most ${max} entries`, tooMany: true }),
      when: () => true,
    });

function countOf(entries: unknown): number {
  return typeof entries === 'object' && entries !== null ? Object.keys(entries).length : 1;
}

export const text = () => z.string();

/** What would make a name look like another one, or break the line that it stands in. */
export const unfitForName = /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/u;

/** A name that people choose: not empty, at most 253 characters, on one line. */
export const name = () =>
  z.string().check((context) => {
    const { value } = context;
    if (value.trim() === '')
      context.issues.push(failing(value, { code: 'field.required', message: 'must not be empty' }));
    else if (value.length > 253)
      context.issues.push(failing(value, { code: 'field.range', message: 'may have at most 253 characters' }));
    else if (unfitForName.test(value)) {
      const message = 'must not hold line breaks, control characters or marks that turn the direction of text';
      context.issues.push(failing(value, { code: 'field.type', message }));
    }
  });

/** One of these words; `anyCase` where the letter case does not matter. Gives the word as in the list. */
export const word = <Word extends string>(words: readonly Word[], anyCase = false) => {
  const find = (value: string) =>
    words.find((known) => known === value || (anyCase && known.toLowerCase() === value.toLowerCase()));
  return z
    .string()
    .check((context) => {
      if (find(context.value) !== undefined) return;
      context.issues.push(failing(context.value, { code: 'field.enum', message: `must be ${orList(words)}`, words }));
    })
    .transform((value) => find(value)!);
};

function orList(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
}

export const whole = (min: number, max: number, code: FileErrorCode = 'field.range') =>
  z.number().check((context) => {
    const { value } = context;
    if (!Number.isInteger(value))
      context.issues.push(failing(value, { code: 'field.type', message: 'must be a whole number' }));
    else if (value < min || value > max) {
      const range = max === Number.MAX_SAFE_INTEGER ? `${min} or more` : `between ${min} and ${max}`;
      context.issues.push(failing(value, { code, message: `must be ${range}, not ${value}` }));
    }
  });

export const unitWords = ['seconds', 'minutes', 'hours'] as const;
export const unit = () => word(unitWords, true).transform((value) => value.toUpperCase() as TimeUnit);

/** Long enough for any wait, and far from where times overflow. */
export const maxDuration = 1_000_000;

export const duration = () => closed({ duration: whole(1, maxDuration), unit: unit() });

/** A text, or a number or boolean taken as text. */
export const scalarText = () =>
  z
    .unknown()
    .check((context) => {
      const { value } = context;
      if (['string', 'number', 'boolean'].includes(typeof value)) return;
      context.issues.push(failing(value, { code: 'field.type', message: 'must be a text, a number or a boolean' }));
    })
    .transform(String);

export const variables = () => table(scalarText(), limits.variables);
