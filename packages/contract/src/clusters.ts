import { z } from 'zod';
import { text } from './text.ts';

export const ClusterName = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'up to 63 of a-z, 0-9 and "-", no "-" at either end')
  .describe('The account name that a deployment file gives in `targets.<name>.account`.');

export const MeshConfirmation = z
  .enum(['linkerd-smi', 'stored'])
  .describe(
    'How a weight is known to be in force: `linkerd-smi` waits for the ServiceProfile of the SMI adaptor, `stored` trusts the TrafficSplit as stored.',
  );

/** A DNS label (RFC 1123), as namespaces are named. */
const dnsLabel = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const namespaceName = z.string().regex(dnsLabel, {
  error: ({ input }) =>
    `${JSON.stringify(input)?.slice(0, 100)} is not a namespace name: up to 63 of a-z, 0-9 and "-", no "-" at either end`,
});

/** Such labels, divided by dots (RFC 1123), as most objects may be named. */
const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

const settings = {
  namespaces: z
    .array(namespaceName)
    .max(100)
    .optional()
    .describe('Namespaces that may be deployed to; absent or empty: all.'),
  clusterScopedKinds: z
    .array(text(200).min(1))
    .max(100)
    .optional()
    .describe('Cluster-scoped kinds that may be deployed; default: Namespace only.'),
  meshConfirmation: z
    .enum(['detected', ...MeshConfirmation.options])
    .optional()
    .describe('`detected`, the default, follows what the cluster shows; the others overrule it.'),
};

const parts = {
  server: text(2000).describe('https URL of the API server.'),
  caData: text(500_000).describe('CA certificates that the server is trusted by: PEM, or base64 of PEM.'),
  token: text(20_000).min(1).optional().describe('Bearer token.'),
  clientCertificateData: text(200_000).optional().describe('PEM, or base64 of PEM.'),
  clientKeyData: text(200_000).optional().describe('PEM, or base64 of PEM.'),
};

const kubeconfig = {
  kubeconfig: text(1_000_000).describe(
    'YAML. Only server, CA, and a token or client certificate inside it are used; `exec` and the like are refused.',
  ),
  context: text(500).optional().describe('Default: the current context.'),
};

export const RegisterClusterByParts = z.strictObject({ name: ClusterName, ...settings, ...parts });
export const RegisterClusterByKubeconfig = z.strictObject({ name: ClusterName, ...settings, ...kubeconfig });

export const RegisterCluster = z
  .union([RegisterClusterByParts, RegisterClusterByKubeconfig])
  .meta({ id: 'RegisterCluster' });
export type RegisterCluster = z.infer<typeof RegisterCluster>;

export const ChangeCluster = z
  .strictObject({
    ...settings,
    ...parts,
    server: parts.server.optional(),
    caData: parts.caData.optional(),
    kubeconfig: kubeconfig.kubeconfig.optional(),
    context: kubeconfig.context,
  })
  .refine((change) => Object.values(change).some((value) => value !== undefined), 'it changes nothing')
  .meta({
    id: 'ChangeCluster',
    description: 'What is absent stays. `server` and `caData` can be changed only together with the credential.',
  });
export type ChangeCluster = z.infer<typeof ChangeCluster>;

/** The body of what is only asked for. */
export const NoFields = z.strictObject({}).nullish();

const moment = z.string().describe('ISO 8601.');

export const ClusterState = z
  .enum(['unknown', 'healthy', 'refused', 'unreachable'])
  .describe('`unknown`: not asked yet; `refused`: the credential is not accepted; `unreachable`: no answer.');

export const ClusterHealth = z
  .object({
    state: ClusterState,
    sinceIso8601: moment.describe('When this state began.'),
    checkedAtIso8601: moment.describe('When it was last asked; empty before.'),
    lastSuccessAtIso8601: moment.describe('When it last answered well; empty where it never did.'),
    latencyMs: z.number().int().nullable().describe('Of the last answer.'),
    error: z.string().nullable().describe('What was wrong the last time; null while healthy.'),
    changes: z
      .array(z.object({ state: ClusterState, atIso8601: moment, error: z.string().nullable() }))
      .describe('The latest changes of state, newest first.'),
  })
  .meta({ id: 'ClusterHealth' });

export const ClusterVerification = z
  .object({
    verifiedAtIso8601: moment,
    serverCertificateUntilIso8601: moment,
    caUntilIso8601: moment,
    credentialUntilIso8601: moment.describe('Empty where the credential does not say when it ends.'),
    trafficSplitVersions: z.array(z.string()).describe('All that are served.'),
    meshEvidence: z.string().describe('What the detected mesh confirmation was concluded from.'),
    missing: z
      .array(
        z.object({
          resource: z.string().describe('As RBAC names it: `plural`, or `plural.group`.'),
          verbs: z.array(z.string()),
          namespace: z.string().optional(),
          name: z.string().optional(),
          without: z.string().describe('What does not work without it.'),
        }),
      )
      .describe('Optional rights that the credential lacks.'),
  })
  .meta({ id: 'ClusterVerification' });

/** Credentials go in, never out. Callers who may only deploy see the name alone. */
export const ClusterView = z
  .object({
    name: z.string(),
    server: z.string().optional(),
    version: z.string().optional().describe('Kubernetes version when it was last verified.'),
    credential: z.enum(['token', 'clientCertificate']).optional(),
    namespaces: z.array(z.string()).optional(),
    clusterScopedKinds: z.array(z.string()).optional(),
    meshConfirmation: MeshConfirmation.optional(),
    meshConfirmationSetting: z
      .enum(['detected', ...MeshConfirmation.options])
      .optional()
      .describe('Whether `meshConfirmation` follows what is detected, or overrules it.'),
    meshConfirmationDetected: MeshConfirmation.nullable()
      .optional()
      .describe('What the cluster showed when it was last verified; null: not looked at yet.'),
    trafficSplitVersion: z
      .string()
      .nullable()
      .optional()
      .describe('API version of the TrafficSplits that are written there; null: it serves none.'),
    createdAtIso8601: z.string().optional(),
    state: ClusterState.optional(),
    health: ClusterHealth.optional().describe('For one cluster, not in lists.'),
    verification: ClusterVerification.optional().describe('For one cluster, not in lists.'),
  })
  .meta({ id: 'Cluster' });
export type ClusterView = z.infer<typeof ClusterView>;

export const ClusterList = z.object({ clusters: z.array(ClusterView) }).meta({ id: 'ClusterList' });
export const ClusterParams = z.object({ name: text(200) });

/** A query parameter that may be given several times. */
const several = (item: z.ZodType<string>, most: number) =>
  z
    .preprocess((given) => (given === undefined ? [] : Array.isArray(given) ? given : [given]), z.array(item).max(most))
    .transform((list) => [...new Set(list)]);

export const RbacQuery = z.strictObject({
  namespace: several(namespaceName, 100).describe('A namespace that will be deployed to; several; none: all.'),
  serviceAccount: z
    .string()
    .max(253)
    .regex(subdomain, 'it is not a name of a ServiceAccount: parts of a-z, 0-9 and "-", divided by single dots')
    .default('cdaas')
    .describe('Whose token will be registered; it is made.'),
  serviceAccountNamespace: namespaceName.default('cdaas').describe('Where that is; it is made.'),
  kind: several(text(300).min(1), 50).describe(
    'A kind that deployment files bring along besides Deployments and Services: `ConfigMap`, or `plural.group` of a custom one.',
  ),
});
export type RbacQuery = z.infer<typeof RbacQuery>;
