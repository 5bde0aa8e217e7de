import { AppError } from '@cdaas/contract/errors.ts';
import type { FastifyInstance } from 'fastify';

/**
 * Parsers for what routes take as a value: JSON and forms. Depth is checked before parsing, because a parser that
 * recurses would be the first to suffer. An empty body is no body: clients in use send a Content-Type with every request.
 */
export function installBodies(app: FastifyInstance, { depthLimit }: { depthLimit: number }): void {
  app.removeAllContentTypeParsers();
  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body.trim() === '') return done(null, undefined);
    if (depthOf(body) > depthLimit) return done(tooDeep(depthLimit));
    parseJson(request, body, (error, value) => {
      if (error === null) done(null, value);
      else done(new AppError('request.unreadable', `The body is not JSON: ${where(error.message)}.`));
    });
  });
  app.addContentTypeParser<string>(
    'application/x-www-form-urlencoded',
    { parseAs: 'string' },
    (_request, body, done) => {
      done(null, formOf(body));
    },
  );
}

/**
 * Parsers for routes that read a deployment file: the text itself, so that violations can name line and column.
 *
 * @param mediaTypes what the routes of this scope take
 */
export function installTextBodies(app: FastifyInstance, mediaTypes: readonly string[], depthLimit: number): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser<string>([...mediaTypes], { parseAs: 'string' }, (_request, body, done) => {
    if (depthOf(body) > depthLimit) done(tooDeep(depthLimit));
    else done(null, body);
  });
}

function tooDeep(depthLimit: number): AppError {
  return new AppError('body.tooLarge', `The body is nested deeper than ${depthLimit} levels.`);
}

/** JSON.parse says where it stopped and quotes what it saw there; only the place is repeated. */
function where(message: string): string {
  return /position \d+(?: \(line \d+ column \d+\))?/.exec(message)?.[0] ?? 'it ends too early or is not well formed';
}

function formOf(text: string): Record<string, string> {
  const form: Record<string, string> = Object.create(null);
  for (const [key, value] of new URLSearchParams(text)) form[key] = value;
  return form;
}

/** How deep brackets nest outside of double-quoted strings: exact for JSON, an upper bound of flow style for YAML. */
export function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let quoted = false;
  for (let index = 0; index < text.length; index += 1) {
    const char = text.charCodeAt(index);
    if (quoted) {
      if (char === 0x5c) index += 1;
      else if (char === 0x22) quoted = false;
    } else if (char === 0x22) quoted = true;
    else if (char === 0x7b || char === 0x5b) {
      depth += 1;
      if (depth > deepest) deepest = depth;
    } else if (char === 0x7d || char === 0x5d) depth -= 1;
  }
  return deepest;
}
