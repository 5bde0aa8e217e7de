import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { errorCodes } from '@cdaas/contract/errors.ts';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const skipped = new Set(['node_modules', '.git', '.cdaas', 'generated']);

type Source = { path: string; text: string; imports: string[] };

/** Paths of all files of the tree, relative to its root, generated and installed ones left out. */
function filesUnder(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
    if (skipped.has(entry.name) || entry.name.startsWith('.cdaas')) return [];
    if (entry.isDirectory()) return filesUnder(path);
    return entry.isFile() ? [path] : [];
  });
}

const files = filesUnder('');
const read = (path: string) => readFileSync(join(root, path), 'utf8');

/** What a source imports or re-exports, dynamic imports with a literal included. */
function importsOf(text: string): string[] {
  const statements = text.matchAll(/(?:^|\n)\s*(?:import|export)\b[^'";]*?\bfrom\s*'([^']+)'/g);
  const bare = text.matchAll(/(?:^|\n)import\s*'([^']+)'/g);
  const dynamic = text.matchAll(/\bimport\(\s*'([^']+)'\s*\)/g);
  return [...statements, ...bare, ...dynamic].map(([, name]) => name ?? '');
}

const sources: Source[] = files
  .filter((path) => /\.(ts|tsx|mjs)$/.test(path))
  .map((path) => ({ path, text: read(path), imports: importsOf(read(path)) }));

/** The workspace of a path: `packages/pipeline`, `apps/api`, `test` … */
const areaOf = (path: string) =>
  path
    .split('/')
    .slice(0, /^(packages|apps)\//.test(path) ? 2 : 1)
    .join('/');
const isTest = (path: string) => path.endsWith('.test.ts') || path.startsWith('test/');
const production = sources.filter(({ path }) => /^(packages|apps)\//.test(path) && !isTest(path));

/** The workspace that an import leads to, undefined for node's modules and packages of others. */
function areaOfImport(from: string, name: string): string | undefined {
  if (name.startsWith('.')) return areaOf(relative(root, resolve(root, dirname(from), name)));
  const workspace = /^@cdaas\/([^/]+)/.exec(name)?.[1];
  if (workspace === undefined) return undefined;
  return existsSync(join(root, 'packages', workspace)) ? `packages/${workspace}` : `apps/${workspace}`;
}

/** The name of the npm package that an import leads to. */
const packageOf = (name: string) =>
  name
    .split('/')
    .slice(0, name.startsWith('@') ? 2 : 1)
    .join('/');

const mayImport: Record<string, string[]> = {
  'packages/pipeline': [],
  'packages/contract': ['packages/pipeline'],
  'packages/control-plane': ['packages/contract', 'packages/pipeline'],
  'packages/sandbox': [],
  'apps/api': ['packages/control-plane', 'packages/contract', 'packages/pipeline'],
  'apps/worker': ['packages/control-plane', 'packages/contract', 'packages/pipeline'],
  'apps/standalone': [
    'apps/api',
    'apps/worker',
    'packages/control-plane',
    'packages/contract',
    'packages/pipeline',
    'packages/sandbox',
  ],
};

/** Fails with one line for each breach, so that all are seen at once, and says what to do instead. */
function assertNone(breaches: string[], instead: string): void {
  assert.equal(breaches.length, 0, `${instead}\n  ${breaches.join('\n  ')}`);
}

describe('the architecture', () => {
  test('every workspace has its place in the direction of imports', () => {
    const workspaces = [...readdirSync(join(root, 'packages')), ...readdirSync(join(root, 'apps'))].sort();
    const placed = Object.keys(mayImport).map((area) => basename(area));
    assert.deepEqual(placed.sort(), workspaces, 'give the new workspace its line in mayImport');
  });

  test('imports point one way: pipeline <- contract <- control-plane <- apps', () => {
    const breaches = production.flatMap(({ path, imports }) => {
      const own = areaOf(path);
      const allowed = mayImport[own] ?? [];
      return imports
        .map((name) => ({ name, area: areaOfImport(path, name) }))
        .filter(({ area }) => area !== undefined && area !== own && !allowed.includes(area))
        .map(({ name }) => `${path} imports ${name}`);
    });
    assertNone(breaches, 'move what is shared down, or take it as an argument:');
  });

  test('workspaces are imported by name and file, never by a path across', () => {
    const breaches = production.flatMap(({ path, imports }) =>
      imports
        .filter((name) => name.startsWith('.') && areaOfImport(path, name) !== areaOf(path))
        .map((name) => `${path} imports ${name}`),
    );
    assertNone(breaches, 'write @cdaas/<workspace>/<file>.ts:');
  });

  test('every workspace of the project that is imported is a declared dependency', () => {
    const breaches = production.flatMap(({ path, imports }) => {
      const manifest = JSON.parse(read(`${areaOf(path)}/package.json`)) as { name: string; dependencies?: object };
      return imports
        .filter((name) => !name.startsWith('.') && !name.startsWith('node:'))
        .map(packageOf)
        .filter((name) => name !== manifest.name && !(name in (manifest.dependencies ?? {})))
        .map((name) => `${path} imports ${name}`);
    });
    assertNone(breaches, 'add it to the dependencies of the workspace:');
  });

  test('the pipeline is pure: no modules of node, no clock, no randomness', () => {
    const pure = production.filter(({ path }) => path.startsWith('packages/pipeline/'));
    const allowed = new Set(['zod', 'yaml', 'mustache']);
    const impure = /\bDate\.now\(|\bnew Date\(\s*\)|\bMath\.random\(|\bcrypto\.|\bfetch\(|\bprocess\.|\bsetTimeout\(/;
    const ofTests = new Set(['node:test', 'node:assert/strict']);
    const breaches = pure.flatMap(({ path, text, imports }) => [
      ...imports
        .filter((name) => !name.startsWith('.') && !allowed.has(packageOf(name)))
        .filter((name) => !(path.includes('/testing/') && ofTests.has(name)))
        .map((name) => `${path} imports ${name}`),
      ...text
        .split('\n')
        .filter((line) => impure.test(line) && !/^\s*(\*|\/\/|\/\*)/.test(line))
        .map((line) => `${path}: ${line.trim()}`),
    ]);
    assertNone(breaches, 'time, ids and outcomes arrive as events; the doing is in packages/control-plane:');
  });

  test('only the control plane speaks to the database, the queue and clusters', () => {
    const worldly = new Set(['@prisma/client', '@prisma/adapter-pg', 'prisma', 'bullmq', 'ioredis', 'pg', 'undici']);
    const breaches = production
      .filter(({ path }) => !path.startsWith('packages/control-plane/'))
      .flatMap(({ path, imports }) =>
        imports.filter((name) => worldly.has(packageOf(name))).map((name) => `${path} imports ${name}`),
      );
    assertNone(breaches, 'call a use case of packages/control-plane:');
  });

  test('only config.ts of an app reads the environment', () => {
    const breaches = production
      .filter(({ path, text }) => /\bprocess\.env\b/.test(text) && !/^apps\/[^/]+\/src\/config\.ts$/.test(path))
      // Generating hands the environment on to Prisma's own program and reads nothing from it.
      .filter(({ path }) => path !== 'packages/control-plane/src/database/generate.ts')
      .map(({ path }) => path);
    assertNone(breaches, 'take it from config, parsed at the start of the app:');
  });

  test('no barrels, no default exports, no enums', () => {
    const breaches = sources.flatMap(({ path, text }) => [
      ...(/\/index\.tsx?$/.test(path) ? [`${path} is a barrel`] : []),
      ...(/^export \* from/m.test(text) ? [`${path} re-exports a whole module`] : []),
      ...(/^export default/m.test(text) && !mayExportDefault(path) ? [`${path} has a default export`] : []),
      ...(/^(export )?(const )?enum /m.test(text) ? [`${path} has an enum`] : []),
    ]);
    assertNone(breaches, 'import the file itself; use unions of string literals:');
  });

  test('no source is longer than 500 lines', () => {
    const breaches = sources
      .map(({ path, text }) => ({ path, lines: text.split('\n').length - 1 }))
      .filter(({ lines }) => lines > 500)
      .map(({ path, lines }) => `${path}: ${lines}`);
    assertNone(breaches, 'split it along the things it knows:');
  });

  test('no test is skipped, left as a to-do, or run alone', () => {
    const breaches = sources
      .filter(({ path }) => isTest(path) && path !== 'test/architecture.test.ts')
      .filter(({ text }) => /\b(test|it|describe)\.(skip|todo|only)\(|\{[^}\n]*\b(skip|todo|only): true/.test(text))
      .map(({ path }) => path);
    assertNone(breaches, 'make it pass or delete it:');
  });

  test('the tree names no package registry and no path of a machine', () => {
    const forbidden =
      /registry\.npmjs\.org|registry\.yarnpkg\.com|pypi\.org|proxy\.golang\.org|\/home\/[a-z]+\/|\/Users\/[A-Za-z]+\/|\/work\/(main|shared|plan)/;
    const breaches = files
      .filter((path) => !/\.(png|jpg|woff2?|ico)$/.test(path) && path !== 'test/architecture.test.ts')
      .filter((path) => forbidden.test(read(path)));
    assertNone(breaches, 'such names hold on one machine only:');
  });
});

/** Tools that load a file by its default export. */
function mayExportDefault(path: string): boolean {
  return /\.config\.ts$/.test(path) || path === 'scripts/test-reporter.mjs';
}

const pages = files.filter((path) => path.endsWith('.md'));

describe('the documentation', () => {
  test('links to files, and to headings in them, resolve', () => {
    const breaches = pages.flatMap((page) =>
      [...read(page).matchAll(/\]\(([^)\s]+)\)/g)]
        .map(([, link]) => link ?? '')
        .filter((link) => !/^[a-z]+:/.test(link))
        .filter((link) => !resolves(page, link))
        .map((link) => `${page}: ${link}`),
    );
    assertNone(breaches, 'mend or remove the link:');
  });

  test('every npm script that a page names exists, and so does every file of the repository', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    const own = new Set([...Object.keys(scripts), 'ci', 'install', 'config', 'view']);
    const breaches = pages.flatMap((page) => {
      const text = read(page);
      const named = [
        ...text.matchAll(/\bnpm run ([a-z][a-z:-]*)/g),
        ...text.matchAll(/\bnpm (start|test|ci|install)\b/g),
      ];
      const paths = text.matchAll(
        /(?<![\w./-])((?:examples|scripts|packages|apps|prisma|test|docs)\/[\w./-]*\.[a-z]+)/g,
      );
      return [
        ...named
          .map(([, script]) => script ?? '')
          .filter((script) => !own.has(script))
          .map((script) => `${page}: npm run ${script}`),
        ...[...paths]
          .map(([, path]) => path ?? '')
          .filter((path) => !existsSync(join(root, path)))
          .map((path) => `${page}: ${path}`),
      ];
    });
    assertNone(breaches, 'name what is there:');
  });

  test('docs/api.md lists exactly the error codes of the contract, with their statuses', () => {
    const rows = [...read('docs/api.md').matchAll(/^\| `([a-z]+\.[A-Za-z]+)` +\| (\d{3}) +\|/gm)];
    const documented = Object.fromEntries(rows.map(([, code, status]) => [code ?? '', Number(status)]));
    const defined = Object.fromEntries(Object.entries(errorCodes).map(([code, { status }]) => [code, status]));
    assert.deepEqual(documented, defined);
  });

  test('docs/operating.md lists exactly the environment variables that the apps read', () => {
    const listed = [...read('docs/operating.md').matchAll(/^\| `([A-Z][A-Z0-9_]+)` +\|/gm)].map(([, name]) => name);
    const configs = sources.filter(({ path }) => /^apps\/[^/]+\/src\/config\.ts$/.test(path));
    const known = configs.flatMap(({ text }) => [...text.matchAll(/^\s*([A-Z][A-Z0-9_]+):/gm)].map(([, name]) => name));
    assert.deepEqual([...new Set(listed)].sort(), [...new Set(known)].sort());
  });
});

function resolves(page: string, link: string): boolean {
  const [path = '', heading] = link.split('#');
  const target = path === '' ? page : join(dirname(page), path);
  if (!existsSync(join(root, target))) return false;
  if (heading === undefined || !target.endsWith('.md')) return true;
  const headings = [...read(target).matchAll(/^#+ (.+)$/gm)].map(([, text]) => slug(text ?? ''));
  return headings.includes(heading);
}

/** The anchor that code hosts make of a heading. */
function slug(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\w\s-]/g, '')
    .trim()
    .replaceAll(' ', '-');
}
