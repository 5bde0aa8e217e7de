#!/usr/bin/env node
// `npm test`: installs what is missing, checks format and types, then runs every test. Plain JavaScript for Node 20.
//
//   npm test                      everything
//   npm test -- canary postgres   only test files whose path contains one of the words; no format and type check
//
// Two runs of node's own runner on Node 24: the pure tests, which lie beside the sources, in one process; then those under
// test/ that need processes, and the pure ones that take long, each file in its own, two at a time, the longest first. The
// last line is the totals.
import { spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve, sep } from 'node:path';
import {
  checkNode,
  ensureInstalled,
  ensurePrismaClient,
  node24,
  Remedy,
  reportAndFail,
  root,
  seconds,
} from './ensure.mjs';

const inCi = process.env.CI === 'true';
/** How test/kubernetes/build.ts says that there is no Go. */
const exitWithoutGo = 3;
const began = Date.now();
const scratch = mkdtempSync(join(tmpdir(), 'cdaas-test-'));
/** Marks everything that this run starts, so that what is left over can be found. */
const mark = `CDAAS_TEST_RUN=${randomUUID()}`;
const env = { ...process.env, [mark.split('=')[0]]: mark.split('=')[1] };
delete env.NODE_OPTIONS;
env.PATH = `${join(root, 'node_modules', '.bin')}:${process.env.PATH}`;
env.CDAAS_TEST_COLOR = process.stdout.isTTY && !process.env.NO_COLOR ? '1' : '';

let running;
let redis;
let interrupted = false;
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    if (interrupted) killLeftovers();
    interrupted = true;
    running?.kill(signal);
  });
}

/** Test files that import this, by whatever way, have cases on a real Kubernetes control plane. */
const realCluster = join(root, 'test', 'support', 'real-cluster.ts');

/**
 * Files that take the longest, by what they took, so that none of them is begun last and runs beside an idle core. A file
 * that is not named here comes after them.
 */
const longest = [
  'test/engine/unpleasant.test.ts',
  'test/crash/kills.test.ts',
  'test/conformance/sandbox-gitops.test.ts',
  'test/standalone/life.test.ts',
  'packages/pipeline/src/laws.test.ts',
  'test/conformance/real-gitops-deployments.test.ts',
  'test/conformance/real-gitops.test.ts',
  'test/engine/mesh.test.ts',
  'test/crash/dependants.test.ts',
  'test/conformance/real-runs.test.ts',
  'test/standalone/interrupted-demo.test.ts',
  'test/standalone/own-cluster.test.ts',
  'test/standalone/postgres-killed.test.ts',
  'test/engine/unpleasant-neighbours.test.ts',
  'test/mutants/deployment-mutants.test.ts',
  'test/mutants/pipeline-mutants.test.ts',
  'test/crash/adoption-kills.test.ts',
].map((file) => file.replaceAll('/', sep));

const groups = [];
try {
  checkNode();
  await ensureInstalled();
  await ensurePrismaClient();
  const words = process.argv.slice(2);
  const wanted = (file) => words.length === 0 || words.some((word) => file.includes(word));
  const architecture = join('test', 'architecture.test.ts');
  const all = [...testFiles('packages'), ...testFiles('apps'), ...testFiles('test')].filter(wanted);
  const isPure = (file) => (!file.startsWith('test') && !longest.includes(file)) || file === architecture;
  const pure = all.filter(isPure);
  const place = (file) => (longest.includes(file) ? longest.indexOf(file) : longest.length);
  const alone = all.filter((file) => !isPure(file)).sort((one, other) => place(one) - place(other));

  if (words.length === 0) await check();
  if (pure.length > 0) {
    const reporter = join('scripts', 'test-reporter.mjs');
    await runTests(['--test', '--test-isolation=none', `--test-reporter=./${reporter}`], pure, () => 'unit');
  }
  if (alone.length > 0 && !interrupted) {
    redis = await startRedis();
    if (alone.some((file) => reaches(file, realCluster))) await buildKubernetes();
    await runTests([join('scripts', 'test-run.mjs')], alone, groupOf);
  }
} catch (error) {
  reportAndFail(error);
  groups.push({ name: 'set-up', passed: 0, failed: 1, skipped: 0, ms: 0 });
} finally {
  await redis?.stop();
  rmSync(scratch, { recursive: true, force: true });
}
conclude();

