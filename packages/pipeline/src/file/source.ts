/** Where something lies in a document: keys of mappings and indexes of lists, from the root. */
export type Path = readonly (string | number)[];

/** Both from 1. */
export type Position = { line: number; column: number };

/** The place of one value. `order` counts values in the order of the document. Positions may be missing; see json-source.ts. */
export type Place = {
  order: number;
  key?: Position;
  value?: Position;
  /** Of a text written as a literal block (`|`): the line that its first line stands on, and how far all are indented. */
  block?: { line: number; indent: number };
  children?: Map<string | number, Place>;
};

/** A document as plain JSON, and where each value of it was written. */
export type LocatedDocument = { value: unknown; place: Place };

/** Why a text or value could not be taken as a document. Never quotes a value, which may be a secret. `document` counts from 1. */
export type SourceProblem = { message: string; path: Path; position?: Position; document?: number };

/**
 * What reading may use up. One budget is shared by a deployment file and all its manifests, so that aliases cannot make
 * a small text large. Counts fall as they are used.
 */
export type Budget = { values: number; characters: number; lexemes: number; documents: number; aliases: number };

export const sourceLimits = {
  /** Of one text. */
  characters: 2 * 1024 * 1024,
  /** Of all texts together, aliases resolved. */
  values: 200_000,
  resolvedCharacters: 8 * 1024 * 1024,
  /** Words, marks and spaces of all YAML texts; what the YAML library's time grows with. A dense text of 1 MiB has 250,000. */
  lexemes: 400_000,
  /** Of all YAML texts. Each document and each alias costs the library many times what a value does. */
  documents: 2_000,
  aliases: 20_000,
  depth: 100,
  keyCharacters: 1024,
} as const;

export function createBudget(): Budget {
  return {
    values: sourceLimits.values,
    characters: sourceLimits.resolvedCharacters,
    lexemes: sourceLimits.lexemes,
    documents: sourceLimits.documents,
    aliases: sourceLimits.aliases,
  };
}

export type Located = { order: number; position?: Position; block?: NonNullable<Place['block']> };

/**
 * The place of a path, or of the nearest value above it that exists. A mapping or list is best pointed at by its key,
 * a scalar by itself.
 */
export function locate(document: LocatedDocument, path: Path, onKey: boolean): Located {
  let place = document.place;
  let found = true;
  for (const key of path) {
    const next = place.children?.get(key);
    if (next === undefined) {
      found = false;
      break;
    }
    place = next;
  }
  const byKey = onKey || !found || place.children !== undefined;
  const position = byKey ? (place.key ?? place.value) : (place.value ?? place.key);
  const { order, block } = place;
  return { order, ...(position && { position }), ...(found && block && { block }) };
}

/** Takes one string from the budget; says what is wrong with it, if anything. */
export function chargeText(text: string, budget: Budget): string | undefined {
  budget.characters -= text.length;
  if (budget.characters < 0) return tooLarge;
  // Databases refuse both in text and JSON.
  if (text.includes('\0') || !text.isWellFormed())
    return 'a text holds a character that cannot be stored (NUL or half of a surrogate pair)';
  return undefined;
}

/** Takes one key from the budget; says what is wrong with it, if anything. */
export function chargeKey(key: string, budget: Budget): string | undefined {
  if (key.length > sourceLimits.keyCharacters) return `a key is longer than ${sourceLimits.keyCharacters} characters`;
  if (key === '__proto__') return 'the key __proto__ cannot be used';
  return chargeText(key, budget);
}

/** Takes one value at this depth from the budget; says why it is refused, if it is. */
export function chargeValue(depth: number, budget: Budget): string | undefined {
  if (depth > sourceLimits.depth)
    return `more than ${sourceLimits.depth} levels of mappings and lists inside each other`;
  budget.values -= 1;
  return budget.values < 0 ? tooLarge : undefined;
}

const tooLarge = `too large: more than ${sourceLimits.values} values or ${sourceLimits.resolvedCharacters / 1024 / 1024} million characters once aliases are resolved`;
