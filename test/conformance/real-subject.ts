import { createClient } from '../sandbox/client.ts';
import { useRealCluster } from '../support/real-cluster.ts';
import { until } from '../support/until.ts';
import type { Subject } from './suite.ts';

export async function openRealSubject(): Promise<Subject> {
  const cluster = await useRealCluster();
  const client = createClient(cluster);
  const policies: string[] = [];
  const create = async (plural: string, name: string, spec: object) => {
    const path = `/apis/admissionregistration.k8s.io/v1/${plural}`;
    const { code, body } = await client.call('POST', path, { metadata: { name }, spec });
    if (code !== 201) throw new Error(`${plural} ${name}: ${code} ${body.message}`);
    policies.push(`${path}/${name}`);
  };
  return {
    client,
    async refuseConfigMaps(namespace, message) {
      const name = `refuse-${namespace}`;
      const rule = {
        apiGroups: [''],
        apiVersions: ['v1'],
        operations: ['CREATE', 'UPDATE'],
        resources: ['configmaps'],
      };
      await create('validatingadmissionpolicies', name, {
        matchConstraints: { resourceRules: [rule] },
        validations: [{ expression: 'false', message }],
      });
      const namespaceSelector = { matchLabels: { 'kubernetes.io/metadata.name': namespace } };
      await create('validatingadmissionpolicybindings', name, {
        policyName: name,
        validationActions: ['Deny'],
        matchResources: { namespaceSelector },
      });
      const probe = `/api/v1/namespaces/${namespace}/configmaps?dryRun=All`;
      await until(async () => {
        return (await client.call('POST', probe, { metadata: { name: 'probe' } })).code === 422;
      }, 'the policy is in force');
    },
    async close() {
      for (const path of policies) await client.call('DELETE', path);
      client.close();
      await cluster.stop();
    },
  };
}
