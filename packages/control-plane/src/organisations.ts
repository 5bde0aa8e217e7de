import { randomBytes } from 'node:crypto';
import type { Database, Transaction } from './database/db.ts';
import { scoped } from './database/db.ts';
import { newId } from './ids.ts';
import type { Grant } from './permissions.ts';
import { hashClientSecret, newClientSecret } from './tokens.ts';

/** Roles that every organisation has and nobody can change (spec/tenancy-and-access.md §3.1). */
export const systemRoles = {
  organizationAdmin: { name: 'Organization Admin', resource: 'organization' },
  deploymentsFullAccess: { name: 'Deployments Full Access', resource: 'deployment' },
  remoteNetworkAgent: { name: 'Remote Network Agent', resource: 'agentHub' },
} as const;
export type SystemRole = keyof typeof systemRoles;

export type NewOrganisation = { organisationId: string; tenantId: string; roles: Record<SystemRole, string> };

/** Makes an organisation with its system roles and its first tenant. Role ids come back by key of `systemRoles`. */
export async function createOrganisation(
  db: Database,
  { name, tenant = 'main' }: { name: string; tenant?: string },
): Promise<NewOrganisation> {
  const organisationId = newId(db.clock.now());
  const tenantId = newId(db.clock.now());
  const roles = {
    organizationAdmin: newId(db.clock.now()),
    deploymentsFullAccess: newId(db.clock.now()),
    remoteNetworkAgent: newId(db.clock.now()),
  };
  await scoped(db, { organisationId, tenantId }, async (tx) => {
    await tx.organisation.create({ data: { id: organisationId, name } });
    await tx.tenant.create({ data: { id: tenantId, organisationId, name: tenant } });
    for (const key of Object.keys(systemRoles) as SystemRole[]) {
      const grant: Grant = { type: 'api', resource: systemRoles[key].resource, permission: 'full' };
      await insertRole(tx, organisationId, { id: roles[key], name: systemRoles[key].name, systemDefined: true }, [
        grant,
      ]);
    }
  });
  return { organisationId, tenantId, roles };
}

/** Makes a further tenant of an organisation; its name must be new there. */
export async function createTenant(db: Database, organisationId: string, name: string): Promise<{ tenantId: string }> {
  const tenantId = newId(db.clock.now());
  await scoped(db, { organisationId, tenantId }, (tx) =>
    tx.tenant.create({ data: { id: tenantId, organisationId, name } }),
  );
  return { tenantId };
}

async function insertRole(
  tx: Transaction,
  organisationId: string,
  role: { id: string; name: string; systemDefined: boolean },
  grants: readonly Grant[],
): Promise<void> {
  await tx.role.create({ data: { ...role, organisationId } });
  await tx.grant.createMany({ data: grants.map((grant) => ({ ...grant, organisationId, roleId: role.id })) });
}

export type NewCredential = { id: string; clientId: string; clientSecret: string };

/**
 * Makes a machine's credential for one tenant. The secret is in the answer and nowhere else: only its hash is kept.
 *
 * @param roles names of roles of the organisation
 */
export async function createCredential(
  db: Database,
  scope: { organisationId: string; tenantId: string },
  { name, roles, createdBy }: { name: string; roles: readonly string[]; createdBy: string },
): Promise<NewCredential> {
  const { organisationId, tenantId } = scope;
  const id = newId(db.clock.now());
  const clientId = randomBytes(16).toString('hex');
  const clientSecret = newClientSecret();
  await scoped(db, scope, async (tx) => {
    const found = await tx.role.findMany({
      where: { name: { in: [...roles] }, OR: [{ tenantId: null }, { tenantId }] },
      select: { id: true, name: true },
    });
    const missing = roles.filter((role) => !found.some((row) => row.name === role));
    if (missing.length > 0) throw new Error(`no such role: ${missing.join(', ')}`);
    await tx.clientCredential.create({
      data: { id, organisationId, tenantId, name, clientId, secretHash: hashClientSecret(clientSecret), createdBy },
    });
    await tx.clientCredentialRole.createMany({
      data: found.map((role) => ({ credentialId: id, roleId: role.id, organisationId })),
    });
    await tx.credentialDirectory.create({ data: { clientId, credentialId: id, organisationId, tenantId } });
  });
  return { id, clientId, clientSecret };
}

/** What a new installation needs: an organisation, its tenant, and a credential that may do everything there. */
export async function bootstrap(
  db: Database,
  { organisation, tenant, credential }: { organisation: string; tenant: string; credential: string },
): Promise<NewOrganisation & { credential: NewCredential }> {
  const made = await createOrganisation(db, { name: organisation, tenant });
  const roles = [systemRoles.organizationAdmin.name];
  return {
    ...made,
    credential: await createCredential(db, made, { name: credential, roles, createdBy: 'installation' }),
  };
}
