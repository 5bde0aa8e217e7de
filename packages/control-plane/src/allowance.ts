/** How often something may be done for each of many: so many times at once, and from then on once in a while. */
export type Allowance = { take(id: string): boolean };

/** Ids that were quiet for longest are forgotten above this number. */
const maxIds = 10_000;

/** @param now milliseconds since the epoch */
export function createAllowance(
  { atOnce, everyMs }: { atOnce: number; everyMs: number },
  now: () => number = Date.now,
): Allowance {
  const spent = new Map<string, { count: number; at: number }>();
  return {
    take(id) {
      const known = spent.get(id);
      const time = now();
      const count = known ? Math.max(0, known.count - (time - known.at) / everyMs) : 0;
      if (count > atOnce - 1) return false;
      // Last in the order of the map, so that the first was quiet for longest.
      spent.delete(id);
      spent.set(id, { count: count + 1, at: time });
      const [oldest] = spent.keys();
      if (spent.size > maxIds && oldest !== undefined) spent.delete(oldest);
      return true;
    },
  };
}
