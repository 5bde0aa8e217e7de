import type { Sight } from '@cdaas/pipeline/conditions.ts';
import type { Database } from '../database/db.ts';
import { type Report, type Since, toldBy, type Watched } from './watched-deployments.ts';

/** What deployments were told, and may still be told, by rows that other workers may have moved on. */

/** What a deployment was told by watches since its driver folded events last. */
export async function reportsSince(db: Database, deploymentId: string, folded: number): Promise<Since['reports']> {
  const events = await db.prisma.event.findMany({
    where: { deploymentId, type: 'observed', number: { gt: folded } },
    orderBy: { number: 'asc' },
    select: { number: true, data: true },
  });
  return events.map(({ number, data }) => {
    const { condition, ...sight } = data as { condition: string } & Sight;
    return [condition, toldBy(sight, number)];
  });
}

/**
 * Without the reports to deployments that another worker has moved on since: what they asked for is learnt anew, or the
 * pin that a run itself has just replaced would be told as somebody's disturbance.
 */
export async function stillAsked(
  db: Database,
  reports: Report[],
  learn: (ids: string[]) => Promise<void>,
): Promise<Report[]> {
  const elsewhere = new Map<string, Watched>(
    reports.filter(({ watched }) => watched.elsewhere).map(({ watched }) => [watched.id, watched]),
  );
  if (elsewhere.size === 0) return reports;
  const rows = await db.prisma.deployment.findMany({
    where: { id: { in: [...elsewhere.keys()] } },
    select: { id: true, version: true },
  });
  const moved = new Set(
    rows.filter(({ id, version }) => version > (elsewhere.get(id)?.version ?? 0)).map(({ id }) => id),
  );
  if (moved.size > 0) await learn([...moved]);
  return reports.filter(({ watched }) => !moved.has(watched.id));
}
