import { monitorEventLoopDelay } from 'node:perf_hooks';

/** Loaded into a process before its own code: tells on its log how it is. */
export type Vitals = {
  msg: 'vitals';
  /** The longest that the event loop was held up since the line before. */
  stalledMs: number;
  heapMiB: number;
  rssMiB: number;
  /** Of the process so far. */
  cpuSeconds: number;
};

const delay = monitorEventLoopDelay({ resolution: 5 });
delay.enable();
const mebibyte = 1024 * 1024;
setInterval(() => {
  const { heapUsed, rss } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  const vitals: Vitals = {
    msg: 'vitals',
    stalledMs: Math.round(delay.max / 1e6),
    heapMiB: Math.round(heapUsed / mebibyte),
    rssMiB: Math.round(rss / mebibyte),
    cpuSeconds: (user + system) / 1e6,
  };
  delay.reset();
  process.stdout.write(`${JSON.stringify(vitals)}\n`);
}, 200).unref();
