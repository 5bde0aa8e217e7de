import { z } from 'zod';

/** Text that can be stored and looked up: bounded, without NUL and without halves of surrogate pairs. */
export function text(maxLength: number) {
  return z
    .string()
    .max(maxLength)
    .refine((value) => !value.includes('\0') && value.isWellFormed(), 'it holds a character that cannot be stored');
}
