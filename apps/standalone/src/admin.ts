import type { Database } from '@cdaas/control-plane/database/db.ts';
import { bootstrap, createCredential, systemRoles } from '@cdaas/control-plane/organisations.ts';
import { z } from 'zod';
import { type DataDir, readJson, writePrivate } from './data-dir.ts';

/** The first credential, as in `.cdaas/admin.json`. */
const Admin = z.object({
  url: z.string(),
  organisation: z.string(),
  tenant: z.string(),
  clientId: z.string(),
  clientSecret: z.string(),
});
export type Admin = z.infer<typeof Admin>;

export type Scope = { organisationId: string; tenantId: string };

const organisation = 'default';
const tenant = 'main';
const credential = 'admin';

/**
 * Sees to it that there is an organisation with a credential that may do everything in it, and that admin.json has that
 * credential. A credential that is in the file but not in the database (a new database), or in the database only (the
 * file is gone, or a crash came between the two), is made anew.
 *
 * @param db under a role that may read credentials
 */
export async function ensureAdmin(dir: DataDir, db: Database, url: string): Promise<{ admin: Admin; scope: Scope }> {
  const known = Admin.safeParse(readJson(dir.adminFile));
  const entry = known.success ? await findScope(db, known.data.clientId) : null;
  if (known.success && entry !== null) {
    const admin = { ...known.data, url };
    writeAdmin(dir, admin);
    return { admin, scope: entry };
  }
  const { scope, clientId, clientSecret } = await makeCredential(db);
  const admin: Admin = { url, organisation, tenant, clientId, clientSecret };
  writeAdmin(dir, admin);
  return { admin, scope };
}

async function makeCredential(db: Database): Promise<{ scope: Scope; clientId: string; clientSecret: string }> {
  const first = await findScope(db);
  if (first === null) {
    const { organisationId, tenantId, credential: made } = await bootstrap(db, { organisation, tenant, credential });
    return { scope: { organisationId, tenantId }, ...made };
  }
  const roles = [systemRoles.organizationAdmin.name];
  return {
    scope: first,
    ...(await createCredential(db, first, { name: credential, roles, createdBy: 'installation' })),
  };
}

/** Where a credential belongs; without an id the oldest one, ids being in the order of time. */
async function findScope(db: Database, clientId?: string): Promise<Scope | null> {
  const entry = await db.prisma.credentialDirectory.findFirst({
    where: clientId === undefined ? {} : { clientId },
    orderBy: { credentialId: 'asc' },
  });
  return entry === null ? null : { organisationId: entry.organisationId, tenantId: entry.tenantId };
}

function writeAdmin(dir: DataDir, admin: Admin): void {
  writePrivate(dir.adminFile, `${JSON.stringify(admin, null, 2)}\n`);
}
