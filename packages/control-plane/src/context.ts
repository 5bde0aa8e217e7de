import type { Logger } from 'pino';
import type { Database } from './database/db.ts';
import type { Vault } from './encryption.ts';
import type { WakeQueue } from './queue.ts';

/** Tells the time by Postgres' clock, the only one that is compared with what is stored. Tests move it. */
export type Clock = { now(): Date };

/** For whom something is done: what Row-Level Security lets through. */
export type Scope = { organisationId: string; tenantId: string };

/** Who does it: the credential's client id, and the name that people see. */
export type Actor = { principal: string; name: string };

/** What every use case gets first. `log` carries the request's ids already; wake-ups go out after the commit. */
export type Context = {
  scope: Scope;
  actor: Actor;
  log: Logger;
  clock: Clock;
  db: Database;
  queue: Pick<WakeQueue, 'enqueueWake'>;
  vault: Vault;
};
