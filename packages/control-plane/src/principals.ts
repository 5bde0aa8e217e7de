import type { Context } from './context.ts';
import { type Database, scoped } from './database/db.ts';
import type { Outbound } from './outbound.ts';
import { type Permission, permissions, permissionsOf } from './permissions.ts';

/** Who a verified token says is calling. */
export type Claims = { credentialId: string; orgId: string; tenantId: string; expiresAt: Date };

export type Principal = {
  credentialId: string;
  clientId: string;
  name: string;
  organisationId: string;
  tenantId: string;
  permissions: ReadonlySet<Permission>;
};

/** A use case called for somebody, by way of the API: what the engine's context has, and what the caller may do. */
export type CallerContext = Context & {
  permissions: ReadonlySet<Permission>;
  outbound: Outbound;
  /** Base of links in answers, without a slash at its end. */
  publicUrl: string;
  /** Clusters that a tenant may register. */
  clustersPerTenant: number;
  /** How long connections may drain after traffic left a backend. */
  drainSeconds: number;
};

/**
 * Looks up the grants that a caller has now, so that taking a role away or disabling a credential bites at once. Roles
 * of other tenants give nothing in this one.
 *
 * @returns null where the credential is gone or disabled
 */
export async function resolvePrincipal(db: Database, claims: Claims): Promise<Principal | null> {
  const { credentialId, orgId: organisationId, tenantId } = claims;
  const credential = await scoped(db, { organisationId, tenantId }, (tx) =>
    tx.clientCredential.findFirst({
      where: { id: credentialId, tenantId, disabledAt: null },
      select: {
        clientId: true,
        name: true,
        roles: { select: { role: { select: { tenantId: true, grants: true } } } },
      },
    }),
  );
  if (credential === null) return null;
  const grants = credential.roles
    .filter(({ role }) => role.tenantId === null || role.tenantId === tenantId)
    .flatMap(({ role }) => role.grants);
  return {
    credentialId,
    clientId: credential.clientId,
    name: credential.name,
    organisationId,
    tenantId,
    permissions: permissionsOf(grants),
  };
}

/** A context with every permission in one tenant, for the installation's own work there. */
export function systemContext(
  base: Omit<CallerContext, 'scope' | 'actor' | 'permissions'>,
  scope: { organisationId: string; tenantId: string },
  name: string,
): CallerContext {
  return { ...base, scope, actor: { principal: name, name }, permissions: new Set(permissions) };
}
