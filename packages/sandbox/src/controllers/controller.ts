import type { Faults } from '../faults.ts';
import type { Change, Cluster } from '../store.ts';

export type ControllerContext = { cluster: Cluster; faults: Faults; log: (line: string) => void };

/** A loop that brings the stored objects nearer to what they ask for. */
export type Controller = {
  /** Looks at everything once, as after a restart. */
  start(): void;
  /** Hears of each change right after it is stored; only queues. */
  changed(change: Change): void;
  stop(): void;
};
