import { readdirSync, readFileSync } from 'node:fs';

/** CPU seconds, user and system, by the name of who used them. */
export type CpuSeconds = Record<string, number>;

/** Linux: sysconf(_SC_CLK_TCK) is 100 on all common builds. */
const ticksPerSecond = 100;

/** CPU of a process and of its children, dead and alive (proc(5)). */
export function cpuSeconds(pid: number): number {
  const fields = statOf(pid);
  if (fields === undefined) return 0;
  const own = [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index]), 0) / ticksPerSecond;
  return childrenOf(pid).reduce((sum, child) => sum + cpuSeconds(child), own);
}

/** Resident memory in MiB. */
export function residentMb(pid: number): number {
  const line = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Math.round(Number(line?.[1]) / 1024);
}

export function difference(after: CpuSeconds, before: CpuSeconds): CpuSeconds {
  return Object.fromEntries(Object.entries(after).map(([name, seconds]) => [name, seconds - (before[name] ?? 0)]));
}

function statOf(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(') ') + 2).split(' ');
  } catch {
    return undefined;
  }
}

function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
    );
  } catch {
    return [];
  }
}

/** CPU seconds of all programs of this machine since it started. */
export function cpuSecondsOfAll(): number {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  const [, user, nice, system, , , irq, softirq] = line.split(/\s+/).map(Number);
  return ((user ?? 0) + (nice ?? 0) + (system ?? 0) + (irq ?? 0) + (softirq ?? 0)) / ticksPerSecond;
}
