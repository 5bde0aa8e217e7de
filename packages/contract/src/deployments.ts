import { deploymentStatuses } from '@cdaas/pipeline/deployment-state.ts';
import { z } from 'zod';
import { StepStatus } from './pipelines.ts';
import { idText, text } from './text.ts';

/** What a deployment is at beneath the statuses that clients in use know. */
export const DeploymentPhase = z.enum(deploymentStatuses);
export type DeploymentPhase = z.infer<typeof DeploymentPhase>;

export const DeploymentParams = z.object({ id: idText });
export const StepParams = z.object({ id: idText, ref: text(500) });

export const CanaryStep = z
  .object({
    ref: z.string(),
    type: z.enum(['setWeight', 'pause']),
    status: StepStatus,
    dependsOn: z.array(z.string()),
    error: z.string().nullable(),
    deploymentKey: z.string().nullable().describe('The Deployment that a setWeight step moves.'),
    setWeight: z.number().int().optional(),
    pause: z
      .object({
        duration: z.number().optional(),
        unit: z.string().optional(),
        untilApproved: z.boolean().optional(),
        approvalExpirationSeconds: z.number().nullable().optional(),
        approvedBy: z.string().optional(),
      })
      .optional(),
    startedAtIso8601: z.string(),
    completedAtIso8601: z.string(),
  })
  .meta({ id: 'CanaryStep' });
export type CanaryStep = z.infer<typeof CanaryStep>;

/** spec/behaviour.md §14. Moments that have not come are empty strings. */
export const DeploymentView = z
  .object({
    id: z.string(),
    parentPipelineId: z.string(),
    application: z.string(),
    environment: z.string(),
    account: z.string(),
    namespace: z.string(),
    status: StepStatus,
    phase: DeploymentPhase,
    waitingFor: z.string().nullable().describe('What the run waits for, in words.'),
    error: z.string().nullable().describe('Why it failed or was ended; set from the moment the roll back begins.'),
    warnings: z.array(z.string()),
    leftInCluster: z.array(z.string()).describe('What was left behind, in words and kubectl lines.'),
    startedAtIso8601: z.string(),
    completedAtIso8601: z.string(),
    kubernetes: z.object({
      strategy: z.enum(['canary']),
      canary: z.object({
        step: z.number().int().describe('Steps that are done.'),
        totalSteps: z.number().int(),
        setWeight: z
          .number()
          .int()
          .nullable()
          .describe('Share of traffic of the new versions that is in force everywhere, in percent.'),
        traffic: z
          .array(
            z.object({ service: z.string(), deploymentKey: z.string().nullable(), setWeight: z.number().nullable() }),
          )
          .describe('The same by root Service; `deploymentKey` is null until the preflight saw where it leads.'),
        steps: z.array(CanaryStep),
      }),
      deployedObjects: z
        .array(z.object({ apiVersion: z.string(), kind: z.string(), namespace: z.string(), name: z.string() }))
        .describe('What the run created or changed and has not taken back.'),
    }),
  })
  .meta({ id: 'Deployment' });
export type DeploymentView = z.infer<typeof DeploymentView>;

/** The request was taken; what it leads to shows in the deployment and its events. `status` is that of the moment. */
export const ActionAnswer = z
  .object({
    id: z.string(),
    accepted: z.enum(['approve', 'resume', 'rollback']),
    status: StepStatus,
    phase: DeploymentPhase,
  })
  .meta({ id: 'ActionAnswer' });
export type ActionAnswer = z.infer<typeof ActionAnswer>;
