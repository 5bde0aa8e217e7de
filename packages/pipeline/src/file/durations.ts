import { secondsPerUnit, type TimeUnit } from '../plan.ts';
import { at, text, type View } from './view.ts';

export const maxWaitSeconds = 366 * 24 * 3600;

export function toSeconds({ duration, unit }: { duration: number; unit: TimeUnit }): number {
  return duration * secondsPerUnit[unit];
}

/** The seconds of a `{duration, unit}` that is well formed, else undefined. */
export function secondsOf(view: View): number | undefined {
  const { value } = at(view, 'duration');
  const unit = text(at(view, 'unit'))?.toUpperCase();
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 1) return undefined;
  return unit === 'SECONDS' || unit === 'MINUTES' || unit === 'HOURS'
    ? toSeconds({ duration: value, unit })
    : undefined;
}
