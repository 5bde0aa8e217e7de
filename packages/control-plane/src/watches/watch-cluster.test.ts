import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Logger } from 'pino';
import type { KubeClients } from '../drivers/kube-clients.ts';
import { watchCluster } from './watch-cluster.ts';

test('a watch that was given up says why in the words of what ended it', async (t) => {
  const client = { list: async () => ({ kind: 'listed', objects: [], resourceVersion: '1' }) };
  const watches = watchCluster({
    clients: { get: async () => client } as unknown as KubeClients,
    key: { organisationId: 'o', tenantId: 't', clusterId: 'c' },
    namespaces: [],
    log: { error() {}, warn() {} } as unknown as Logger,
    onTouched() {
      throw new Error('the index has a hole');
    },
    onFresh() {},
  });
  t.after(() => watches.stop());
  await t.waitFor(() => assert.equal(watches.staleSince()?.reason, 'the index has a hole'));
});