/** Formatter, linter and type checker: counted as one test, so that the totals show it. */
async function check() {
  console.log('check: biome and tsc');
  const start = Date.now();
  const code = await run('npm', ['run', '--silent', 'check'], env);
  groups.push({
    name: 'check',
    passed: code === 0 ? 1 : 0,
    failed: code === 0 ? 0 : 1,
    skipped: 0,
    ms: Date.now() - start,
  });
}

/** Runs test files by a command and adds their counts to the groups that `groupOf` puts them in. */
async function runTests(command, files, groupOf) {
  console.log(`\n${files.length} test files: node ${command.join(' ')}`);
  const counts = join(scratch, `${groups.length}.json`);
  const code = await run(node24, [...command, ...files], { ...env, CDAAS_TEST_COUNTS: counts });
  const results = existsSync(counts) ? JSON.parse(readFileSync(counts, 'utf8')) : {};
  const found = new Map(groups.map((group) => [group.name, group]));
  for (const [file, result] of Object.entries(results)) {
    const group = found.get(groupOf(file)) ?? { name: groupOf(file), passed: 0, failed: 0, skipped: 0, ms: 0 };
    for (const key of ['passed', 'failed', 'skipped', 'ms']) group[key] += result[key];
    if (!groups.includes(group)) groups.push(group);
    found.set(group.name, group);
  }
  const told = Object.values(results).some(({ failed }) => failed > 0);
  if (code !== 0 && !told)
    groups.push({ name: 'runner', passed: 0, failed: 1, skipped: 0, ms: 0, why: `exit code ${code}` });
}

/** A file's folder under test/, and the cluster that its cases say to have run on (test-reporter.mjs). */
function groupOf(file) {
  if (!file.startsWith('test')) return 'unit';
  const [path, cluster] = file.split('#');
  const folder = path.split(sep)[1] ?? path;
  return cluster ? `${folder} ${cluster}` : folder;
}

/** Every *.test.ts under a folder, in the order of names. */
function testFiles(folder) {
  const full = join(root, folder);
  if (!existsSync(full)) return [];
  return readdirSync(full, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.test.ts') && !entry.parentPath.includes('node_modules'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort();
}

/** Runs a program to its end with our output as its own. */
function run(command, args, environment) {
  return new Promise((resolve, reject) => {
    running = spawn(command, args, { cwd: root, env: environment, stdio: ['ignore', 'inherit', 'inherit'] });
    running.on('error', reject);
    running.on('close', (code) => {
      running = undefined;
      resolve(code);
    });
  });
}

/**
 * A Redis of its own for the queue's cases on Redis, told to the tests by REDIS_URL. In CI, where we are root, it is
 * installed if it is missing, and must be there; elsewhere its absence is said.
 */
async function startRedis() {
  if (process.env.REDIS_URL) {
    console.log('\nRedis cases run on the given REDIS_URL.');
    return { stop: async () => {} };
  }
  if (!has('redis-server') && inCi) {
    console.log('\nInstalling redis-server for the queue cases …');
    const options = {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    };
    // --no-install-recommends, and a policy that starts no service: we start our own on a free port.
    spawnSync('apt-get', ['update', '-qq'], options);
    spawnSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', '-o', 'Dpkg::Use-Pty=0', 'redis-server'], {
      ...options,
      env: { ...options.env, RUNLEVEL: '1' },
    });
  }
  if (!has('redis-server')) {
    if (inCi)
      throw new Remedy('redis-server is missing and could not be installed; in CI the Redis cases are never left out.');
    console.log('\nLEFT OUT: the queue cases on Redis. Install redis-server, or set REDIS_URL, to run them.');
    return undefined;
  }
  const port = await freePort();
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--hz', '100'];
  const server = spawn('redis-server', [...args, '--dir', scratch], { env, stdio: 'ignore' });
  const ended = new Promise((resolve) => server.on('close', resolve));
  for (let tries = 0; !(await answers(port)); tries += 1) {
    if (tries > 200 || server.exitCode !== null) throw new Remedy('redis-server did not start.');
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  env.REDIS_URL = `redis://127.0.0.1:${port}`;
  console.log(`\nredis-server on port ${port} for the queue cases.`);
  return {
    stop: async () => {
      server.kill('SIGTERM');
      await ended;
    },
  };
}

