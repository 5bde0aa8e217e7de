import { isRecord } from '../is-record.ts';
import { secondsOf } from './durations.ts';
import { didYouMean } from './hints.ts';
import { isServiceName } from './kubernetes-names.ts';
import { knownKeys } from './schema-violations.ts';
import { at, entries, exists, items, keys, text, type View } from './view.ts';
import type { Report } from './violations.ts';
import { shorten, toWords } from './words.ts';

/** Rules of the top level and of the blocks that steps refer to (spec/deployment-file.md §2, 3, 8, 9). */
export function checkFile(root: View, report: Report): void {
  checkTopLevel(root, report);
  checkTimeout(at(root, 'deploymentConfig', 'timeout'), report);
  checkQueries(at(root, 'analysis', 'queries'), report);
  checkWebhooks(at(root, 'webhooks'), report);
}

function checkTopLevel(root: View, report: Report): void {
  const known = knownKeys([]);
  const unknown = keys(root).filter((key) => !known.includes(key));
  for (const key of unknown.slice(0, 50)) {
    const hint = didYouMean(key, known);
    report.warning(
      [key],
      `'${shorten(key)}' is not a known field and is ignored${hint === undefined ? '' : `; ${hint}`}`,
    );
  }
  const version = text(at(root, 'version'));
  if (version !== undefined && version !== 'v1')
    report.warning(['version'], `version '${shorten(version)}' is not known; the file is read as v1`);
  const kind = text(at(root, 'kind'));
  if (kind !== undefined && kind !== 'kubernetes' && kind !== 'lambda') {
    const isManifest = exists(at(root, 'apiVersion'));
    const hint = isManifest
      ? 'this is a Kubernetes manifest; a deployment file holds those under manifests[].inline (docs/deployment-file.md)'
      : didYouMean(kind, ['kubernetes', 'lambda']);
    report.violation('field.enum', ['kind'], `kind must be kubernetes or lambda, not '${shorten(kind)}'`, { hint });
  }
  if (exists(at(root, 'contextOverrides')))
    report.warning(['contextOverrides'], 'contextOverrides is the old name of context');
}

function checkTimeout(timeout: View, report: Report): void {
  const seconds = secondsOf(timeout);
  const { path } = at(timeout, 'duration');
  if (seconds === undefined) return;
  if (seconds < 60)
    report.violation('timeout.min', path, `${toWords(timeout.path)} must be at least 60 seconds, not ${seconds}`);
  if (seconds > 366 * 24 * 3600)
    report.violation('field.range', path, `${toWords(timeout.path)} is longer than a year`);
}

function checkQueries(queries: View, report: Report): void {
  checkUnique(
    items(queries).map((query) => at(query, 'name')),
    'query',
    report,
  );
  for (const query of items(queries)) {
    if (!isRecord(query.value)) continue;
    const where = toWords(query.path);
    const upper = at(query, 'upperLimit').value;
    const lower = at(query, 'lowerLimit').value;
    if (upper === undefined && lower === undefined) {
      report.violation('query.limits', query.path, `${where} needs upperLimit, lowerLimit or both`);
    } else if (typeof upper === 'number' && typeof lower === 'number' && lower > upper) {
      report.violation(
        'query.limits',
        at(query, 'lowerLimit').path,
        `${where}: lowerLimit ${lower} is above upperLimit ${upper}`,
      );
    }
    const dead = at(query, 'aggregationMethod');
    if (exists(dead)) report.warning(dead.path, `${toWords(dead.path)} means nothing any more and is ignored`);
  }
}

function checkWebhooks(webhooks: View, report: Report): void {
  checkUnique(
    items(webhooks).map((webhook) => at(webhook, 'name')),
    'webhook',
    report,
  );
  for (const webhook of items(webhooks)) {
    const where = toWords(webhook.path);
    const mode = text(at(webhook, 'networkMode')) ?? 'direct';
    const agent = at(webhook, 'agentIdentifier');
    if (exists(agent) && mode === 'direct') {
      report.violation(
        'field.unknown',
        agent.path,
        `${where}: agentIdentifier is only for networkMode remoteNetworkAgent`,
        { onKey: true },
      );
    }
    const remote = at(webhook, 'isRemoteNetworkAgent');
    if (typeof remote.value === 'boolean' && remote.value !== (mode === 'remoteNetworkAgent')) {
      report.warning(remote.path, `${toWords(remote.path)} is ignored; networkMode (${mode}) decides`);
    }
    if (text(at(webhook, 'bodyTemplate')) !== undefined) {
      report.warning(
        at(webhook, 'bodyTemplate').path,
        `${where}.bodyTemplate is a plain text; it is used as bodyTemplate.inline`,
      );
    }
  }
}

function checkUnique(names: View[], what: string, report: Report): void {
  const seen = new Set<string>();
  for (const view of names) {
    const name = text(view);
    if (name === undefined) continue;
    if (seen.has(name))
      report.violation(
        'name.duplicate',
        view.path,
        `two ${what === 'query' ? 'queries' : `${what}s`} are named '${shorten(name)}'`,
      );
    seen.add(name);
  }
}

/** A field that names a Service in the target's own namespace. */
export function checkServiceName(view: View, report: Report): void {
  const name = text(view);
  if (name === undefined || name.trim() === '' || isServiceName(name)) return;
  const plain = name.split('.')[0] ?? '';
  const hint = name.includes('.') && isServiceName(plain) ? `write the plain name: '${plain}'` : undefined;
  report.violation(
    'field.type',
    view.path,
    `${toWords(view.path)} must be the plain name of a Service (at most 63 of a-z, 0-9 and -), not '${shorten(name)}'`,
    { hint },
  );
}

/** References to targets by name, in a list. */
export function checkTargetNames(
  root: View,
  names: View,
  report: Report,
  pick: (item: View) => View = (item) => item,
): void {
  const known = entries(at(root, 'targets')).map(([name]) => name);
  for (const item of items(names)) {
    const view = pick(item);
    const name = text(view);
    if (name === undefined || name.trim() === '' || known.includes(name)) continue;
    report.violation('ref.target', view.path, unknownTarget(name), { hint: didYouMean(name, known) });
  }
}

export function unknownTarget(name: string): string {
  return `target '${shorten(name)}' is not in targets`;
}
