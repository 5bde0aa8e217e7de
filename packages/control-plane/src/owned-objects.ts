import type { DeploymentState, Slot } from '@cdaas/pipeline/deployment-state.ts';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { refOf } from '@cdaas/pipeline/render.ts';
import { slotIn1 } from '@cdaas/pipeline/stored.ts';
import type { Database } from './database/db.ts';
import type { Original } from './drivers/effects.ts';
import type { Vault } from './encryption.ts';
import type { OwnedChange } from './transitions.ts';

/** What a run created or changed in its cluster, with the encrypted form that it had before (design.md, law 5). */

/** What this transition adds to the list of objects that the run created or will change, with their saved forms. */
export async function ownedChanges(
  vault: Vault,
  organisationId: string,
  before: DeploymentState,
  state: DeploymentState,
  originals: Original[],
): Promise<OwnedChange[]> {
  const changes: OwnedChange[] = [];
  for (const { slot, object } of originals) {
    const previous = await vault.encryptJson(organisationId, address(state.id, slot), object);
    changes.push({ ...ownedRow(state, slot), action: 'changed', previous });
  }
  for (const [slot, tracked] of Object.entries(state.objects) as [Slot, DeploymentState['objects'][Slot]][]) {
    if (tracked?.made !== 'created' || before.objects[slot]?.made === 'created') continue;
    const { uid, resourceVersion } = tracked;
    changes.push({ ...ownedRow(state, slot), action: 'created', uid, resourceVersion });
  }
  return changes;
}

function ownedRow(state: DeploymentState, slot: Slot) {
  const { apiVersion, kind, namespace, name } = refOf(state, slot);
  return { slot, apiVersion, kind, namespace: namespace ?? null, name };
}

/** The saved form of an object that the run changed; undefined where none was saved. */
export async function previousForm(
  db: Database,
  vault: Vault,
  organisationId: string,
  deploymentId: string,
  slot: string,
): Promise<KubernetesObject | undefined> {
  // The name of the slot is part of what seals the form, so that a form saved by an earlier release keeps its own.
  const row = await db.prisma.ownedObject.findFirst({ where: { deploymentId, slot: { in: [slot, slotIn1(slot)] } } });
  if (!row?.previous) return undefined;
  return (await vault.decryptJson(organisationId, address(deploymentId, row.slot), row.previous)) as KubernetesObject;
}

function address(deploymentId: string, slot: string) {
  return { table: 'owned_object', row: `${deploymentId}/${slot}`, field: 'previous' };
}
