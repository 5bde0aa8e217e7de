import type { Scope } from './context.ts';
import type { Database } from './database/db.ts';
import { storableJson } from './storable-json.ts';
import type { NewEvent } from './transitions.ts';

/**
 * An event for a driver to fold, added by somebody who does not drive: API, owner of the watches, callback. Without `at` it
 * happens when Postgres appends it. It is refused where the target has one of the statuses `unlessStatus`, and if it is to
 * come `once` where the target was told the same before: an event of that type with that `data.ref`. `observed` says by
 * which lease of a cluster's watches it was seen: refused, if another took them over since.
 */
export type News = {
  type: string;
  data: NewEvent['data'];
  message?: string | null;
  at?: Date;
  unlessStatus?: string[];
  once?: boolean;
} & ({ deploymentId: string; observed?: { clusterId: string; epoch: number } } | { pipelineId: string });

type Refusal = 'missing' | 'final' | 'status' | 'repeated' | 'epoch';

/** `owner`: who drives it, for the wake-up. `missing` is also what belongs to another tenant. */
export type NewsResult =
  | { appended: true; pipelineId: string; number: number; owner: number | null }
  | { appended: false; reason: Refusal; status: string | null };

/**
 * Appends news, bumps the targets' versions and makes them due, in one transaction and one round trip.
 *
 * @param scope for whom the API works; null for the worker
 * @returns one result for each, in the order given
 */
export async function appendNews(
  db: Pick<Database, 'sql'>,
  scope: Scope | null,
  news: readonly News[],
): Promise<NewsResult[]> {
  if (news.length === 0) return [];
  type Row = {
    pipeline_id: string;
    number: number;
    owner: number | null;
    refused: Refusal | null;
    status: string | null;
  };
  const batch = storableJson(news.map(newsRow));
  const rows = await db.sql<Row>(
    'append_news',
    'select * from append_news($1::uuid, $2::uuid, $3::jsonb) order by ord',
    [scope?.organisationId ?? null, scope?.tenantId ?? null, batch],
  );
  return rows.map(({ pipeline_id, number, owner, refused, status }) =>
    refused === null
      ? { appended: true, pipelineId: pipeline_id, number, owner }
      : { appended: false, reason: refused, status },
  );
}

function newsRow(news: News) {
  const { type, data, message, at, unlessStatus, once } = news;
  const target =
    'deploymentId' in news
      ? {
          deployment_id: news.deploymentId,
          cluster_id: news.observed?.clusterId,
          epoch: news.observed?.epoch,
        }
      : { pipeline_id: news.pipelineId };
  return { ...target, type, data, message, at, unless_status: unlessStatus, once };
}
