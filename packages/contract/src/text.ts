import { z } from 'zod';

/** Text that can be stored and looked up: bounded, without NUL and without halves of surrogate pairs. */
export function text(maxLength: number) {
  return z
    .string()
    .max(maxLength)
    .refine((value) => !value.includes('\0') && value.isWellFormed(), 'it holds a character that cannot be stored');
}

/** An id as it is stored: a UUID is one whatever the case of its letters (RFC 9562 §4), and ciphertexts are bound to it. */
export function storedId(id: string): string {
  return /^[0-9a-f-]{36}$/i.test(id) ? id.toLowerCase() : id;
}

/** The id of a row, as part of a path. */
export const idText = text(200).transform(storedId);

/**
 * Text of others, fit to be shown and stored: control, invisible formatting and line-breaking characters and halves of
 * surrogate pairs become a space (they include line feeds, escapes and the bidirectional overrides that make text read as
 * something else), and it is cut at so many code points, never inside of one.
 */
export function shownText(value: string, maxLength: number): string {
  const plain = value
    // A code point is two units at most; what is stripped may leave room for more, which costs nothing to look at.
    .slice(0, maxLength * 4)
    .replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]+/gu, ' ')
    .trim();
  const points = Array.from(plain);
  return points.length > maxLength ? `${points.slice(0, maxLength - 1).join('')}…` : plain;
}
