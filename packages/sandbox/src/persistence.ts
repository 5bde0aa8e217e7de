/**
 * The cluster on disk: `snapshot.json` (one line with the resourceVersion counter, then one line for each object) and
 * `changes.log` (one line for each change since). A change is written to the log in one write before it is answered,
 * so that a killed process loses nothing that it confirmed; the page cache is trusted, so a power cut may. A last
 * line that was torn by a crash is dropped: it was never answered.
 */
import { closeSync, existsSync, openSync, readFileSync, renameSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { KubeObject } from './objects.ts';

export type LogRecord = { put: KubeObject; id: string } | { removed: KubeObject; id: string };

export type Loaded = { version: number; objects: { id: string; object: KubeObject }[]; changes: LogRecord[] };

export type ChangeLog = {
  /** Appends one change. `json` is the object as stored after it. */
  append(type: 'put' | 'removed', id: string, json: string): void;
  /** Writes everything to a new snapshot and starts an empty log. */
  compact(version: number, entries: Iterable<{ id: string; json: string }>): void;
  /** Bytes appended since the last compaction. */
  size(): number;
  close(): void;
};

const snapshotName = 'snapshot.json';
const logName = 'changes.log';

/** Reads what an earlier process left. A line that cannot be read anywhere but at the log's end is an error. */
export function loadCluster(dataDir: string): Loaded {
  const loaded: Loaded = { version: 0, objects: [], changes: [] };
  const [head, ...objects] = lines(join(dataDir, snapshotName));
  if (head) loaded.version = (JSON.parse(head) as { version: number }).version;
  for (const line of objects) {
    const { id, json } = parts(line);
    loaded.objects.push({ id, object: JSON.parse(json) as KubeObject });
  }
  for (const line of lines(join(dataDir, logName))) {
    const { type, id, json } = parts(line);
    const object = JSON.parse(json) as KubeObject;
    // A crash between writing the snapshot and emptying the log leaves changes that the snapshot already holds.
    if (Number(object.metadata.resourceVersion) <= loaded.version) continue;
    loaded.changes.push(type === 'put' ? { put: object, id } : { removed: object, id });
  }
  return loaded;
}

/** A line is `<type> <resource id> <json>`. */
function parts(line: string): { type: string; id: string; json: string } {
  const first = line.indexOf(' ');
  const second = line.indexOf(' ', first + 1);
  return { type: line.slice(0, first), id: line.slice(first + 1, second), json: line.slice(second + 1) };
}

/** The complete lines of a file: what follows the last line feed was torn. */
function lines(path: string): string[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8').split('\n').slice(0, -1);
}

export function openChangeLog(dataDir: string): ChangeLog {
  const path = join(dataDir, logName);
  let file = openSync(path, 'a', 0o600);
  let size = 0;
  let closed = false;
  return {
    append(type, id, json) {
      // Whoever opens a file next may get this one's number: a late write must not land there.
      if (closed) throw new Error('the sandbox cluster has stopped');
      const line = Buffer.from(`${type} ${id} ${json}\n`);
      writeAll(file, line);
      size += line.length;
    },
    compact(version, entries) {
      const text = [JSON.stringify({ version })];
      for (const { id, json } of entries) text.push(`put ${id} ${json}`);
      writeFileAtomically(join(dataDir, snapshotName), `${text.join('\n')}\n`);
      closeSync(file);
      file = openSync(path, 'w', 0o600);
      size = 0;
    },
    size: () => size,
    close() {
      closed = true;
      closeSync(file);
    },
  };
}

function writeAll(file: number, bytes: Buffer): void {
  let written = 0;
  while (written < bytes.length) written += writeSync(file, bytes, written);
}

/** Replaces a file so that a crash leaves either the old or the new content, readable by this user only. */
export function writeFileAtomically(path: string, text: string): void {
  const next = `${path}.new`;
  writeFileSync(next, text, { mode: 0o600 });
  renameSync(next, path);
}
