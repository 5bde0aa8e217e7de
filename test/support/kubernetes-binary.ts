import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/*
 * The binary of test/kubernetes: etcd and the Kubernetes control plane, built from Go modules. A build from nothing takes
 * minutes and one with Go's build cache seconds, so the result is kept outside the tree under the hash of what went into
 * it: it is found again by other checkouts, and also where there is no Go.
 */

export const kubernetesVersion = 'v1.35.4';
const source = fileURLToPath(new URL('../kubernetes', import.meta.url));

const [major, minor] = kubernetesVersion.slice(1).split('.');
const stamp = (field: string, value: string | undefined) => `-X k8s.io/component-base/version.${field}=${value}`;
const linkerFlags = [
  '-s',
  '-w',
  stamp('gitVersion', kubernetesVersion),
  stamp('gitMajor', major),
  stamp('gitMinor', minor),
];
const buildFlags = ['-trimpath', '-buildvcs=false', '-ldflags', linkerFlags.join(' ')];

/** Binaries that nobody used for so long are deleted. */
const keptForMs = 30 * 24 * 3600 * 1000;
const progressEveryMs = 10_000;

export type KubernetesBinary = { path: string; cached: boolean; tookMs: number };

/** Whether the binary is there, or can be built. */
export function canHaveKubernetes(): boolean {
  return existsSync(pathOfBinary()) || spawnSync('go', ['version'], { stdio: 'ignore' }).status === 0;
}

/**
 * Answers the binary, and builds it where its sources are not those of one that is kept. Processes that ask at the same
 * time build it once.
 *
 * @param say is told of progress, at least every ten seconds
 */
export async function kubernetesBinary(say: (line: string) => void): Promise<KubernetesBinary> {
  const began = performance.now();
  const path = pathOfBinary();
  const answer = (cached: boolean) => ({ path, cached, tookMs: performance.now() - began });
  if (isThere(path)) return answer(true);
  mkdirSync(cacheFolder(), { recursive: true });
  const lock = `${path}.lock`;
  while (!takeLock(lock)) {
    if (existsSync(path)) return answer(true);
    say('Another process builds the Kubernetes control plane; waiting for it …');
    await sleep(progressEveryMs / 5);
  }
  try {
    if (isThere(path)) return answer(true);
    await build(path, say);
    forgetOld(path);
    return answer(false);
  } finally {
    rmSync(lock, { force: true });
  }
}

function cacheFolder(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'cdaas');
}

function pathOfBinary(): string {
  const hash = createHash('sha256').update([process.platform, process.arch, ...buildFlags].join('\0'));
  const inputs = readdirSync(source).filter((name) => name.endsWith('.go') || name === 'go.mod' || name === 'go.sum');
  for (const name of inputs.sort()) hash.update(`\0${name}\0`).update(readFileSync(join(source, name)));
  return join(cacheFolder(), `kubernetes-${hash.digest('hex').slice(0, 16)}`);
}

function isThere(path: string): boolean {
  if (!existsSync(path)) return false;
  const now = new Date();
  utimesSync(path, now, now);
  return true;
}

/** A file with the id of the process that builds; one of a process that is gone is taken over. */
function takeLock(lock: string): boolean {
  try {
    writeFileSync(lock, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  try {
    const owner = Number(readFileSync(lock, 'utf8'));
    if (owner > 0) process.kill(owner, 0);
    return false;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') rmSync(lock, { force: true });
    return false;
  }
}

async function build(path: string, say: (line: string) => void): Promise<void> {
  say(
    `Building the Kubernetes ${kubernetesVersion} control plane for tests: about 5 minutes on two cores the first time, then kept in ${cacheFolder()} …`,
  );
  const began = performance.now();
  const unfinished = `${path}.${process.pid}`;
  const child = spawn('go', ['build', '-v', ...buildFlags, '-o', unfinished, '.'], {
    cwd: source,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const kill = () => child.kill();
  process.once('exit', kill);
  // With -v, go names each module that it downloads and each package that it has compiled.
  let [downloaded, compiled] = [0, 0];
  let output = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    output = `${output}${chunk}`.slice(-8_000);
    for (const line of chunk.split('\n').filter((text) => text !== '')) {
      if (line.startsWith('go: downloading')) downloaded += 1;
      else compiled += 1;
    }
  });
  const timer = setInterval(() => {
    const seconds = Math.round((performance.now() - began) / 1000);
    say(`  … ${seconds} s: ${downloaded} modules downloaded, ${compiled} packages compiled`);
  }, progressEveryMs);
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    if (code !== 0) throw new Error(`go build in test/kubernetes ended with ${code}:\n${output.slice(-4_000)}`);
    renameSync(unfinished, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new Error('Go is needed to build the Kubernetes control plane, and was not found: https://go.dev/dl', {
      cause: error,
    });
  } finally {
    clearInterval(timer);
    process.off('exit', kill);
    rmSync(unfinished, { force: true });
  }
}

function forgetOld(current: string): void {
  const folder = cacheFolder();
  for (const name of readdirSync(folder).filter((entry) => entry.startsWith('kubernetes-'))) {
    const file = join(folder, name);
    if (file !== current && Date.now() - statSync(file).mtimeMs > keptForMs) rmSync(file, { force: true });
  }
}
