/** What standalone tells the person at the terminal. Structured logs go to a file; this is for reading. */
export type Screen = {
  line(text?: string): void;
  /** A part of the system that has come up: name, what of it matters, and how long it took. */
  part(name: string, detail: string, tookMs?: number): void;
  paint(style: Style, text: string): string;
};

export type Style = 'bold' | 'dim' | 'old' | 'new' | 'good' | 'bad';

const codes: Record<Style, string> = { bold: '1', dim: '2', old: '33', new: '36', good: '32', bad: '31' };

/** @param color whether the reader's terminal shows colours */
export function createScreen(write: (text: string) => void, color: boolean): Screen {
  const paint = (style: Style, text: string) => (color ? `\u001b[${codes[style]}m${text}\u001b[0m` : text);
  const line = (text = '') => write(`${text}\n`);
  return {
    line,
    part(name, detail, tookMs) {
      const took = tookMs === undefined ? '' : `${(tookMs / 1000).toFixed(1)} s`;
      line(`  ${paint('bold', name.padEnd(10))} ${paint('dim', took.padStart(6))}  ${detail}`);
    },
    paint,
  };
}
