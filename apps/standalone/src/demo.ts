import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { isFinalPipeline } from '@cdaas/pipeline/pipeline-machine.ts';
import { z } from 'zod';
import { type ApiClient, Refusal } from './api-client.ts';
import { type DataDir, readJson, writePrivate } from './data-dir.ts';
import { sandboxAccount } from './register-sandbox.ts';
import type { Screen, Style } from './screen.ts';
import type { ShopTraffic } from './shop-traffic.ts';

/**
 * The demo of the first start: version 1 of the sample application, then a canary of version 2, both through the real HTTP
 * API, told as it happens. Beside what the control plane says (its events) stands what callers really got: every weight is
 * followed by requests through the sandbox's mesh, counted by the version that answered. On a cluster of one's own nobody
 * can be called from here, so there only the events are told.
 */

const files = { v1: 'examples/shop-v1.yaml', v2: 'examples/shop-v2.yaml' } as const;
type Version = keyof typeof files;

/** Requests counted for each weight. */
const sampleSize = 200;
const barWidth = 20;

/** Pipelines that were started, by version, and whether all was shown; kept so that a restart neither repeats nor forgets. */
const DemoState = z.object({
  begun: z.boolean().default(false),
  v1: z.string().optional(),
  v2: z.string().optional(),
  done: z.boolean().default(false),
});
type DemoState = z.infer<typeof DemoState>;

export type DemoDeps = {
  dir: DataDir;
  api: ApiClient;
  /** The cluster's name in deployment files. */
  account: string;
  /** Callers inside the cluster; null where there can be none. */
  traffic: ShopTraffic | null;
  screen: Screen;
  signal: AbortSignal;
  /** How long a canary lets connections drain. */
  drainSeconds: number;
};

/** Whether there is something left to show. Among deployments of the user's own the demo would come between, so it does not begin. */
export function isDemoDue(dir: DataDir, account: string, nothingDeployed: boolean): boolean {
  const { begun, done } = readState(dir, account);
  return !done && (begun || nothingDeployed);
}

/**
 * Shows what is left of the demo. Stops quietly when the signal aborts.
 *
 * @returns whether both deployments succeeded
 */
export async function runDemo(deps: DemoDeps): Promise<boolean> {
  const { dir, account, screen } = deps;
  const state = readState(dir, account);
  if (!state.begun) writeState(dir, account, Object.assign(state, { begun: true }));
  if (state.v1 !== undefined) {
    screen.line('The demo was interrupted. What it had begun goes on where it was.');
    screen.line();
  }
  const began = performance.now();
  const heading: Record<Version, string> = {
    v1: 'Version 1 of the sample application, examples/shop-v1.yaml: nothing runs yet, so it goes straight to 100 %.',
    v2: 'Version 2 as a canary, examples/shop-v2.yaml: 10, 25, 50, 75, 100 % of the requests.',
  };
  for (const version of ['v1', 'v2'] as const) {
    screen.line(screen.paint('bold', heading[version]));
    const succeeded = await show(deps, state, version);
    if (!succeeded) return false;
    screen.line();
  }
  screen.line(`Version 2 has all traffic after ${seconds(began)}.${totalWords(deps)}`);
  writeState(dir, account, { ...state, done: true });
  return true;
}

/** What is told where the demo cannot be shown, or not to its end: everything else goes on, so no stack. */
export function demoTrouble(error: unknown, url: string): string {
  if (error instanceof Refusal && error.code === 'deployment.conflict' && error.link !== undefined) {
    const cancel = `${url}/pipelines/${error.link.split('/').at(-1)}/cancel`;
    return (
      `  shop is in progress, the demo is left out: ${error.link}\n` +
      `  It is shown at the next start, once that has ended. To cancel it, with a TOKEN as docs/api.md makes it:\n` +
      `    curl -sS -X POST ${cancel} -H "Authorization: Bearer $TOKEN"`
    );
  }
  return `  The demo could not go on: ${error instanceof Error ? error.message : String(error)}`;
}

function totalWords({ traffic, screen }: DemoDeps): string {
  if (traffic === null) return '';
  const { sent, failed } = traffic.totals();
  const verdict = failed === 0 ? screen.paint('good', 'none failed') : screen.paint('bad', `${failed} failed`);
  return ` Of ${sent} requests that were sent meanwhile, ${verdict}.`;
}

