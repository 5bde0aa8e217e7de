import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

/** A wrong version of the pure package: one line of it made wrong, and the law test that must notice. */
export type Mutant = {
  name: string;
  /** Below packages/pipeline/src. */
  file: string;
  /** Stands exactly once in the file. */
  line: string;
  instead: string;
  /** Beginning of the title of the test that fails. */
  killedBy: string;
  /** Where the law tests are made of cases: the one in which it is noticed, which is explored before all others. */
  within?: string;
};

const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/**
 * Titles of the law tests that fail on this version of the package. @throws where they did not run to their end
 *
 * @param lawTests below packages/pipeline/src: a file of tests, or one of cases, of which `within` comes first
 */
async function failuresOf(lawTests: string, within: string | undefined, mutant: Mutant | null): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), 'cdaas-mutant-'));
  try {
    cpSync(join(repository, 'packages', 'pipeline', 'src'), join(folder, 'src'), { recursive: true });
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
    symlinkSync(join(repository, 'node_modules'), join(folder, 'node_modules'));
    if (mutant) {
      const path = join(folder, 'src', mutant.file);
      const source = readFileSync(path, 'utf8');
      assert.equal(source.split(mutant.line).length, 2, `must stand once in ${mutant.file}: ${mutant.line}`);
      writeFileSync(
        path,
        source.replace(mutant.line, () => mutant.instead),
      );
    }
    const file = within === undefined ? lawTests : 'one-case.test.ts';
    if (within !== undefined) writeFileSync(join(folder, 'src', file), testsOf(lawTests, within, mutant === null));
    const args = ['--test', '--test-isolation=none', '--test-reporter=tap', join('src', file)];
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const output = await new Promise<string>((resolve) => {
      execFile(process.execPath, args, { cwd: folder, env, maxBuffer: 64 * 1024 * 1024 }, (_error, stdout) =>
        resolve(stdout),
      );
    });
    assert.match(output, /^# pass [1-9]/m, output);
    return [...output.matchAll(/^ +not ok \d+ - (.*)$/gm)].map(([, title]) => title ?? '');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Law tests of cases. They end at the first breach, so that of a mutant no more than one case is explored. */
function testsOf(casesFile: string, first: string, isAlone: boolean): string {
  return `
    import { cases } from './${casesFile}';
    import { testLaws } from './testing/law-tests.ts';
    const isFirst = ({ name }) => name === ${JSON.stringify(first)};
    const others = cases.filter((one) => !isFirst(one));
    if (others.length === cases.length) throw new Error('no case is named ' + ${JSON.stringify(first)});
    testLaws('the laws', [...cases.filter(isFirst), ...(${isAlone} ? [] : others)]);
  `;
}

/**
 * Each mutant is the pure package with one line made wrong, in a folder of its own. The law tests must fail on it, and
 * among them the law that the line serves. A mutant that survives, or whose line is not found, means: the laws are not
 * tested any more where they were, so mend the test and not the mutant.
 *
 * @param lawTests the file of the law tests, or of their cases, below packages/pipeline/src
 * @param isLaw which titles there are laws
 */
export function testMutants(
  title: string,
  { mutants, lawTests, isLaw }: { mutants: readonly Mutant[]; lawTests: string; isLaw(title: string): boolean },
): void {
  describe(title, { concurrency: 2 }, () => {
    const table: string[] = [];
    after(() => {
      console.log(['mutant | killed by', ...table].join('\n'));
    });

    test('without a change the copied package passes the case of the first mutant', async () => {
      // Of one case: that all of them pass is what the tests beside the sources say.
      assert.deepEqual(await failuresOf(lawTests, mutants[0]?.within, null), []);
    });

    for (const mutant of mutants) {
      test(`${mutant.name}: the tests of ${mutant.killedBy} notice`, async () => {
        const killers = (await failuresOf(lawTests, mutant.within, mutant)).filter(isLaw);
        table.push(`${mutant.name} | ${killers.join('; ') || 'nothing'}`);
        assert.ok(
          killers.some((killer) => killer.startsWith(mutant.killedBy)),
          `killed by ${killers.join('; ') || 'nothing'}`,
        );
      });
    }
  });
}
