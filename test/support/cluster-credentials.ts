import { randomUUID } from 'node:crypto';
import { type ClusterAddress, createClusterClient } from './cluster-client.ts';
import { until } from './until.ts';

/** A rule of RBAC, as in a Role. */
export type Rule = { apiGroups: string[]; resources: string[]; verbs: string[]; resourceNames?: string[] };

export type CredentialOptions = {
  /** What it may do. Default: everything (ClusterRole cluster-admin). */
  rules?: Rule[];
  /** Where it may: Roles in these namespaces, which must be there. Default: the whole cluster, by a ClusterRole. */
  namespaces?: string[];
};

/** A ServiceAccount with a token, as an operator would make one to register a cluster. */
export type Credential = {
  token: string;
  /** `system:serviceaccount:…`, as the API server names it in audit logs and refusals. */
  user: string;
  /** Replaces what it may do, and waits until the API server goes by it. */
  allow(rules: Rule[]): Promise<void>;
  /** Deletes the account, its roles and bindings. The API server knows its token for 10 s more, without rights. */
  remove(): Promise<void>;
};

/** Where the accounts lie. */
export const credentialNamespace = 'cdaas-test';

const rbac = '/apis/rbac.authorization.k8s.io/v1';
const admin: Rule[] = [{ apiGroups: ['*'], resources: ['*'], verbs: ['*'] }];

export async function makeCredential(cluster: ClusterAddress, options: CredentialOptions = {}): Promise<Credential> {
  const client = createClusterClient(cluster);
  const name = `account-${randomUUID().slice(0, 8)}`;
  const made: string[] = [];
  const send = async (method: string, path: string, body?: unknown) => {
    const { status, body: answer } = await client.send(method, path, body);
    if (status >= 300) throw new Error(`${method} ${path}: HTTP ${status} ${String(answer.message)}`);
    return answer;
  };
  const create = async (collection: string, body: { metadata: { name: string } }) => {
    await send('POST', collection, body);
    made.push(`${collection}/${body.metadata.name}`);
  };

  await client.send('POST', '/api/v1/namespaces', { metadata: { name: credentialNamespace } });
  const accounts = `/api/v1/namespaces/${credentialNamespace}/serviceaccounts`;
  await create(accounts, { metadata: { name } });
  const places = options.namespaces?.map((namespace) => `${rbac}/namespaces/${namespace}`);
  const [roles, bindings, kind] = places
    ? ([places.map((place) => `${place}/roles`), places.map((place) => `${place}/rolebindings`), 'Role'] as const)
    : ([[`${rbac}/clusterroles`], [`${rbac}/clusterrolebindings`], 'ClusterRole'] as const);
  const metadata = { name: places ? name : `${credentialNamespace}-${name}` };
  for (const bound of bindings) {
    await create(bound, {
      metadata,
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind, name: metadata.name },
      subjects: [{ kind: 'ServiceAccount', namespace: credentialNamespace, name }],
    } as { metadata: { name: string } });
  }
  const { status } = await send('POST', `${accounts}/${name}/token`, { spec: { expirationSeconds: 24 * 3600 } });
  const { token } = status as { token: string };
  const self = createClusterClient({ ...cluster, token });

  // The API server goes by its cache of roles: a right of nobody's use, added with each change, tells when it has arrived.
  let changes = 0;
  const allow = async (rules: Rule[]) => {
    changes += 1;
    const mark = { apiGroups: ['test.cdaas'], resources: [`change-${changes}`], verbs: ['get'] };
    const body = { metadata, rules: [...rules, mark] };
    for (const place of roles) {
      if (changes === 1) await create(place, body);
      else await send('PUT', `${place}/${metadata.name}`, body);
    }
    for (const namespace of options.namespaces ?? ['']) {
      const resourceAttributes = { group: 'test.cdaas', resource: `change-${changes}`, verb: 'get', namespace };
      await until(async () => {
        const review = await self.send('POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
          spec: { resourceAttributes },
        });
        return (review.body.status as { allowed?: boolean } | undefined)?.allowed === true;
      }, `the rights of ${name}`);
    }
  };
  await allow(options.rules ?? admin);
  return {
    token,
    user: `system:serviceaccount:${credentialNamespace}:${name}`,
    allow,
    async remove() {
      for (const path of made.toReversed()) await client.send('DELETE', path);
      self.close();
      client.close();
    },
  };
}
