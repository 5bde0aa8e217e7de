/**
 * Faults on request. A pod asks for one by its image tag (a tag containing `never-ready`, `bad-image`, `crash` or
 * `slow`) or by annotations of its template; a test that holds the sandbox may also set the knobs.
 */
import type { Pod, Service } from './objects.ts';

/** What becomes of a pod: it is ready after `readyAfterMs` unless held, and crashes after a time if told to. */
export type PodFate =
  | { kind: 'ready'; readyAfterMs: number; crashAfterMs?: number }
  | { kind: 'never-ready' }
  | { kind: 'bad-image' };

export type Faults = {
  /** Milliseconds from scheduling to ready, drawn evenly between the two. */
  readyAfterMs: { min: number; max: number };
  /** Milliseconds that a deleted pod lingers as terminating. */
  graceMs: number;
  /** Milliseconds from a change of pods or Services to the EndpointSlices. */
  endpointLagMs: number;
  /** Milliseconds before every request is looked at. */
  requestDelayMs: number;
  /** A say over every pod before its image and annotations are asked; null leaves it to them. */
  podFate: null | ((pod: Pod) => PodFate | null);
};

export function noFaults(): Faults {
  return { readyAfterMs: { min: 50, max: 150 }, graceMs: 100, endpointLagMs: 0, requestDelayMs: 0, podFate: null };
}

export const readyAfterAnnotation = 'sandbox.cdaas/ready-after';
export const crashAfterAnnotation = 'sandbox.cdaas/crash-after';
export const endpointLagAnnotation = 'sandbox.cdaas/endpoint-lag';

const slowMs = 3_000;
const crashMs = 1_000;

export function fateOf(pod: Pod, faults: Faults): PodFate {
  const decided = faults.podFate?.(pod);
  if (decided) return decided;
  const tags = pod.spec.containers.map(({ image }) => tagOf(image)).join(' ');
  if (tags.includes('never-ready')) return { kind: 'never-ready' };
  if (tags.includes('bad-image')) return { kind: 'bad-image' };
  const { min, max } = faults.readyAfterMs;
  const annotations = pod.metadata.annotations ?? {};
  const usualMs = tags.includes('slow') ? slowMs : min + Math.random() * (max - min);
  const readyAfterMs = parseDuration(annotations[readyAfterAnnotation]) ?? usualMs;
  const crashAfterMs =
    parseDuration(annotations[crashAfterAnnotation]) ?? (tags.includes('crash') ? crashMs : undefined);
  return { kind: 'ready', readyAfterMs, ...(crashAfterMs === undefined ? {} : { crashAfterMs }) };
}

export function endpointLagOf(service: Service, faults: Faults): number {
  return parseDuration(service.metadata.annotations?.[endpointLagAnnotation]) ?? faults.endpointLagMs;
}

/** The tag of an image reference; `latest` where it has none. A port of the registry is no tag. */
export function tagOf(image: string): string {
  const last = image.slice(image.lastIndexOf('/') + 1).split('@')[0] ?? '';
  const colon = last.indexOf(':');
  return colon < 0 ? 'latest' : last.slice(colon + 1);
}

/** `250ms`, `3s`, `2m` in milliseconds; undefined for anything else. */
export function parseDuration(text: string | undefined): number | undefined {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(text ?? '') ?? [];
  if (!number) return undefined;
  return Number(number) * (unit === 'ms' ? 1 : unit === 's' ? 1_000 : 60_000);
}
