/*
 * What is compared: the peers' figures and the prototype's, as they were measured on machines of two cores with everything on
 * one (Argo Rollouts and Flagger on the same real control plane), and what is to be reached.
 */

export type RowId = keyof typeof rows;

type Row = { title: string; argo: string; flagger: string; prototype: string; target: string };

export const rows = {
  step: {
    title: 'step to step, no pauses, one canary, p50',
    argo: '17-33 ms',
    flagger: '10.06 s (its tick)',
    prototype: '6.2-7.9 ms',
    target: '<= 8 ms',
  },
  late: {
    title: 'lateness after a 1 s pause, one canary, p50 / max',
    argo: '36-61 / 67-388 ms',
    flagger: '-',
    prototype: '5-6 / 9 ms',
    target: '<= 8 / 20 ms',
  },
  requests: {
    title: 'requests per 10-step canary: all, per weight step',
    argo: '62-91 (147-160 with pauses)',
    flagger: '239',
    prototype: '10 + set-up',
    target: '<= 35, 1',
  },
  '100-at-once': {
    title: '100 canaries at once, 10 x 1 s pauses (ideal 10 s)',
    argo: '148.6 s, 49.5 s raised',
    flagger: '163 s',
    prototype: '10.6-11.1 s',
    target: '<= 11.5 s',
  },
  '500-at-once': {
    title: '500 at once',
    argo: '337 s raised',
    flagger: 'not reached',
    prototype: '12.3-16.9 s',
    target: '<= 17 s',
  },
  '1000-at-once': { title: '1,000 at once', argo: '-', flagger: '-', prototype: '21-25 s', target: '<= 26 s' },
  cpu: {
    title: 'worker CPU for the 100: weights, whole',
    argo: '17-26 s',
    flagger: '17 s',
    prototype: '1.0-1.2 s',
    target: '<= 2 s',
  },
  memory: {
    title: 'worker RSS idle / after 500 / after 2,000',
    argo: '93 / 187 MB',
    flagger: '56 / 116 MB',
    prototype: '110 / 149-238 MB',
    target: '- / <= 200 / <= +20 MB',
  },
  kill: {
    title: 'kill -9 to the next weight, a second worker, p50 / max',
    argo: '0.4 s without leader election, 17.3 s with',
    flagger: '10.4 s',
    prototype: '0.2-0.8 s',
    target: '<= 1 s',
  },
  restart: {
    title: 'kill -9 of the only worker, restarted at once',
    argo: '',
    flagger: '',
    prototype: '0.7-1.0 s',
    target: '<= 2 s',
  },
} as const satisfies Record<string, Row>;

/** A figure as it is shown, and whether the target was reached; null where it has none. */
export type Figure = { text: string; ok: boolean | null };

export function judged(text: string, ok: boolean): Figure {
  return { text, ok };
}

/** The rows that were measured, a column for each queue backend. */
export function table(clusterName: string, columns: ReadonlyMap<string, ReadonlyMap<RowId, Figure>>): string {
  const names = [...columns.keys()];
  const head = [
    '',
    'Argo Rollouts',
    'Flagger',
    'prototype',
    'to reach',
    ...names.map((name) => `${clusterName}, ${name}`),
  ];
  const body = (Object.entries(rows) as [RowId, Row][])
    .filter(([id]) => names.some((name) => columns.get(name)?.has(id)))
    .map(([id, { title, argo, flagger, prototype, target }]) => [
      title,
      argo,
      flagger,
      prototype,
      target,
      ...names.map((name) => shown(columns.get(name)?.get(id))),
    ]);
  const widths = head.map((cell, index) => Math.max(cell.length, ...body.map((row) => row[index]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, index) => cell.padEnd(widths[index] ?? 0)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...body.map(line)].join('\n');
}

function shown(figure: Figure | undefined): string {
  if (figure === undefined) return '';
  return figure.ok === null ? figure.text : `${figure.text} ${figure.ok ? 'ok' : 'MISSED'}`;
}

/** NaN where there are no values. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
