import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { type ClusterAccess, parseClusterAccess } from '@cdaas/control-plane/clusters/kubeconfig.ts';
import { type ClusterAddress, createClusterClient } from './cluster-client.ts';
import { credentialNamespace } from './cluster-credentials.ts';

const account = 'administrator';
const binding = `${credentialNamespace}-${account}`;

/**
 * The cluster of a kubeconfig, by its current context, as an administrator with a token: where the file has a client
 * certificate, it makes such an account. `release` deletes what was made for it.
 */
export async function givenCluster(file: string): Promise<ClusterAddress & { release(): Promise<void> }> {
  const parsed = parseClusterAccess({ kubeconfig: readFileSync(file, 'utf8') });
  if (!parsed.ok)
    throw new Error(`${file} cannot be used: ${parsed.problems.map(({ message }) => message).join('; ')}`);
  const { access } = parsed;
  const caData = Buffer.from(access.caData).toString('base64');
  const token = 'token' in access.credential ? access.credential.token : await makeAdministrator(access);
  const address = { server: access.server, caData, token };
  return {
    ...address,
    async release() {
      const client = createClusterClient(address);
      await client.send('DELETE', `/api/v1/namespaces/${credentialNamespace}`);
      await client.send('DELETE', `/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/${binding}`);
      client.close();
    },
  };
}

async function makeAdministrator(access: ClusterAccess): Promise<string> {
  const post = (path: string, body: unknown) =>
    new Promise<{ status?: { token?: string } }>((resolve, reject) => {
      const { server, caData: ca, credential } = access;
      const pair = 'certificate' in credential ? { cert: credential.certificate, key: credential.key } : {};
      const sent = request(`${server}${path}`, {
        method: 'POST',
        ca,
        ...pair,
        headers: { 'content-type': 'application/json' },
        agent: false,
      });
      sent.on('error', reject);
      sent.on('response', async (response) => {
        let text = '';
        for await (const chunk of response.setEncoding('utf8')) text += chunk;
        if ((response.statusCode ?? 0) < 300 || response.statusCode === 409) resolve(JSON.parse(text));
        else reject(new Error(`POST ${path}: HTTP ${response.statusCode} ${text}`));
      });
      sent.end(JSON.stringify(body));
    });
  const accounts = `/api/v1/namespaces/${credentialNamespace}/serviceaccounts`;
  await post('/api/v1/namespaces', { metadata: { name: credentialNamespace } });
  await post(accounts, { metadata: { name: account } });
  await post('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
    metadata: { name: binding },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
    subjects: [{ kind: 'ServiceAccount', namespace: credentialNamespace, name: account }],
  });
  const { status } = await post(`${accounts}/${account}/token`, { spec: { expirationSeconds: 24 * 3600 } });
  if (!status?.token) throw new Error('the given cluster made no token');
  return status.token;
}
