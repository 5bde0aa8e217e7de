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

const namespaceName = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'a namespace name');

const settings = {
  name: ClusterName,
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
  meshConfirmation: MeshConfirmation.optional().describe('Default: what is detected at registration.'),
};

export const RegisterClusterByParts = z.strictObject({
  ...settings,
  server: text(2000).describe('https URL of the API server.'),
  caData: text(500_000).describe('CA certificates that the server is trusted by: PEM, or base64 of PEM.'),
  token: text(20_000).min(1).optional().describe('Bearer token.'),
  clientCertificateData: text(200_000).optional().describe('PEM, or base64 of PEM.'),
  clientKeyData: text(200_000).optional().describe('PEM, or base64 of PEM.'),
});

export const RegisterClusterByKubeconfig = z.strictObject({
  ...settings,
  kubeconfig: text(1_000_000).describe(
    'YAML. Only server, CA, and a token or client certificate inside it are used; `exec` and the like are refused.',
  ),
  context: text(500).optional().describe('Default: the current context.'),
});

export const RegisterCluster = z
  .union([RegisterClusterByParts, RegisterClusterByKubeconfig])
  .meta({ id: 'RegisterCluster' });
export type RegisterCluster = z.infer<typeof RegisterCluster>;

/** Credentials go in, never out. Callers who may only deploy see the name alone. */
export const ClusterView = z
  .object({
    name: z.string(),
    server: z.string().optional(),
    version: z.string().optional().describe('Kubernetes version at registration.'),
    credential: z.enum(['token', 'clientCertificate']).optional(),
    namespaces: z.array(z.string()).optional(),
    clusterScopedKinds: z.array(z.string()).optional(),
    meshConfirmation: MeshConfirmation.optional(),
    trafficSplitVersion: z
      .string()
      .nullable()
      .optional()
      .describe('API version of the TrafficSplits that it served at registration; null: none.'),
    createdAtIso8601: z.string().optional(),
  })
  .meta({ id: 'Cluster' });
export type ClusterView = z.infer<typeof ClusterView>;

export const ClusterList = z.object({ clusters: z.array(ClusterView) }).meta({ id: 'ClusterList' });
export const ClusterParams = z.object({ name: text(200) });
