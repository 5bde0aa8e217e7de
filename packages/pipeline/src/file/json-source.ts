import {
  type Budget,
  chargeKey,
  chargeText,
  chargeValue,
  type LocatedDocument,
  type Place,
  type Position,
  type SourceProblem,
  sourceLimits,
} from './source.ts';
import { shorten } from './words.ts';

type Reader = {
  text: string;
  budget: Budget;
  at: number;
  line: number;
  /** Where the current line begins. */
  lineStart: number;
  order: number;
  path: (string | number)[];
  problems: SourceProblem[];
  /** Whether places are worth telling; see readJson. */
  located: boolean;
};

/** Ends the reading: what follows cannot be made sense of, or is too much. */
class Stopped extends Error {}

/**
 * Reads a JSON text (RFC 8259) with the place of every value. Unlike JSON.parse it refuses a key that appears twice in one
 * mapping and a whole number that would be rounded. All such problems are collected; a syntax error or a limit ends the
 * reading. No message quotes a value. Text on one line was written by a program, from a file that people know by other
 * lines: it gets no positions, only problems of the reading itself have them.
 */
export function readJson(text: string, budget: Budget): { document: LocatedDocument } | { problems: SourceProblem[] } {
  if (text.length > sourceLimits.characters) {
    const message = `the text is longer than ${sourceLimits.characters / 1024 / 1024} million characters`;
    return { problems: [{ path: [], message }] };
  }
  const located = text.trim().includes('\n');
  const reader: Reader = { text, budget, at: 0, line: 1, lineStart: 0, order: 0, path: [], problems: [], located };
  try {
    skipSpace(reader);
    const document = readValue(reader);
    skipSpace(reader);
    if (reader.at < text.length) stop(reader, 'something stands after the end of the JSON');
    return reader.problems.length > 0 ? { problems: reader.problems } : { document };
  } catch (error) {
    if (!(error instanceof Stopped)) throw error;
    return { problems: reader.problems };
  }
}

function here({ at, line, lineStart }: Reader): Position {
  return { line, column: at - lineStart + 1 };
}

function refuse(reader: Reader, message: string, position: Position): void {
  reader.problems.push({ message, path: [...reader.path], position });
  const { values, characters } = reader.budget;
  if (values < 0 || characters < 0 || reader.problems.length >= maxProblems) throw new Stopped();
}

/** As of YAML: one mistake can make thousands. */
const maxProblems = 20;

function stop(reader: Reader, message: string): never {
  reader.problems.push({ message, path: [], position: here(reader) });
  throw new Stopped();
}

function skipSpace(reader: Reader): void {
  for (; reader.at < reader.text.length; reader.at += 1) {
    const code = reader.text.charCodeAt(reader.at);
    if (code === 0x0a) {
      reader.line += 1;
      reader.lineStart = reader.at + 1;
    } else if (code !== 0x20 && code !== 0x0d && code !== 0x09) return;
  }
}

function readValue(reader: Reader): LocatedDocument {
  const position = here(reader);
  const place: Place = { order: reader.order++ };
  if (reader.located) place.value = position;
  const problem = chargeValue(reader.path.length, reader.budget);
  if (problem !== undefined) {
    refuse(reader, problem, position);
    // Deeper than allowed: nothing may recurse into it.
    throw new Stopped();
  }
  switch (reader.text[reader.at]) {
    case '{':
      return readMapping(reader, place);
    case '[':
      return readList(reader, place);
    case '"': {
      const value = readString(reader);
      const wrong = chargeText(value, reader.budget);
      if (wrong !== undefined) refuse(reader, wrong, position);
      return { value, place };
    }
    default:
      return { value: readWord(reader, position), place };
  }
}

function readMapping(reader: Reader, place: Place): LocatedDocument {
  const children = new Map<string | number, Place>();
  const fields = new Map<string, unknown>();
  reader.at += 1;
  skipSpace(reader);
  for (let first = true; reader.text[reader.at] !== '}'; first = false) {
    if (!first) expect(reader, ',', 'a comma or } is missing');
    const position = here(reader);
    if (reader.text[reader.at] !== '"') stop(reader, 'a key in double quotes is missing');
    const key = readString(reader);
    reader.path.push(key);
    const wrong = fields.has(key)
      ? `the key '${shorten(key)}' appears twice in one mapping`
      : chargeKey(key, reader.budget);
    if (wrong !== undefined) refuse(reader, wrong, position);
    skipSpace(reader);
    expect(reader, ':', 'a colon is missing after a key');
    const child = readValue(reader);
    if (reader.located) child.place.key = position;
    fields.set(key, child.value);
    children.set(key, child.place);
    reader.path.pop();
    skipSpace(reader);
  }
  reader.at += 1;
  return { value: Object.fromEntries(fields), place: { ...place, children } };
}

function readList(reader: Reader, place: Place): LocatedDocument {
  const children = new Map<string | number, Place>();
  const items: unknown[] = [];
  reader.at += 1;
  skipSpace(reader);
  for (let index = 0; reader.text[reader.at] !== ']'; index += 1) {
    if (index > 0) expect(reader, ',', 'a comma or ] is missing');
    reader.path.push(index);
    const child = readValue(reader);
    items.push(child.value);
    children.set(index, child.place);
    reader.path.pop();
    skipSpace(reader);
  }
  reader.at += 1;
  return { value: items, place: { ...place, children } };
}

/** The mark, and the space after it. */
function expect(reader: Reader, mark: string, otherwise: string): void {
  if (reader.text[reader.at] !== mark) stop(reader, otherwise);
  reader.at += 1;
  skipSpace(reader);
}

function readString(reader: Reader): string {
  const { text, at } = reader;
  let end = at + 1;
  let escaped = false;
  for (; end < text.length; end += 1) {
    const code = text.charCodeAt(end);
    if (code === 0x22) break;
    if (code < 0x20) {
      reader.at = end;
      stop(reader, 'a text holds a line break or control character; write it as an escape (\\n), or close the quotes');
    }
    if (code === 0x5c) {
      escaped = true;
      end += 1;
    }
  }
  if (end >= text.length) stop(reader, 'a text is not closed by a double quote');
  reader.at = end + 1;
  if (!escaped) return text.slice(at + 1, end);
  try {
    return JSON.parse(text.slice(at, end + 1)) as string;
  } catch {
    reader.at = at;
    return stop(reader, 'a text has an escape (\\) that JSON does not know');
  }
}

/** A number, true, false or null. */
function readWord(reader: Reader, position: Position): unknown {
  const pattern = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.+-])|(?:true|false|null)(?!\w)/y;
  pattern.lastIndex = reader.at;
  const [word] = pattern.exec(reader.text) ?? [];
  if (word === undefined) {
    const isEnd = reader.at >= reader.text.length;
    stop(reader, isEnd ? 'it ends too early' : 'something stands where JSON expects a value; are quotes missing?');
  }
  reader.at += word.length;
  const value: unknown = JSON.parse(word);
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) refuse(reader, 'a number must be finite', position);
    // Rounding would change without a word what the user wrote.
    else if (/^-?\d+$/.test(word) && !Number.isSafeInteger(value))
      refuse(reader, 'a whole number is too large to be carried exactly; put it in quotes if it is a text', position);
  }
  return value;
}