/**
 * Builds the Kubernetes control plane, or finds the one that was built, before the tests begin: a build takes all cores.
 * Where there is no Go those cases are skipped, which the totals say; in CI it is a failure.
 */
async function buildKubernetes() {
  if (process.env.CDAAS_TEST_KUBECONFIG) {
    console.log('\nReal-cluster cases run on the cluster of CDAAS_TEST_KUBECONFIG.');
    return;
  }
  console.log('');
  const code = await run(node24, [join('test', 'kubernetes', 'build.ts')], env);
  if (code !== 0 && inCi)
    throw new Remedy(
      'The Kubernetes control plane could not be built; in CI the real-cluster cases are never left out.',
    );
  if (code === exitWithoutGo)
    console.log(
      'LEFT OUT: the cases on a real Kubernetes control plane. Install Go (https://go.dev/dl), or set CDAAS_TEST_KUBECONFIG,\n' +
        'to run them. The totals count each group of them as one skipped.',
    );
  else if (code !== 0) throw new Remedy('The Kubernetes control plane for the real-cluster cases could not be built.');
}

/** Whether a TypeScript file imports another, itself or by way of relative imports. */
function reaches(file, target, seen = new Set()) {
  const path = resolve(root, file);
  if (path === target) return true;
  if (seen.has(path) || !existsSync(path)) return false;
  seen.add(path);
  const imports = readFileSync(path, 'utf8').matchAll(/from '(\.[^']+)'/g);
  return [...imports].some(([, specifier]) => reaches(join(dirname(path), specifier), target, seen));
}

function has(program) {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0;
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

async function answers(port) {
  const { connect } = await import('node:net');
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

/** Processes that this run started and that are still there: `[pid, command]`. Told by /proc, so on Linux only. */
function leftovers() {
  if (!existsSync('/proc/self/environ')) return [];
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      try {
        if (!readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(mark)) return [];
        return [[Number(pid), readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()]];
      } catch {
        return [];
      }
    })
    .filter(([, command]) => command !== '');
}

function killLeftovers() {
  for (const [pid] of leftovers()) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended in between.
    }
  }
}

/** Prints the summary and the totals, and decides the exit code. */
function conclude() {
  const left = leftovers();
  if (left.length > 0) {
    console.log('\nLeft running by the tests (now ended):');
    for (const [pid, command] of left) console.log(`  ${pid}  ${command.slice(0, 160)}`);
    killLeftovers();
    groups.push({ name: 'leftovers', passed: 0, failed: 1, skipped: 0, ms: 0 });
  }
  const sum = (key) => groups.reduce((total, group) => total + group[key], 0);
  const [passed, failed, skipped] = [sum('passed'), sum('failed'), sum('skipped')];
  console.log(`\n${'group'.padEnd(20)}${'passed'.padStart(8)}${'failed'.padStart(8)}${'time'.padStart(10)}`);
  for (const group of groups) {
    const time = `${(group.ms / 1000).toFixed(1)} s`;
    const note = group.skipped > 0 ? `  ${group.skipped} skipped` : group.why ? `  ${group.why}` : '';
    console.log(
      `${group.name.padEnd(20)}${String(group.passed).padStart(8)}${String(group.failed).padStart(8)}${time.padStart(10)}${note}`,
    );
  }
  console.log(`${'all'.padEnd(36)}${seconds(began).padStart(10)}\n`);
  if (interrupted) console.log('Interrupted: not all tests ran.');
  if (passed + failed === 0) console.log('No test ran.');
  if (interrupted || failed > 0 || passed === 0) process.exitCode = 1;
  console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
}
