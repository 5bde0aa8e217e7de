import { AppError } from '@cdaas/contract/errors.ts';
import type { FastifyInstance } from 'fastify';

/**
 * The parser for what routes take as a value. An empty body is no body: clients in use send a Content-Type with every
 * request.
 */
export function installBodies(app: FastifyInstance, { depthLimit }: { depthLimit: number }): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser<Buffer>('application/json', { parseAs: 'buffer' }, (request, bytes, done) => {
    const text = decodeBody(bytes, request.headers['content-type']);
    if (text instanceof AppError) return done(text);
    if (text.trim() === '') return done(null, undefined);
    const read = readJson(text, depthLimit);
    if (read instanceof AppError) done(read);
    else done(null, read.value);
  });
}

/**
 * The parser for routes that read a deployment file: the text itself, so that violations can name line and column.
 *
 * @param mediaTypes what the routes of this scope take
 */
export function installTextBodies(app: FastifyInstance, mediaTypes: readonly string[]): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser<Buffer>([...mediaTypes], { parseAs: 'buffer' }, (request, bytes, done) => {
    const text = decodeBody(bytes, request.headers['content-type']);
    if (text instanceof AppError) done(text);
    else done(null, text);
  });
}

/** Bytes as text. What is not UTF-8 is refused: a decoder that puts in replacement characters changes what was sent. */
export function decodeBody(bytes: Uint8Array, contentType: string | undefined): string | AppError {
  const charset = /;\s*charset\s*=\s*"?([^";\s]*)/i.exec(contentType ?? '')?.[1]?.toLowerCase();
  if (charset !== undefined && charset !== 'utf-8' && charset !== 'utf8') {
    return new AppError('media.unsupported', 'Only bodies in UTF-8 are read.', { hint: 'Leave charset out.' });
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return new AppError('request.unreadable', 'The body is not UTF-8.', {
      hint: 'Save it in UTF-8 and send it again.',
    });
  }
}

/** JSON, its depth checked first: what recurses over it later must not be the first to suffer. */
export function readJson(text: string, depthLimit: number): { value: unknown } | AppError {
  const tooDeep = checkDepth(text, depthLimit);
  if (tooDeep !== undefined) return tooDeep;
  try {
    return { value: JSON.parse(text) };
  } catch (error) {
    return new AppError('request.unreadable', `The body is not JSON: ${placeOf(error)}.`);
  }
}

export function checkDepth(text: string, depthLimit: number): AppError | undefined {
  if (depthOf(text) <= depthLimit) return undefined;
  return new AppError('body.tooLarge', `The body is nested deeper than ${depthLimit} levels.`);
}

/** JSON.parse says where it stopped and quotes what it saw there; only the place is repeated. */
function placeOf(error: unknown): string {
  const place = /position \d+(?: \(line \d+ column \d+\))?/.exec(String(error))?.[0];
  return place === undefined ? 'it ends too early or is not well formed' : `it is not well formed at ${place}`;
}

/** How deep brackets nest outside of strings: exact for JSON. */
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