async function show(deps: DemoDeps, state: DemoState, version: Version): Promise<boolean> {
  const { api, account, dir, screen, signal } = deps;
  let pipelineId = state[version];
  if (pipelineId === undefined) {
    const example = readFileSync(fileURLToPath(new URL(`../../../${files[version]}`, import.meta.url)), 'utf8');
    const text = example.replace(`account: ${sandboxAccount}`, `account: ${account}`);
    // The key makes a repetition after a crash answer with the first pipeline. It names this data folder's first start only.
    const started = await api.start(
      text,
      account === sandboxAccount ? `demo-${version}` : `demo-${account}-${version}`,
    );
    pipelineId = started.pipelineId;
    Object.assign(state, { [version]: pipelineId });
    writeState(dir, account, state);
    for (const warning of started.warnings) screen.line(`  Warning: ${warning}`);
  }
  const earlier = (await api.pipeline(pipelineId)).status;
  if (isFinalPipeline(earlier)) {
    screen.line(`  ended ${earlier} already (pipeline ${pipelineId})`);
    return earlier === 'SUCCEEDED';
  }
  await tell(deps, pipelineId);
  if (signal.aborted) return false;
  const { status, steps } = await api.pipeline(pipelineId);
  await tellSample(deps);
  if (status === 'SUCCEEDED') return true;
  const id = steps[0]?.deployment.id;
  const error = id === undefined ? null : (await api.deployment(id)).error;
  screen.line(screen.paint('bad', `  The deployment ended ${status}${error === null ? '' : `: ${error}`}`));
  return false;
}

/** After so long without news it is said what the run waits for. */
const quietMs = 900;

/**
 * Prints the pipeline's events as they come, with the seconds since its first, and a sample of the traffic whenever the
 * mesh has taken other weights. What happened before this began (in an interrupted demo) is told without a sample.
 */
async function tell(deps: DemoDeps, pipelineId: string): Promise<void> {
  const { api, screen, signal, drainSeconds } = deps;
  const [deploymentId = ''] = (await api.pipeline(pipelineId)).steps.map(({ deployment }) => deployment.id);
  const watchedSince = Date.now();
  let firstAt: number | undefined;
  const say = (at: number, text: string) => {
    firstAt ??= at;
    screen.line(`  ${screen.paint('dim', `${((at - firstAt) / 1000).toFixed(1)} s`.padStart(6))}  ${text}`);
  };
  const tellWhy = async () => {
    const { waitingFor } = await api.deployment(deploymentId);
    const reason = waitingFor?.replace(/(; rolls back)? (at|until) \d{4}-\S+Z$/, '');
    const howLong = reason === 'connections to drain' ? `${drainSeconds} s ` : '';
    if (reason) say(Date.now(), screen.paint('dim', `waits ${howLong}for ${reason}`));
  };
  let quiet: NodeJS.Timeout | undefined;
  try {
    for await (const { at, message } of api.events(pipelineId, signal)) {
      clearTimeout(quiet);
      if (message) say(Date.parse(at), message);
      // A sentence of packages/pipeline/src/narrate.ts: the weights are confirmed, so callers must see them. 0 % stands only
      // for a moment, at the beginning and at the end.
      const isNew = Date.parse(at) >= watchedSince;
      if (isNew && message && /^The mesh took [1-9]/.test(message)) await tellSample(deps);
      quiet = setTimeout(() => tellWhy().catch(() => undefined), quietMs);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    clearTimeout(quiet);
  }
}

async function tellSample({ traffic, screen }: DemoDeps): Promise<void> {
  if (traffic !== null) screen.line(await sampleLine(traffic, screen));
}

/** Who answered the next requests, and how many pods of each version are ready. */
async function sampleLine(traffic: ShopTraffic, screen: Screen): Promise<string> {
  const { v1, v2, failed } = traffic.sample(sampleSize);
  const pods = await traffic.pods();
  const percent = Math.round((v2 / Math.max(1, v1 + v2)) * 100);
  const cells = Math.round((percent / 100) * barWidth);
  const bar = screen.paint('old', '█'.repeat(barWidth - cells)) + screen.paint('new', '▒'.repeat(cells));
  const share = (version: string, style: Style, of: number, ready: string) =>
    screen.paint(style, `${version} ${String(of).padStart(3)} %, ${ready} pods`);
  const lost = failed === 0 ? '' : screen.paint('bad', `, ${failed} failed`);
  const versions = `${share('v1', 'old', 100 - percent, pods.v1)}   ${share('v2', 'new', percent, pods.v2)}`;
  return `          ${bar}  ${sampleSize} requests answered by  ${versions}${lost}`;
}

function seconds(began: number): string {
  return `${((performance.now() - began) / 1000).toFixed(1)} s`;
}

function readState(dir: DataDir, account: string): DemoState {
  const parsed = DemoState.safeParse(readJson(stateFile(dir, account)) ?? {});
  return parsed.success ? parsed.data : { begun: true, done: true };
}

function writeState(dir: DataDir, account: string, state: DemoState): void {
  writePrivate(stateFile(dir, account), JSON.stringify(state));
}

/** Each cluster has its own demo. */
function stateFile({ demoFile }: DataDir, account: string): string {
  return account === sandboxAccount ? demoFile : demoFile.replace(/\.json$/, `-${account}.json`);
}
