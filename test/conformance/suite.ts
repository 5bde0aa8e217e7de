import { after, before, describe, it } from 'node:test';
import type { Client } from '../sandbox/client.ts';
import { accessCases } from './cases/access.ts';
import { applyCases } from './cases/apply.ts';
import { deletionCases } from './cases/deletion.ts';
import { discoveryCases } from './cases/discovery.ts';
import { endpointCases } from './cases/endpoints.ts';
import { eventCases } from './cases/events.ts';
import { managerCases } from './cases/managers.ts';
import { readCases } from './cases/reads.ts';
import { refusalCases } from './cases/refusals.ts';
import { watchCases } from './cases/watches.ts';
import { workloadCases } from './cases/workloads.ts';
import { writeCases } from './cases/writes.ts';
import { type Cases, type ClusterName, openPlace } from './place.ts';

/** Everything of the Kubernetes API that the engine relies on, by subject. */
const table: Record<string, Cases> = {
  'creating and changing': writeCases,
  'server-side apply': applyCases,
  'field managers': managerCases,
  deleting: deletionCases,
  lists: readCases,
  watches: watchCases,
  refusals: refusalCases,
  'discovery and custom resources': discoveryCases,
  rights: accessCases,
  workloads: workloadCases,
  endpoints: endpointCases,
  Events: eventCases,
};

/** A cluster that the cases run on, and what they need of it beside its API. */
export type Subject = {
  client: Client;
  refuseConfigMaps(namespace: string, message: string): Promise<void>;
  close(): Promise<void>;
};

/** Runs every case on one cluster: what holds on the sandbox must hold on real Kubernetes, and the other way round. */
export function runConformance(cluster: ClusterName, open: () => Promise<Subject>, skip: string | false = false): void {
  describe(`${cluster} cluster`, { skip }, () => {
    let subject: Subject;
    before(async () => {
      subject = await open();
    });
    after(() => subject?.close());
    for (const [group, cases] of Object.entries(table)) {
      describe(`${cluster}: ${group}`, { concurrency: 6 }, () => {
        for (const [title, run] of Object.entries(cases)) {
          it(`${cluster}: ${title}`, { timeout: 60_000 }, async () => run(await openPlace(cluster, subject)));
        }
      });
    }
  });
}
