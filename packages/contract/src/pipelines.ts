import { z } from 'zod';
import { idText, text } from './text.ts';

/** Media types that `POST /pipelines/kubernetes` and `POST /pipelines` take (spec/cli-wire-protocol.md §3.2). */
export const fileMediaTypes = {
  json: ['application/json', 'application/vnd.start.kubernetes.pipeline.v2+json'],
  yaml: ['application/yaml', 'application/x-yaml', 'text/yaml', 'application/vnd.start.kubernetes.pipeline.v2+yaml'],
  link: 'application/vnd.start.kubernetes.pipeline.v2.link+json',
} as const;

export const startMediaType = 'application/vnd.start.kubernetes.pipeline.v2+json';

/** Statuses that a pipeline has (spec/behaviour.md §14); a start that is blocked is answered 409 and never stored. */
export const PipelineStatus = z.enum([
  'QUEUED',
  'RUNNING',
  'PAUSED',
  'AWAITING_APPROVAL',
  'SUCCEEDED',
  'FAILED',
  'CANCELLED',
]);
export type PipelineStatus = z.infer<typeof PipelineStatus>;

/** Statuses of steps and targets as clients in use know them. */
export const StepStatus = z.enum([
  'NOT_STARTED',
  'RUNNING',
  'PAUSED',
  'AWAITING_APPROVAL',
  'SUCCEEDED',
  'FAILED',
  'CANCELLED',
]);
export type StepStatus = z.infer<typeof StepStatus>;

/** A query parameter that is a switch: bare, `true` or `1` turns it on. */
const flag = z
  .enum(['', 'true', '1', 'false', '0'])
  .transform((word) => word === '' || word === 'true' || word === '1');

export const StartQuery = z.object({
  dryRun: flag.optional().describe('Validate, resolve and answer 200 without storing anything.'),
});

export const StartHeaders = z.object({
  'idempotency-key': text(255)
    .min(1)
    .optional()
    .describe('Repeating a start with the same key and body within 24 h answers as the first time and starts nothing.'),
});

/** A start that may name an earlier pipeline instead of bringing the file (spec/cli-wire-protocol.md §3.2). */
export const StartOrRedeployHeaders = StartHeaders.extend({
  'x-armory-config-location': text(4_000)
    .optional()
    .describe(
      `With \`${fileMediaTypes.link}\`: \`armory::<address>/pipelines/<id>/config\`, the pipeline to start again.`,
    ),
});

/** What a redeploy changes (spec/cli-wire-protocol.md §3.4). What is null, absent or empty stays as it was. */
export const RedeployRequest = z
  .strictObject({
    account: text(500).nullish().describe('Replaces the account of every target.'),
    targetFilters: z
      .array(z.strictObject({ includeTarget: z.string() }))
      .nullish()
      .describe('The targets to deploy to; an empty list is all of them.'),
    context: z.record(z.string(), z.unknown()).nullish().describe('Added to the context of the file, key by key.'),
  })
  .meta({ id: 'RedeployRequest' });
export type RedeployRequest = z.infer<typeof RedeployRequest>;

export const StartAnswer = z
  .object({
    pipelineId: z.string(),
    deployments: z.array(z.object({ target: z.string(), id: z.string() })),
    warnings: z.array(z.string()),
  })
  .meta({ id: 'StartAnswer' });
export type StartAnswer = z.infer<typeof StartAnswer>;

export const DryRunAnswer = z
  .object({
    dryRun: z.literal(true),
    application: z.string(),
    targets: z.array(
      z.object({
        name: z.string(),
        account: z.string(),
        namespace: z.string(),
        dependsOn: z.array(z.string()).describe('Targets of this start that must have SUCCEEDED before it begins.'),
        workloads: z
          .array(z.object({ name: z.string(), replicas: z.number().int() }))
          .describe('The Deployments of the target.'),
        steps: z.array(z.object({ ref: z.string(), type: z.string(), setWeight: z.number().int().optional() })),
        objects: z.array(z.string()).describe('What is applied besides, as `Kind namespace/name`, in order.'),
      }),
    ),
    warnings: z.array(z.string()),
  })
  .meta({ id: 'DryRunAnswer' });
export type DryRunAnswer = z.infer<typeof DryRunAnswer>;

export const PipelineParams = z.object({ id: idText });

export const ListPipelinesQuery = z.object({
  application: text(500).optional(),
  status: PipelineStatus.optional(),
  limit: z.coerce.number().int().min(1).max(200).default(50),
  cursor: text(200).optional().describe('`next` of the answer before.'),
});
export type ListPipelinesQuery = z.infer<typeof ListPipelinesQuery>;

export const PipelineSummary = z
  .object({
    id: z.string(),
    application: z.string(),
    description: z.string(),
    status: PipelineStatus,
    initiatedBy: z.string(),
    startedAtIso8601: z.string(),
    completedAtIso8601: z.string(),
  })
  .meta({ id: 'PipelineSummary' });
export type PipelineSummary = z.infer<typeof PipelineSummary>;

export const PipelineList = z
  .object({
    pipelines: z.array(PipelineSummary).describe('Newest first.'),
    next: z.string().nullable().describe('Give it as `cursor` for the page after; null on the last one.'),
  })
  .meta({ id: 'PipelineList' });
export type PipelineList = z.infer<typeof PipelineList>;

const commonStep = {
  ref: z.string(),
  status: StepStatus,
  dependsOn: z.array(z.string()),
  constraintFor: z.string(),
};

/**
 * The run of each target, in order; after them the timed pause that a target's strategy is in, for as long as it lasts:
 * clients in use tell a pipeline that is PAUSED by its pause steps (spec/cli-wire-protocol.md §4).
 */
export const PipelineStep = z
  .discriminatedUnion('type', [
    z.object({
      type: z.literal('deployment'),
      ...commonStep,
      deployment: z.object({
        id: z.string(),
        environment: z.string(),
        step: z.number().int(),
        totalSteps: z.number().int(),
      }),
    }),
    z.object({
      type: z.literal('pause'),
      ...commonStep,
      pause: z.object({ duration: z.number(), unit: z.string() }),
    }),
  ])
  .meta({ id: 'PipelineStep' });
export type PipelineStep = z.infer<typeof PipelineStep>;

/** spec/behaviour.md §14, spec/cli-wire-protocol.md §4. Moments that have not come are empty strings. */
export const PipelineView = z
  .object({
    id: z.string(),
    application: z.string(),
    description: z.string(),
    context: z.record(z.string(), z.string()),
    sourceControl: z.record(z.string(), z.unknown()),
    source: z.object({ product: z.string(), version: z.string() }),
    environments: z.array(z.object({ name: z.string(), namespace: z.string(), account: z.string() })),
    status: PipelineStatus,
    initiatedBy: z.string(),
    startedAtIso8601: z.string(),
    completedAtIso8601: z.string(),
    steps: z.array(PipelineStep),
  })
  .meta({ id: 'Pipeline' });
export type PipelineView = z.infer<typeof PipelineView>;

export const PipelineConfig = z
  .record(z.string(), z.unknown())
  .meta({ id: 'PipelineConfig', description: 'The start request as it was sent.' });

/** The request was taken; `status` is that of the moment. */
export const CancelAnswer = z
  .object({ id: z.string(), accepted: z.literal('cancel'), status: PipelineStatus })
  .meta({ id: 'CancelAnswer' });
export type CancelAnswer = z.infer<typeof CancelAnswer>;
