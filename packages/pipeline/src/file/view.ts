import { isRecord } from '../is-record.ts';
import type { Path } from './source.ts';

/**
 * A value of the file with its path, for the rules that look across fields. Reading through a view never fails: what is
 * missing or has the wrong type is simply not there, because the schema says so already, and all mistakes are told at once.
 */
export type View = { value: unknown; path: Path };

/** Null means absent everywhere in the file (spec/deployment-file.md §1): drops such keys. Entries of lists stay. */
export function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object' || value === null) return value;
  const kept: [string, unknown][] = [];
  for (const [key, field] of Object.entries(value)) if (field !== null) kept.push([key, withoutNulls(field)]);
  return Object.fromEntries(kept);
}

/** The value at these keys below, undefined where there is none. */
export function at(view: View, ...keys: (string | number)[]): View {
  let { value } = view;
  for (const key of keys) {
    if (typeof key === 'number') value = Array.isArray(value) ? value[key] : undefined;
    else value = isRecord(value) && Object.hasOwn(value, key) ? value[key] : undefined;
  }
  return { value, path: [...view.path, ...keys] };
}

export function exists(view: View): boolean {
  return view.value !== undefined;
}

/** The entries of a mapping; none if it is not one. */
export function entries(view: View): [string, View][] {
  if (!isRecord(view.value)) return [];
  return Object.entries(view.value).map(([key, value]) => [key, { value, path: [...view.path, key] }]);
}

/** The entries of a list; none if it is not one. */
export function items(view: View): View[] {
  if (!Array.isArray(view.value)) return [];
  return view.value.map((value, index) => ({ value, path: [...view.path, index] }));
}

export function text(view: View): string | undefined {
  return typeof view.value === 'string' ? view.value : undefined;
}

export function keys(view: View): string[] {
  return isRecord(view.value) ? Object.keys(view.value) : [];
}
