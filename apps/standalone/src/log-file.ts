import { openSync, writeSync } from 'node:fs';
import { systemCode } from './remedy.ts';

/**
 * Where log lines go, each written before the next statement runs. A line that cannot be written (a full disk) is dropped:
 * standing still or ending for want of a log would be worse. It is told once, and again when lines are written anew.
 *
 * @param tell for the person at the terminal
 * @param write in place of the file system's, for tests
 */
export function openLogFile(
  path: string,
  tell: (words: string) => void,
  write: (file: number, text: string) => number = writeSync,
): { write(line: string): void } {
  const file = openSync(path, 'a', 0o600);
  let dropped = 0;
  return {
    write(line) {
      // What was cut short before does not swallow this line's beginning.
      const text = dropped > 0 ? `\n${line}` : line;
      try {
        if (write(file, text) < Buffer.byteLength(text)) throw new Error('one was written in part');
        if (dropped > 0) tell(`${path} takes log lines again; ${dropped} were dropped.`);
        dropped = 0;
      } catch (error) {
        if (dropped === 0) {
          tell(
            `${path} takes no log lines (${systemCode(error) ?? (error instanceof Error ? error.message : String(error))}); they are dropped. Is the disk full?`,
          );
        }
        dropped += 1;
      }
    },
  };
}
