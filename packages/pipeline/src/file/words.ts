import type { Path } from './source.ts';

/** RFC 6901. */
export function toPointer(path: Path): string {
  return path.map((key) => `/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

/** A path as people write it: `strategies.slow.canary.steps[0]`. */
export function toWords(path: Path): string {
  if (path.length === 0) return 'the deployment file';
  let words = '';
  for (const key of path) {
    if (typeof key === 'number') words += `[${key}]`;
    else if (/^[\w-]+$/.test(key)) words += `${words === '' ? '' : '.'}${shorten(key)}`;
    else words += `["${shorten(key)}"]`;
  }
  return words;
}

/** A word of the user's for a message: short, on one line, and without what would turn the text around it. */
export function shorten(word: string): string {
  const line = word.replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '?');
  return line.length > 60 ? `${line.slice(0, 57).replace(/[\ud800-\udbff]$/, '')}...` : line;
}
