import type { UnfoldedEvent } from './ownership.ts';

/**
 * News that the driver of a deployment is handed by who appended it, in the same process, so that the row need not be read
 * again for it. What counts is still what is stored: each append bumped the version by one, and the commit that folds the
 * events compares the version. It fails, and the row is read, unless they were all that was appended since.
 */
export type HandedNews = {
  /** The version of the row that the driver knows, with the bumps of what it was handed. */
  row: { version: number };
  /** What the driver folds next. */
  news: UnfoldedEvent[];
  /** Number of the newest event that `row.version` covers; null where that is not known. */
  newest: number | null;
  /** The events of one append each. */
  handed: UnfoldedEvent[][];
  /** There is news that is not handed: the row must be read. */
  poked: boolean;
};

/** Takes what was handed over into the driver's news. */
export function takeHanded(drive: HandedNews): void {
  for (const events of drive.handed.splice(0)) {
    const last = events.at(-1)?.number;
    if (drive.newest === null || last === undefined) {
      drive.poked = true;
      continue;
    }
    // Read from the row before it was handed over, version and all: counted twice it could stand in for an append that the
    // driver knows nothing of, and that one would be lost.
    if (last <= drive.newest) continue;
    drive.news.push(...events);
    drive.row.version += 1;
    drive.newest = last;
  }
}

/** The number up to which a row that was just read is known by its news. */
export function newestOf(news: readonly UnfoldedEvent[]): number | null {
  return news.at(-1)?.number ?? null;
}
