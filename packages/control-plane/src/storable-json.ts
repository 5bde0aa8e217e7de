/**
 * JSON that Postgres takes as jsonb. It refuses NUL and halves of surrogate pairs, in strings and keys alike, and with one of
 * them a whole commit; text of clusters may hold both. They become U+FFFD. Whatever goes to a function of the database as
 * JSON is written by this one.
 *
 * @param value without cycles
 */
export function storableJson(value: unknown): string {
  const json = JSON.stringify(value);
  if (!json.includes('\\u')) return json;
  // JSON.stringify escapes halves, and only them, among the surrogates (ECMA-262, QuoteJSONString). Every escape is matched,
  // so that the backslash of an escaped backslash begins none.
  return json.replace(/\\(?:u0000|ud[89a-f][0-9a-f]{2}|.)/g, (escaped) =>
    /^\\u(?:0000|d[89a-f])/.test(escaped) ? '\ufffd' : escaped,
  );
}

/** A value as it is read again once it was stored. */
export function asStored(value: unknown): unknown {
  return JSON.parse(storableJson(value));
}
