/** Where something lies in a document: keys of mappings and indexes of lists, from the root. */
export type Path = readonly (string | number)[];

/** Both from 1. */
export type Position = { line: number; column: number };

/** The place of one value. `order` counts values in the order of the document. Positions exist where it was YAML. */
export type Place = {
  order: number;
  key?: Position;
  value?: Position;
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
export type Budget = { values: number; characters: number; lexemes: number };

export const sourceLimits = {
  /** Of one text. */
  characters: 2 * 1024 * 1024,
  /** Of all texts together, aliases resolved. */
  values: 200_000,
  resolvedCharacters: 8 * 1024 * 1024,
  /** Words, marks and spaces of all YAML texts; what the YAML library's time grows with. A dense text of 1 MiB has 250,000. */
  lexemes: 400_000,
  depth: 100,
  keyCharacters: 1024,
} as const;

export function createBudget(): Budget {
  return {
    values: sourceLimits.values,
    characters: sourceLimits.resolvedCharacters,
    lexemes: sourceLimits.lexemes,
  };
}

/**
 * The place of a path, or of the nearest value above it that exists. A mapping or list is best pointed at by its key,
 * a scalar by itself.
 */
export function locate(document: LocatedDocument, path: Path, onKey: boolean): { order: number; position?: Position } {
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
  return position === undefined ? { order: place.order } : { order: place.order, position };
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

/** Takes an already parsed JSON value as a document; there are no lines then. The value is copied. */
export function locateJson(
  input: unknown,
  budget: Budget,
): { document: LocatedDocument } | { problems: SourceProblem[] } {
  const problems: SourceProblem[] = [];
  const path: (string | number)[] = [];
  let order = 0;
  // Limits end the walk at once; what is wrong with single texts is collected.
  let stopped = false;
  const refuse = (message: string): void => {
    problems.push({ message, path: [...path] });
    if (budget.values < 0 || budget.characters < 0 || problems.length >= 20) stopped = true;
  };

  const inside = (key: string | number, value: unknown): { value: unknown; place: Place } => {
    path.push(key);
    const child = read(value);
    path.pop();
    return child;
  };

  const read = (value: unknown): { value: unknown; place: Place } => {
    const place: Place = { order: order++ };
    const problem = chargeValue(path.length, budget);
    if (problem !== undefined) refuse(problem);
    if (stopped || problem !== undefined) return { value: null, place };
    if (Array.isArray(value)) {
      const children = new Map<string | number, Place>();
      const items: unknown[] = [];
      for (let index = 0; index < value.length && !stopped; index++) {
        const child = inside(index, value[index]);
        items.push(child.value);
        children.set(index, child.place);
      }
      return { value: items, place: { ...place, children } };
    }
    if (typeof value === 'object' && value !== null) {
      const children = new Map<string | number, Place>();
      const fields: Record<string, unknown> = {};
      for (const [key, field] of Object.entries(value)) {
        if (stopped) break;
        const wrong = chargeKey(key, budget);
        if (wrong !== undefined) {
          refuse(wrong);
          continue;
        }
        const child = inside(key, field);
        fields[key] = child.value;
        children.set(key, child.place);
      }
      return { value: fields, place: { ...place, children } };
    }
    return { value: scalar(value, budget, refuse), place };
  };

  const document = read(input);
  return problems.length > 0 ? { problems } : { document };
}

function scalar(value: unknown, budget: Budget, refuse: (message: string) => void): unknown {
  if (value === null || typeof value === 'boolean') return value;
  if (typeof value === 'string') {
    const wrong = chargeText(value, budget);
    if (wrong !== undefined) refuse(wrong);
    return value;
  }
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  refuse('a value is not JSON');
  return null;
}
