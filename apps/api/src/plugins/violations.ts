import type { ErrorCode, Violation } from '@cdaas/contract/errors.ts';
import type { FastifySchemaCompiler } from 'fastify';
import { z } from 'zod';

type ZodIssue = z.core.$ZodIssue;

/** A part of a request that its zod schema refuses. */
export class RequestInvalid extends Error {
  readonly issues: readonly ZodIssue[];
  /** `body`, `querystring`, `params` or `headers`: set by Fastify, which leaves a value that is there already. */
  validationContext: string | undefined;

  constructor(issues: readonly ZodIssue[]) {
    super('the request does not fit its schema');
    this.issues = issues;
  }
}

/** Validates requests by the routes' zod schemas and keeps the issues whole, paths included. */
export const validatorCompiler: FastifySchemaCompiler<z.ZodType> =
  ({ schema }) =>
  (data) => {
    const parsed = z.safeParse(schema, data);
    return parsed.success ? { value: parsed.data } : { error: new RequestInvalid(parsed.error.issues) };
  };

/**
 * What zod found in one part of a request, as violations in the user's words. For a union the branch that fits best is
 * reported, not all of them.
 *
 * @param part `body`, `querystring`, `params` or `headers`
 * @param value the part itself where it is known; tells a missing field from one of the wrong type
 */
export function violationsOf(issues: readonly ZodIssue[], part: string, value: unknown): [Violation, ...Violation[]] {
  const [first, ...rest] = issues.flatMap((issue) => unfold(issue, [])).map((issue) => violationOf(issue, part, value));
  return [first ?? { code: 'request.invalid', message: 'The request is not valid.' }, ...rest];
}

type Located = { issue: ZodIssue; path: PropertyKey[] };

function unfold(issue: ZodIssue, before: PropertyKey[]): Located[] {
  const path = [...before, ...issue.path];
  if (issue.code !== 'invalid_union' || issue.errors.length === 0) return [{ issue, path }];
  const branches = issue.errors.map((branch) => branch.flatMap((inner) => unfold(inner, path)));
  return branches.reduce((best, branch) => (branch.length < best.length ? branch : best));
}

const partNames: Record<string, string> = {
  querystring: 'query parameter',
  params: 'part of the path',
  headers: 'header',
};

function violationOf({ issue, path }: Located, part: string, value: unknown): Violation {
  const keys = issue.code === 'unrecognized_keys' ? issue.keys : [];
  const pointer = path.map((key) => `/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
  const name = path.map(String).join('.');
  const missing = issue.code === 'invalid_type' && part === 'body' && valueAt(value, path) === undefined;
  if (part !== 'body') {
    if (keys.length > 0) {
      return { code: 'request.invalid', message: `Unknown ${partNames[part] ?? part}: ${keys.join(', ')}.` };
    }
    return {
      code: 'request.invalid',
      message: `The ${partNames[part] ?? part} ${part === 'params' ? `:${name}` : name} is not valid: ${issue.message}.`,
    };
  }
  if (value === undefined || (path.length === 0 && missing)) {
    return {
      code: 'request.invalid',
      message: 'A JSON body is required.',
      hint: 'Send Content-Type: application/json.',
    };
  }
  if (keys.length > 0) {
    const where = name === '' ? '' : ` in ${name}`;
    return {
      code: 'field.unknown',
      message: `Unknown field${where}: ${keys.join(', ')}.`,
      path: `${pointer}/${keys[0]}`,
    };
  }
  if (missing) return { code: 'field.required', message: `${name} is required.`, path: pointer };
  return {
    code: codes[issue.code] ?? 'request.invalid',
    message: `${name || 'The body'}: ${issue.message}.`,
    path: pointer,
  };
}

const codes: Partial<Record<ZodIssue['code'], ErrorCode>> = {
  invalid_type: 'field.type',
  invalid_value: 'field.enum',
  too_big: 'field.range',
  too_small: 'field.range',
};

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  let at = value;
  for (const key of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, key)) return undefined;
    at = Reflect.get(at, key);
  }
  return at;
}
