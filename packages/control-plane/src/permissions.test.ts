import assert from 'node:assert/strict';
import { test } from 'node:test';
import { permissions, permissionsOf, requirePermission } from './permissions.ts';

const api = (resource: string, permission = 'full', type = 'api') => ({ type, resource, permission });

test('grants on the organisation and the tenant give every permission', () => {
  assert.deepEqual([...permissionsOf([api('organization')])], [...permissions]);
  assert.deepEqual([...permissionsOf([api('tenant')])], [...permissions]);
});

test('a grant on deployments lets a caller deploy and name clusters, not manage them', () => {
  const given = permissionsOf([api('deployment')]);
  assert.ok(given.has('deployment.start') && given.has('deployment.approve') && given.has('cluster.list'));
  assert.ok(!given.has('cluster.manage'));
});

test('an unknown grant gives nothing', () => {
  for (const grant of [api('agentHub'), api('constructor'), api('tenant', 'read'), api('tenant', 'full', 'account')]) {
    assert.equal(permissionsOf([grant]).size, 0);
  }
});

test('a missing permission is refused by name', () => {
  assert.throws(() => requirePermission({ name: 'ci', permissions: new Set() }, 'deployment.start'), {
    code: 'auth.forbidden',
    status: 403,
  });
});
