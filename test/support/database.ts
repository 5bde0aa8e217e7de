import { randomUUID } from 'node:crypto';
import { type Database, type DatabaseRole, openDatabase, scoped } from '@cdaas/control-plane/database/db.ts';
import { newId } from '@cdaas/control-plane/ids.ts';
import { databaseUrl, startTestServer, type TestServer, withAdmin } from './postgres.ts';

/** A server for a file that is run by itself, outside the runner that shares one; it ends with the last clone. */
let own: { server: Promise<TestServer>; clones: number } | undefined;

/**
 * A fresh, migrated database for a test file, cloned from the template.
 *
 * @param name of what it is for, as part of the database's name
 */
export async function cloneDatabase(name: string): Promise<{ url: string; drop(): Promise<void> }> {
  const { CDAAS_TEST_SERVER_URL, CDAAS_TEST_TEMPLATE } = process.env;
  if (CDAAS_TEST_SERVER_URL && CDAAS_TEST_TEMPLATE) {
    return cloneOn({ url: CDAAS_TEST_SERVER_URL, template: CDAAS_TEST_TEMPLATE }, name);
  }
  own ??= { server: startTestServer(), clones: 0 };
  const mine = own;
  mine.clones++;
  const clone = await cloneOn(await mine.server, name);
  return {
    url: clone.url,
    async drop() {
      await clone.drop();
      mine.clones--;
      if (mine.clones > 0) return;
      own = undefined;
      await (await mine.server).stop();
    },
  };
}

async function cloneOn({ url, template }: { url: string; template: string }, name: string) {
  const database = `cdaas_test_${name.replaceAll(/\W/g, '_').toLowerCase().slice(0, 30)}_${randomUUID().slice(0, 8)}`;
  await withAdmin(url, (admin) => admin.query(`create database ${database} template ${template}`));
  return {
    url: databaseUrl(url, database),
    drop: () => withAdmin(url, async (admin) => void (await admin.query(`drop database ${database} with (force)`))),
  };
}

/** A clone, opened in the given roles and as the server's own user; everything is closed and dropped by `close`. */
export async function openTestDatabase<R extends DatabaseRole>(
  name: string,
  roles: readonly R[],
): Promise<{ url: string; close(): Promise<void> } & Record<R, Database>> {
  const clone = await cloneDatabase(name);
  const open = await Promise.all(
    roles.map(async (role) => [role, await openDatabase({ url: clone.url, role, poolSize: 10 })] as const),
  );
  const byRole = Object.fromEntries(open) as Record<R, Database>;
  return {
    ...byRole,
    url: clone.url,
    async close() {
      for (const [, db] of open) await db.close();
      await clone.drop();
    },
  };
}

export type TestOrganisation = {
  organisationId: string;
  /** Tenant `main`. */
  tenantId: string;
  /** Tenant `other` of the same organisation. */
  otherTenantId: string;
  /** A cluster of `main` that nothing answers for. */
  clusterId: string;
  clusterUid: string;
  roleId: string;
  credentialId: string;
  clientId: string;
};

/** An organisation with two tenants, a role, a credential and a cluster, by plain inserts under the API's role. */
export async function withOrganisation(
  db: Database,
  name = `org-${randomUUID().slice(0, 8)}`,
): Promise<TestOrganisation> {
  const id = () => newId(db.clock.now());
  const made: TestOrganisation = {
    organisationId: id(),
    tenantId: id(),
    otherTenantId: id(),
    clusterId: id(),
    clusterUid: randomUUID(),
    roleId: id(),
    credentialId: id(),
    clientId: randomUUID(),
  };
  const { organisationId, tenantId, otherTenantId, clusterId, clusterUid, roleId, credentialId, clientId } = made;
  await scoped(db, { organisationId, tenantId }, async (tx) => {
    await tx.organisation.create({ data: { id: organisationId, name } });
    await tx.tenant.createMany({
      data: [
        { id: tenantId, organisationId, name: 'main' },
        { id: otherTenantId, organisationId, name: 'other' },
      ],
    });
    await tx.role.create({ data: { id: roleId, organisationId, name: 'Organization Admin', systemDefined: true } });
    await tx.grant.create({
      data: { organisationId, roleId, type: 'api', resource: 'organization', permission: 'full' },
    });
    await tx.clientCredential.create({
      data: { id: credentialId, organisationId, tenantId, name: 'ci', clientId, secretHash: 'none', createdBy: 'test' },
    });
    await tx.clientCredentialRole.create({ data: { credentialId, roleId, organisationId } });
    await tx.credentialDirectory.create({ data: { clientId, credentialId, organisationId, tenantId } });
    await tx.cluster.create({
      data: {
        id: clusterId,
        organisationId,
        tenantId,
        name: 'nowhere',
        server: 'https://127.0.0.1:1',
        caData: '',
        clusterUid,
        credential: new Uint8Array(),
        namespaces: [],
        meshConfirmation: 'stored',
        kubernetesVersion: 'v1.35.4',
        verifiedAt: db.clock.now(),
      },
    });
  });
  return made;
}
