import { type Drive, type DriveDeps, driveOn, openDrive } from './advance-deployment.ts';
import { isDatabaseUnavailable } from './database/errors-db.ts';
import { type DrivenDeployment, loadOwned, type UnfoldedEvent } from './ownership.ts';

/** Keeps one loop (advance-deployment.ts) for each deployment that this worker owns. */
export type Engine = {
  /** Begins to drive a row that was just claimed. */
  own(row: DrivenDeployment): void;
  /**
   * There is news for a deployment that this worker owns. `news`: all of one append, where this process made it; without,
   * the row is read.
   */
  wake(deploymentId: string, news?: UnfoldedEvent[]): void;
  /** A deployment that this worker owns has news, and its row that version: it is woken unless its driver knows that. */
  lookAt(deploymentId: string, version: number): void;
  /** A cluster that was away answers: what waits for its next try there tries again. */
  answersAgain(clusterId: string): void;
  owns(deploymentId: string): boolean;
  /** Stops driving; effects in flight are let finish, nothing new is sent. */
  close(): Promise<void>;
};

/** How long after a failure of its own a worker tries to drive a deployment again. */
const retryAfterMs = 1_000;

export function createEngine(deps: DriveDeps): Engine {
  type Entry = { drive: Drive | null; done: Promise<void>; pokedEarly: boolean; again: boolean };
  const drives = new Map<string, Entry>();
  const stopPauses = new Set<() => void>();
  let closing = false;

  const own = (row: DrivenDeployment): void => {
    if (closing) return;
    const known = drives.get(row.id);
    if (known) {
      // Taken again while its loop is about to end (it was let go and news came at once), or is slow: it looks again.
      known.again = true;
      wake(row.id);
      return;
    }
    const entry: Entry = { drive: null, done: Promise.resolve(), pokedEarly: false, again: false };
    drives.set(row.id, entry);
    entry.done = keepDriving(row, entry).finally(() => {
      drives.delete(row.id);
      if (entry.again) void resume(row.id);
    });
  };

  /** Drives on what is stored now, if it is still ours. */
  const resume = async (id: string): Promise<void> => {
    try {
      const [row] = await loadOwned(deps.db, deps.workerId, [id]);
      if (row) own(row);
    } catch (err) {
      deps.log.warn({ err, deploymentId: id }, 'a deployment with news could not be read; the next sweep finds it');
    }
  };

  /** Drives until the row is let go. What fails here (Postgres away, a bug) is tried again from what is stored. */
  const keepDriving = async (claimed: DrivenDeployment, entry: Entry): Promise<void> => {
    const { id, pipelineId, organisationId } = claimed;
    const log = deps.log.child({ deploymentId: id, pipelineId, organisationId });
    let row: DrivenDeployment | undefined = claimed;
    let told = false;
    while (row && !closing) {
      try {
        entry.drive = await openDrive(deps, row, log);
        entry.drive.poked = entry.pokedEarly;
        return await driveOn(deps, entry.drive, () => closing);
      } catch (err) {
        // While Postgres is away it fails every second, in the same way for every deployment.
        const isAway = isDatabaseUnavailable(err);
        if (!isAway) log.error({ err }, 'driving a deployment failed');
        else if (!told) log.warn({ err }, 'driving a deployment waits for Postgres');
        told ||= isAway;
      }
      entry.drive = null;
      await pause(retryAfterMs);
      row = await loadOwned(deps.db, deps.workerId, [id]).then(
        ([stored]) => stored,
        () => row,
      );
    }
  };

  const pause = (ms: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(done, ms);
      function done() {
        clearTimeout(timer);
        stopPauses.delete(done);
        resolve();
      }
      stopPauses.add(done);
    });

  const wake = (id: string, news?: UnfoldedEvent[]): void => {
    const entry = drives.get(id);
    if (!entry) {
      void resume(id);
      return;
    }
    if (!entry.drive) {
      entry.pokedEarly = true;
      return;
    }
    if (news) entry.drive.handed.push(news);
    else entry.drive.poked = true;
    entry.drive.poke();
  };

  return {
    own,
    wake,
    lookAt(id, version) {
      const drive = drives.get(id)?.drive;
      const isKnown = drive != null && version <= drive.row.version + drive.handed.length;
      if (!isKnown) wake(id);
    },
    answersAgain(clusterId) {
      for (const { drive } of drives.values()) {
        if (drive?.row.clusterId !== clusterId) continue;
        if (drive.state.retry === null && drive.state.effect === null) continue;
        drive.answers = true;
        drive.poke();
      }
    },
    owns: (id) => drives.has(id),
    async close() {
      closing = true;
      for (const { drive } of drives.values()) drive?.poke();
      for (const stop of stopPauses) stop();
      await Promise.all([...drives.values()].map(({ done }) => done));
    },
  };
}
