// What `npm start` and `npm test` need before the project's own TypeScript can run: a recent Node, the dependencies, and
// the generated Prisma client. Plain JavaScript for Node 20 without dependencies, because nothing is installed yet.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Node 24 of the `node` package: everything but these scripts runs on it. */
export const node24 = join(root, 'node_modules', '.bin', 'node');

const oldestNode = 20;

/** A failure whose message is for the person at the terminal: what is wrong and what to do. */
export class Remedy extends Error {}

/** Stops with a remedy on a Node that is older than npm's and our scripts' syntax. */
export function checkNode(version = process.versions.node) {
  if (Number(version.split('.')[0]) >= oldestNode) return;
  throw new Remedy(
    `CDaaS needs Node ${oldestNode} or newer to start; this is Node ${version} (${process.execPath}).\n` +
      `Install a current Node (for instance with your system's packages, nvm or fnm) and run the command again.`,
  );
}

/** Installs the dependencies where node_modules does not hold exactly what package-lock.json asks for. */
export async function ensureInstalled(say = console.log) {
  if (installedAsLocked()) return;
  const first = !existsSync(join(root, 'node_modules'));
  say(
    first ? 'Installing dependencies (once; about a minute) …' : 'package-lock.json changed: installing dependencies …',
  );
  const began = Date.now();
  const { code, output } = await run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    // Prisma's engines are not used: migrations run on its WebAssembly engine, so nothing has to be downloaded for them.
    env: { ...process.env, PATH: pathOutsideProject(), PRISMA_SCHEMA_ENGINE_BINARY: '/bin/true' },
    tick: (seconds) => say(`  … still installing, ${seconds} s`),
  });
  if (code !== 0) {
    throw new Remedy(
      `npm ci failed:\n\n${output.trimEnd()}\n\n` +
        `Check the network and npm's registry setting (npm config get registry), then run the command again.`,
    );
  }
  if (!existsSync(node24)) {
    throw new Remedy(
      'npm installed the packages, but not Node 24: the install script of the package "node" did not run.\n' +
        'Allow install scripts (npm config get ignore-scripts must say false) and run the command again.',
    );
  }
  say(`Dependencies installed in ${seconds(began)}.`);
}

/** Generates the Prisma client where the schema is not the one that it was generated from. */
export async function ensurePrismaClient(say = console.log) {
  const began = Date.now();
  const program = `import { ensureClient } from './packages/control-plane/src/database/generate.ts';
    if (await ensureClient()) console.log('generated');`;
  const { code, output } = await run(node24, ['--input-type=module', '-e', program], { env: process.env });
  if (code !== 0) throw new Remedy(`The database client could not be generated:\n\n${output.trimEnd()}`);
  if (output.includes('generated')) say(`Database client generated in ${seconds(began)}.`);
}

/** The seconds since a moment, as people read them. */
export function seconds(began) {
  return `${((Date.now() - began) / 1000).toFixed(1)} s`;
}

/** Prints a Remedy as its message and anything else with its stack, and says that the process failed. */
export function reportAndFail(error) {
  console.error(error instanceof Remedy ? `\n${error.message}\n` : error);
  process.exitCode = 1;
}

/**
 * True where node_modules is what package-lock.json asks for. npm writes node_modules/.package-lock.json at the end of an
 * install, so that an interrupted one is seen as none.
 */
function installedAsLocked() {
  const hidden = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(hidden) || !existsSync(node24)) return false;
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(readFileSync(hidden, 'utf8')).packages;
  return Object.entries(wanted).every(([path, entry]) => {
    if (!path.includes('node_modules/')) return true;
    const found = installed[path];
    if (found === undefined) return entry.optional === true || entry.peer === true || entry.devOptional === true;
    return found.version === entry.version && found.integrity === entry.integrity && found.resolved === entry.resolved;
  });
}

/** PATH without our node_modules/.bin: npm must not run on the Node that it is about to replace. */
function pathOutsideProject() {
  const own = join(root, 'node_modules');
  return (process.env.PATH ?? '')
    .split(delimiter)
    .filter((entry) => !entry.startsWith(own))
    .join(delimiter);
}

/** Runs a program to its end and keeps what it printed; `tick` is called every 10 s with the seconds so far. */
function run(command, args, { env, tick }) {
  return new Promise((resolve, reject) => {
    const began = Date.now();
    const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
    const timer = tick && setInterval(() => tick(Math.round((Date.now() - began) / 1000)), 10_000);
    let output = '';
    const keep = (chunk) => {
      output += chunk;
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.on('error', (error) => {
      clearInterval(timer);
      reject(
        error.code === 'ENOENT' ? new Remedy(`${command} was not found. Install it (npm comes with Node).`) : error,
      );
    });
    child.on('close', (code) => {
      clearInterval(timer);
      resolve({ code, output });
    });
  });
}
