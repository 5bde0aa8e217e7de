/** Ends an exhaustive switch: an unknown kind, state or event is an error by name, never a default (design.md, law 10). */
export function assertNever(value: never): never {
  throw new Error(`unknown case: ${JSON.stringify(value)}`);
}
