import { z } from 'zod';
import {
  closed,
  duration,
  limits,
  list,
  name,
  scalarText,
  table,
  text,
  variables,
  whole,
  word,
} from './schema-fields.ts';
import { constraintStep, strategy } from './schema-strategies.ts';

/**
 * The shape of a deployment file of kind `kubernetes` (spec/deployment-file.md §2-10), nulls already dropped. Rules across
 * fields are in rules*.ts, so that they are told even where the shape is broken as well.
 */

const target = closed({
  account: text().optional(),
  namespace: text().optional(),
  strategy: name().optional(),
  constraints: closed({
    dependsOn: list(name(), limits.targets).optional(),
    beforeDeployment: list(constraintStep, limits.steps).optional(),
    afterDeployment: list(constraintStep, limits.steps).optional(),
  }).optional(),
});

const manifest = closed({
  path: text().optional(),
  inline: text().optional(),
  targets: list(name(), limits.targets, 1).optional(),
});

const deploymentConfig = closed({
  timeout: duration().optional(),
  keepDeploymentObject: z.boolean().optional(),
  ifDeploymentInProgress: closed({ strategy: word(['reject', 'enqueueOne']).optional() }).optional(),
});

const analysis = closed({
  defaultMetricProviderName: name().optional(),
  queries: list(
    closed({
      name: name(),
      queryTemplate: text().min(1),
      upperLimit: z.number().optional(),
      lowerLimit: z.number().optional(),
      metricProviderName: name().optional(),
      // A dead field of old files.
      aggregationMethod: z.unknown().optional(),
    }),
    limits.queries,
  ).optional(),
});

const webhook = closed({
  name: name(),
  method: word(['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS'], true).optional(),
  uriTemplate: text().min(1),
  networkMode: word(['direct', 'remoteNetworkAgent']).optional(),
  isRemoteNetworkAgent: z.boolean().optional(),
  agentIdentifier: name().optional(),
  headers: list(closed({ key: name(), value: scalarText() }), limits.variables).optional(),
  bodyTemplate: z
    .preprocess(
      (value) => (typeof value === 'string' ? { inline: value } : value),
      closed({ inline: text().optional() }),
    )
    .optional(),
  retryCount: whole(0, Number.MAX_SAFE_INTEGER).optional(),
  disableCallback: z.boolean().optional(),
});

const trafficItem = closed({
  targets: list(name(), limits.targets).optional(),
  smi: list(
    closed({ rootServiceName: name(), canaryServiceName: name().optional(), trafficSplitName: name().optional() }),
    limits.trafficEntries,
  ).optional(),
  istio: list(
    closed({
      virtualService: closed({ name: name(), httpRouteName: name().optional() }),
      destinationRule: closed({
        name: name().optional(),
        activeSubsetName: name().optional(),
        canarySubsetName: name().optional(),
      }).optional(),
    }),
    limits.trafficEntries,
  ).optional(),
  kubernetes: list(
    closed({ activeService: name(), previewService: name().optional() }),
    limits.trafficEntries,
  ).optional(),
});

export const deploymentFile = z.object({
  version: text().optional(),
  kind: text().optional(),
  application: name(),
  description: text().optional(),
  context: variables().optional(),
  contextOverrides: variables().optional(),
  deploymentConfig: deploymentConfig.optional(),
  targets: table(target, limits.targets, 1),
  manifests: list(manifest, limits.manifests, 1),
  strategies: table(strategy, limits.strategies).optional(),
  analysis: analysis.optional(),
  webhooks: list(webhook, limits.webhooks).optional(),
  trafficManagement: list(trafficItem, limits.trafficItems).optional(),
  targetFilters: list(closed({ includeTarget: name() }), limits.targets).optional(),
  files: table(list(text(), limits.files), limits.files).optional(),
  sourceControl: z.record(z.string(), z.unknown()).optional(),
  account: text().optional(),
});

/** What a valid file says, defaults not yet filled in. */
export type DeploymentFile = z.output<typeof deploymentFile>;
