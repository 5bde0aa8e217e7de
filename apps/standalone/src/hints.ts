import type { InProgress, Overview } from './api-client.ts';
import { sandboxAccount } from './register-sandbox.ts';
import type { Screen } from './screen.ts';

/**
 * What a person can do next, as lines to copy. They follow what is there: nothing is offered that would be refused now, and
 * after a later start only what waits for somebody is told.
 */

/** `account`: the cluster's name in deployment files. */
export type Place = { url: string; adminFile: string; kubeconfig: string; account: string };

/** `fresh`: nothing was ever deployed here. `shown`: the demo has just ended well. `later`: anything else. */
export type Occasion = 'fresh' | 'shown' | 'later';

/**
 * @param isNew whether the cluster was registered just now
 * @param overview null where it is not known
 */
export function tellWhatToTry(
  screen: Screen,
  place: Place,
  { demoEndedWell, isNew }: { demoEndedWell: boolean; isNew: boolean },
  overview: Overview | null,
): void {
  const inProgress = overview?.inProgress ?? [];
  const shown = demoEndedWell && overview !== null && inProgress.length === 0;
  const occasion = shown ? 'shown' : isNew || overview?.isEmpty ? 'fresh' : 'later';
  for (const [index, line] of hintLines(occasion, place, inProgress).entries())
    screen.line(index === 0 ? screen.paint('bold', line) : line);
  screen.line();
}

/** The lines, without colours. */
export function hintLines(occasion: Occasion, place: Place, inProgress: readonly InProgress[]): string[] {
  switch (occasion) {
    case 'fresh':
      return [...opening(place), ...firstVersion(place), ...aCanary(place, 'then '), ...watching(place)];
    case 'shown':
      return [...opening(place), ...aCanary(place), ...aCrash(place), ...watching(place)];
    case 'later':
      return later(place, inProgress);
  }
}

function opening(place: Place): string[] {
  return [
    'Try it yourself, in another terminal, in this folder:',
    '',
    '  # a token, good for 24 hours',
    ...tokenLines(place),
  ];
}

/** Sets TOKEN, with nothing but curl and sed. */
function tokenLines({ url, adminFile }: Place): string[] {
  const field = (name: string) => `$(sed -n 's/.*"${name}": "\\(.*\\)".*/\\1/p' ${adminFile})`;
  return [
    `  TOKEN=$(curl -sSf ${url}/oauth/token -d grant_type=client_credentials \\`,
    `    -d client_id=${field('clientId')} \\`,
    `    -d client_secret=${field('clientSecret')} | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')`,
  ];
}

/** A start of an example, changed by sed where that takes it; PIPELINE and DEPLOYMENT are set to the ids of its answer. */
function startLines({ url, account }: Place, file: string, ...changes: string[]): string[] {
  const all = account === sandboxAccount ? changes : [`s/account: ${sandboxAccount}/account: ${account}/`, ...changes];
  const curl = `curl -sS ${url}/pipelines/kubernetes -H "Authorization: Bearer $TOKEN" \\`;
  const body = (data: string) => `    -H 'Content-Type: application/yaml' --data-binary ${data}); echo "$STARTED"`;
  const sed = all.map((change) => ` -e '${change}'`).join('');
  return [
    ...(all.length === 0
      ? [`  STARTED=$(${curl}`, body(`@${file}`)]
      : [`  STARTED=$(sed${sed} ${file} |`, `    ${curl}`, body('@-')]),
    `  PIPELINE=$(echo "$STARTED" | sed 's/.*"pipelineId":"\\([^"]*\\)".*/\\1/')`,
    `  DEPLOYMENT=$(echo "$STARTED" | sed 's/.*"id":"\\([^"]*\\)".*/\\1/')`,
  ];
}

function call(rest: string): string {
  return `  curl -sS -w '\\n' -H "Authorization: Bearer $TOKEN" ${rest}`;
}

function follow({ url }: Place): string {
  return `  curl -sSN ${url}/pipelines/$PIPELINE/events -H "Authorization: Bearer $TOKEN" -H 'Accept: text/event-stream'`;
}

function firstVersion(place: Place): string[] {
  return [
    '',
    '  # version 1 of the sample application: nothing runs yet, so it goes straight to 100 %; its events until it has',
    ...imageWords(place),
    ...startLines(place, 'examples/shop-v1.yaml'),
    follow(place),
  ];
}

/** Whoever runs containers needs one that exists. */
function imageWords({ account }: Place): string[] {
  if (account === sandboxAccount) return [];
  return [
    '  # (the image ghcr.io/cdaas/shop is made up: on a cluster that runs containers put yours into the examples first)',
  ];
}

function aCanary(place: Place, after = ''): string[] {
  const { url } = place;
  return [
    '',
    `  # ${after}a canary of version 3, which waits for your approval at 20 %`,
    ...startLines(place, 'examples/manual-approval.yaml'),
    '',
    '  # its deployment: phase, steps, and what it waits for',
    call(`${url}/deployments/$DEPLOYMENT`),
    '',
    '  # approve it once it waits for that, or bring the version before back instead',
    call(`-X POST ${url}/deployments/$DEPLOYMENT/steps/canary-step-2/approve`),
    call(`-X POST ${url}/deployments/$DEPLOYMENT/rollback`),
    '',
    '  # its events as they happen, to the last one',
    follow(place),
  ];
}

function aCrash(place: Place): string[] {
  return [
    '',
    '  # when that has ended, a version that crashes under traffic: it rolls back by itself',
    ...startLines(place, 'examples/shop-v2.yaml', 's/shop:2.0.0/shop:2.1.0-crash/'),
    follow(place),
  ];
}

function watching({ kubeconfig }: Place): string[] {
  return [
    '',
    '  # the cluster, while it happens, each in a terminal of its own',
    ...['trafficsplits', 'services', 'replicasets', 'pods'].map(
      (type) => `  kubectl --kubeconfig ${kubeconfig} get ${type} -n shop --watch`,
    ),
  ];
}

function later(place: Place, inProgress: readonly InProgress[]): string[] {
  const here = 'Everything is as it was. Calls by curl: docs/api.md; files to start: examples/.';
  if (inProgress.length === 0) return [here];
  const waits = inProgress.flatMap(({ application, deploymentId, phase, waitingFor, approvable }) => {
    if (approvable === null)
      return [`  ${application} is ${phase}${waitingFor === null ? '' : `: waits for ${waitingFor}`}`];
    return [
      `  ${application} awaits approval of ${approvable}:`,
      `  ${call(`-X POST ${place.url}/deployments/${deploymentId}/steps/${approvable}/approve`)}`,
    ];
  });
  const token = inProgress.some(({ approvable }) => approvable !== null) ? tokenLines(place) : [];
  return [
    here,
    'In progress:',
    ...waits,
    ...(token.length === 0 ? [] : ['  with', ...token.map((line) => `  ${line}`)]),
  ];
}
