import { z } from 'zod';
import {
  closed,
  duration,
  limits,
  list,
  maxDuration,
  name,
  text,
  unit,
  variables,
  whole,
  word,
} from './schema-fields.ts';

/** spec/deployment-file.md §6. Which of the fields go together is for rules-steps.ts. */

const modes = ['manual', 'automatic'] as const;

export const pause = closed({
  duration: whole(1, maxDuration).optional(),
  unit: unit().optional(),
  untilApproved: z.boolean().optional(),
  requiresRoles: list(name(), limits.names).optional(),
  approvalExpiration: duration().optional(),
});

/** `unit: none` is how clients write that there is no duration. */
const pauseWithoutNone = z.preprocess((value) => {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || 'duration' in value) return value;
  return 'unit' in value && isNone(value.unit)
    ? Object.fromEntries(Object.entries(value).filter(([key]) => key !== 'unit'))
    : value;
}, pause);

export function isNone(unitWord: unknown): boolean {
  return typeof unitWord === 'string' && unitWord.toLowerCase() === 'none';
}

export const runWebhook = closed({
  name: name(),
  context: variables().optional(),
  // A template of the old client writes it; it means nothing.
  unit: z.unknown().optional(),
});

export const analysisStep = closed({
  queries: list(name(), limits.queries, 1),
  interval: whole(1, maxDuration),
  units: unit().optional(),
  unit: unit().optional(),
  numberOfJudgmentRuns: whole(1, maxDuration),
  rollBackMode: word(modes, true).optional(),
  rollForwardMode: word(modes, true).optional(),
  lookbackMethod: word(['growing', 'sliding'], true).optional(),
  abortOnFailedJudgment: z.boolean().optional(),
  metricProviderName: name().optional(),
  context: variables().optional(),
});

export const exposeServices = closed({ services: list(name(), limits.names, 1), ttl: duration().optional() });

export const setWeight = closed({ weight: whole(0, 100, 'weight.range') });

const steps = {
  setWeight: setWeight.optional(),
  pause: pauseWithoutNone.optional(),
  analysis: analysisStep.optional(),
  runWebhook: runWebhook.optional(),
  exposeServices: exposeServices.optional(),
};
/** Every kind of step there is, wherever it is allowed. */
export const stepKinds = Object.keys(steps) as (keyof typeof steps)[];

export const canaryStep = closed(steps);
const { setWeight: _, ...blueGreenSteps } = steps;
export const blueGreenStep = closed(blueGreenSteps);
const { exposeServices: __, ...constraintSteps } = blueGreenSteps;
export const constraintStep = closed(constraintSteps);

export const strategy = closed({
  canary: closed({ steps: list(canaryStep, limits.steps) }).optional(),
  blueGreen: closed({
    redirectTrafficAfter: list(blueGreenStep, limits.steps).optional(),
    shutDownOldVersionAfter: list(blueGreenStep, limits.steps).optional(),
    activeService: text().optional(),
    previewService: text().optional(),
  }).optional(),
});
