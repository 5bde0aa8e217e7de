import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { RbacQuery } from '@cdaas/contract/clusters.ts';
import { AppError } from '@cdaas/contract/errors.ts';
import { changeCluster } from '@cdaas/control-plane/clusters/change.ts';
import { resourceWords } from '@cdaas/control-plane/clusters/engine-rights.ts';
import { rbacWanted, renderRbac } from '@cdaas/control-plane/clusters/rbac-manifest.ts';
import type { Findings } from '@cdaas/control-plane/clusters/rows.ts';
import { deleteCluster, registerCluster } from '@cdaas/control-plane/clusters.ts';
import { approveStep, rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import { parseAllDocuments } from 'yaml';
import { createClusterClient } from '../support/cluster-client.ts';
import { approval, shopYaml, weight } from '../support/deployment-files.ts';
import { type OwnCluster, startRealCluster, withoutRealCluster } from '../support/real-cluster.ts';
import { until } from '../support/until.ts';
import { openWorld, type Tenant, type World } from '../support/world.ts';

type Rule = { apiGroups: string[]; resources: string[]; resourceNames?: string[]; verbs: string[] };
type Document = { kind: string; metadata: { name: string; namespace?: string }; rules?: Rule[] };

const namespace = 'shop';

describe('The RBAC to paste, on a real cluster', { skip: withoutRealCluster, concurrency: false }, () => {
  let cluster: OwnCluster;
  let world: World;
  let tenant: Tenant;
  before(async () => {
    [cluster, world] = await Promise.all([startRealCluster({ audit: true }), openWorld('rbac')]);
    tenant = await world.tenant('acme');
    const client = createClusterClient(cluster);
    await client.create('Namespace', '', { metadata: { name: namespace } });
    client.close();
  });
  after(async () => {
    await world?.close();
    await cluster?.stop();
  });

  const kubectl = (input: string, ...args: string[]): string => {
    const done = spawnSync('kubectl', ['--kubeconfig', cluster.kubeconfigFile, ...args], { input, encoding: 'utf8' });
    assert.equal(done.status, 0, done.stderr);
    return done.stdout.trim();
  };
  const paste = (query: Record<string, unknown>) => {
    const text = renderRbac(rbacWanted(RbacQuery.parse(query)));
    kubectl(text, 'apply', '-f', '-');
    return parseAllDocuments(text).map((document) => document.toJS() as Document);
  };
  const tokenOf = (account: string) => kubectl('', 'create', 'token', '-n', 'cdaas', account);

  /** What a registration with this token says is missing; undefined where it was refused for another reason. */
  const missingFor = async (token: string, namespaces: string[]): Promise<string[] | undefined> => {
    const { server, caData } = cluster;
    try {
      const body = { name: 'tried', server, caData, token, namespaces, clusterScopedKinds: [] };
      const { findings } = await registerCluster(tenant.ctx, body);
      await deleteCluster(tenant.ctx, { name: 'tried' });
      return (findings as Findings).missing.map(({ verb, ...right }) => `${verb} ${resourceWords(right)}`).sort();
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'cluster.permission') throw error;
      return error.violations.map(({ metadata }) => `${metadata?.verb} ${metadata?.resource}`).sort();
    }
  };
  /** The authorizer learns of a change a moment later. */
  const untilMissing = async (token: string, namespaces: string[], expected: string[], what: string) => {
    let seen: string[] | undefined;
    const isSo = async () => {
      seen = await missingFor(token, namespaces);
      return JSON.stringify(seen) === JSON.stringify(expected);
    };
    await until(isSo, what, 10_000).catch(() => assert.deepEqual(seen, expected, what));
  };

  it('lets a whole canary, a roll back and the objects of a file through, with nothing refused', async () => {
    paste({ namespace, kind: ['ConfigMap', 'Secret'], serviceAccount: 'whole' });
    const token = tokenOf('whole');
    const usual = ['create serviceaccounts', 'get serviceaccounts', 'patch serviceaccounts', 'update serviceaccounts'];
    await untilMissing(token, [namespace], usual, 'the rights have arrived');
    const { server, caData } = cluster;
    const registered = await registerCluster(tenant.ctx, {
      name: 'real',
      server,
      caData,
      token,
      namespaces: [namespace],
    });
    assert.equal(registered.meshDetected, 'linkerd-smi');
    assert.ok((registered.findings as Findings).credentialUntil, 'a token of kubectl create token says when it ends');

    const start = (version: string, steps: unknown[]) =>
      tenant.start({
        yaml: shopYaml({
          namespace,
          account: 'real',
          version,
          steps,
          objects: [
            { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'settings' }, data: { version } },
            { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'password' }, stringData: { version } },
          ],
        }),
      });
    assert.equal((await (await start('1', [])).end(60_000)).status, 'SUCCEEDED');
    assert.equal((await (await start('2', [weight(10), weight(60)])).end(60_000)).status, 'SUCCEEDED');
    const held = await start('3', [weight(10), approval()]);
    await held.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL', 60_000);
    await rollBackDeployment(tenant.ctx, { id: held.deploymentId });
    assert.equal((await held.end(60_000)).status, 'CANCELLED');

    const asked = auditOf(cluster).filter(({ user }) => user.username === 'system:serviceaccount:cdaas:whole');
    // Where the rights had not arrived yet, reviews said so; nothing else was asked.
    const refused = asked.filter(({ responseStatus }) => responseStatus?.code === 403);
    assert.deepEqual(
      refused.map(({ verb, requestURI }) => `${verb} ${requestURI}`).filter((line) => !isLook(line)),
      [],
    );
    assert.ok(asked.some(({ verb, objectRef }) => verb === 'patch' && objectRef?.resource === 'trafficsplits'));
  });

  it('names exactly the right that is missing, for each rule that is left out', async () => {
    const documents = paste({ namespace, serviceAccount: 'lacking' });
    const token = tokenOf('lacking');
    // Nobody asked for these.
    const never = ['configmaps', 'secrets', 'serviceaccounts'].flatMap((resource) =>
      ['create', 'get', 'patch', 'update'].map((verb) => `${verb} ${resource}`),
    );
    await untilMissing(token, [namespace], never.toSorted(), 'the rights have arrived');
    const roles = documents.filter(({ rules }) => rules !== undefined);
    assert.deepEqual(roles.map(({ kind }) => kind).sort(), ['ClusterRole', 'Role']);
    for (const role of roles) {
      const rules = role.rules ?? [];
      for (const rule of rules) {
        const [group = '', resource = ''] = [rule.apiGroups[0], rule.resources[0]];
        const without = {
          ...role,
          apiVersion: 'rbac.authorization.k8s.io/v1',
          rules: rules.filter((each) => each !== rule),
        };
        kubectl(JSON.stringify(without), 'apply', '-f', '-');
        const words = resourceWords({ group, resource });
        const own = rule.verbs.map((verb) => `${verb} ${words}`);
        const isOptional = rule.resourceNames !== undefined || resource === 'events';
        await untilMissing(token, [namespace], (isOptional ? [...own, ...never] : own).sort(), `without ${words}`);
      }
      kubectl(JSON.stringify({ ...role, apiVersion: 'rbac.authorization.k8s.io/v1' }), 'apply', '-f', '-');
    }
    await untilMissing(token, [namespace], never.toSorted(), 'with all again');
  });

  it('does for a whole cluster as well, and only where that is asked for', async () => {
    paste({ serviceAccount: 'wide' });
    const wide = tokenOf('wide');
    await until(
      async () =>
        (await missingFor(wide, []))?.every((words) => /configmaps|secrets|serviceaccounts/.test(words)) === true,
      'the rights everywhere',
    );
    const narrow = await missingFor(tokenOf('whole'), []);
    assert.ok(narrow?.includes('list services'), 'a Role is not enough to deploy everywhere');
  });

  it('is changed for another account under a run, which goes on when the first account is deleted', async () => {
    paste({ namespace, kind: ['ConfigMap', 'Secret'], serviceAccount: 'next' });
    const next = tokenOf('next');
    await until(
      async () => (await missingFor(next, [namespace]))?.every((words) => /serviceaccounts/.test(words)) === true,
      'its rights',
    );
    const steps = [weight(10), approval(), weight(60)];
    const run = await tenant.start({ yaml: shopYaml({ namespace, account: 'real', version: '4', steps }) });
    await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL', 60_000);
    const endedWatches = () =>
      auditOf(cluster).filter(({ verb, user }) => verb === 'watch' && user.username.endsWith(':whole')).length;
    const before = endedWatches();
    await changeCluster(tenant.ctx, { name: 'real', change: { token: next } });
    // The audit log tells of a watch when it ends, as those with the old credential do together.
    await until(() => endedWatches() >= before + 4, 'the end of the watches with the old credential');
    kubectl('', 'delete', 'serviceaccount', '-n', 'cdaas', 'whole');
    await approveStep(tenant.ctx, { id: run.deploymentId, ref: 'canary-step-2' });
    assert.equal((await run.end(60_000)).status, 'SUCCEEDED');
    const users = auditOf(cluster).flatMap(({ verb, objectRef, user }) =>
      verb === 'patch' && objectRef?.resource === 'trafficsplits' ? [user.username.split(':').at(-1)] : [],
    );
    assert.equal(users.at(-1), 'next');
  });
});

type Audited = {
  verb: string;
  requestURI: string;
  user: { username: string };
  objectRef?: { resource?: string };
  responseStatus?: { code?: number };
};

function auditOf(cluster: OwnCluster): Audited[] {
  const lines = readFileSync(cluster.controlPlane.auditFile ?? '', 'utf8')
    .trim()
    .split('\n');
  return lines.map((line) => JSON.parse(line) as Audited);
}

/** Registration may look in vain for what tells the cluster and its mesh, before the rights have arrived. */
function isLook(line: string): boolean {
  return /^(get|list) \/(api\/v1\/namespaces\/kube-system|apis\/apps\/v1\/(namespaces\/linkerd-smi\/)?deployments)\b/.test(
    line,
  );
}
