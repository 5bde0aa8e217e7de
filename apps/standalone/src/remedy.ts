/** A failure told to the person at the terminal: what is wrong, and what to do about it. Printed without a stack. */
export class Remedy extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'Remedy';
  }
}

/** The code of a system error such as EADDRINUSE, if it is one. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
