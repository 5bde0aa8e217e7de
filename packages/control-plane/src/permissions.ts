import { AppError } from '@cdaas/contract/errors.ts';

/** What a route may ask for. Grants give several at once; see `permissionsOf`. */
export const permissions = [
  'deployment.view',
  'deployment.start',
  'deployment.manage',
  'deployment.approve',
  'cluster.list',
  'cluster.manage',
] as const;
export type Permission = (typeof permissions)[number];

export type Grant = { type: string; resource: string; permission: string };

const grantedBy: Record<string, readonly Permission[]> = {
  organization: permissions,
  tenant: permissions,
  deployment: ['deployment.view', 'deployment.start', 'deployment.manage', 'deployment.approve', 'cluster.list'],
  agentHub: [],
};

/**
 * The union of what grants give (spec/tenancy-and-access.md §3.2). A grant of an unknown type, resource or permission
 * gives nothing.
 */
export function permissionsOf(grants: readonly Grant[]): ReadonlySet<Permission> {
  const given = grants
    .filter(({ type, permission }) => type === 'api' && permission === 'full')
    .flatMap(({ resource }) => (Object.hasOwn(grantedBy, resource) ? (grantedBy[resource] ?? []) : []));
  return new Set(given);
}

/** @throws AppError auth.forbidden */
export function requirePermission(
  principal: { name: string; permissions: ReadonlySet<Permission> },
  permission: Permission,
): void {
  if (principal.permissions.has(permission)) return;
  throw new AppError('auth.forbidden', 'Principal Not Authorized', {
    hint: `${principal.name} lacks the permission ${permission}; an Organization Admin can give a role that has it.`,
  });
}
