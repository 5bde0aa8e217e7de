/** Words that people have seen elsewhere, in old examples or other tools, and what they mean here. */
const knownMistakes: Record<string, { word: string; why?: string }> = {
  approvalDuration: { word: 'approvalExpiration' },
  shutdownOldVersionAfter: { word: 'shutDownOldVersionAfter' },
  dependencies: { word: 'dependsOn' },
  environments: { word: 'targets' },
  trafficSplit: { word: 'smi' },
};

/**
 * `did you mean 'x'?` for a word that is near one of the candidates, else undefined. Near: equal but for case, one the
 * beginning of the other, or few letters apart.
 */
export function didYouMean(word: string, candidates: Iterable<string>): string | undefined {
  const all = [...candidates];
  const known = Object.hasOwn(knownMistakes, word) ? knownMistakes[word]?.word : undefined;
  const near = known !== undefined && all.includes(known) ? known : nearest(word, all);
  return near === undefined ? undefined : `did you mean '${near}'?`;
}

/**
 * The candidate that a word is a slip of the pen for, else undefined: one or two letters apart, and not just longer. Stricter
 * than `didYouMean`, for words that may well be right as they are.
 */
export function slipOf(word: string, candidates: Iterable<string>): string | undefined {
  const all = [...candidates];
  if (word.length > 64 || all.includes(word)) return undefined;
  return all.find((candidate) => {
    if (candidate.length > 64) return false;
    const allowed = Math.min(2, Math.floor(Math.max(word.length, candidate.length) / 3));
    return editDistance(word.toLowerCase(), candidate.toLowerCase()) <= allowed;
  });
}

function nearest(word: string, candidates: readonly string[]): string | undefined {
  if (word.length === 0 || word.length > 64) return undefined;
  const lower = word.toLowerCase();
  let best: { candidate: string; distance: number } | undefined;
  for (const candidate of candidates) {
    if (candidate.length > 64) continue;
    const other = candidate.toLowerCase();
    const isBeginning = lower.length >= 4 && other.length >= 4 && (other.startsWith(lower) || lower.startsWith(other));
    const distance = lower === other ? 0 : isBeginning ? 1 : editDistance(lower, other);
    const allowed = Math.min(3, Math.floor(Math.max(lower.length, other.length) / 3));
    if (distance <= allowed && (best === undefined || distance < best.distance)) best = { candidate, distance };
  }
  return best?.candidate;
}

/** Levenshtein distance in which two swapped neighbours count once (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = a[i - 1] === b[j - 1] ? 0 : 1;
      let cost = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + change);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        cost = Math.min(cost, beforeLast[j - 2]! + 1);
      row.push(cost);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length]!;
}

/** How to write a value whose type is wrong, where that can be told. */
export function typeHint(key: string | number | undefined, expected: string, value: unknown): string | undefined {
  if (key === 'setWeight' && typeof value === 'number') return `write setWeight: {weight: ${value}}`;
  if (expected === 'list' && typeof value === 'object' && value !== null)
    return "it is a list: start each entry with '- '";
  if (expected === 'list' && typeof value === 'string') return 'it is a list: put the value in [ ]';
  if (expected === 'boolean' && typeof value === 'string' && /^(yes|on|true|"true")$/i.test(value))
    return 'write true, without quotes';
  if (expected === 'boolean' && typeof value === 'string' && /^(no|off|false)$/i.test(value))
    return 'write false, without quotes';
  if (expected.includes('number') && typeof value === 'string' && /^\d+$/.test(value))
    return 'write the number without quotes';
  if (expected === 'text' && (typeof value === 'number' || typeof value === 'boolean')) return 'put it in quotes';
  return undefined;
}
