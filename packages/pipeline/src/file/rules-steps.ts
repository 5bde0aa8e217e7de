import { isRecord } from '../is-record.ts';
import { maxWaitSeconds, secondsOf } from './durations.ts';
import { didYouMean } from './hints.ts';
import { isNone, stepKinds } from './schema-strategies.ts';
import { constraintStepLists, type StepListPlace, strategyStepLists } from './step-lists.ts';
import { at, entries, exists, items, keys, text, type View } from './view.ts';
import type { Report } from './violations.ts';
import { shorten, toWords } from './words.ts';

/** Rules of strategies and steps (spec/deployment-file.md §4.1, §6), beyond the shape of each field. */
export function checkSteps(root: View, report: Report): void {
  for (const [name, strategy] of entries(at(root, 'strategies'))) {
    checkStrategy(name, strategy, report);
    for (const { place, list } of strategyStepLists(strategy)) checkStepList(root, place, list, report);
  }
  for (const [, target] of entries(at(root, 'targets'))) {
    for (const { place, list } of constraintStepLists(target)) checkStepList(root, place, list, report);
  }
}

function checkStrategy(name: string, strategy: View, report: Report): void {
  if (!isRecord(strategy.value)) return;
  const canary = at(strategy, 'canary');
  const blueGreen = at(strategy, 'blueGreen');
  const misspelt = keys(strategy).some((key) => didYouMean(key, ['canary', 'blueGreen']) !== undefined);
  if (exists(canary) && exists(blueGreen)) {
    report.violation(
      'strategy.choice',
      strategy.path,
      `strategy '${shorten(name)}' has both canary and blueGreen; choose one`,
    );
  } else if (!exists(canary) && !exists(blueGreen) && !misspelt) {
    report.violation('strategy.choice', strategy.path, `strategy '${shorten(name)}' needs canary or blueGreen`);
  }
  const steps = at(canary, 'steps');
  if (Array.isArray(steps.value) && steps.value.length === 0) {
    report.warning(steps.path, `${toWords(steps.path)} is empty: the new version takes all traffic at once`);
  }
  let before: number | undefined;
  for (const step of items(steps)) {
    const weight = at(step, 'setWeight', 'weight');
    if (typeof weight.value !== 'number') continue;
    if (before !== undefined && weight.value < before) {
      report.warning(
        weight.path,
        `${toWords(weight.path)} is ${weight.value} after ${before}: traffic moves back to the old version`,
      );
    }
    before = weight.value;
  }
  const active = text(at(blueGreen, 'activeService'));
  if (active !== undefined) {
    const path = at(blueGreen, 'activeService').path;
    report.warning(path, `${toWords(path)} is deprecated; name the Service in trafficManagement[].kubernetes[]`);
  }
  if (active !== undefined && active === text(at(blueGreen, 'previewService'))) {
    const { path } = at(blueGreen, 'previewService');
    report.violation(
      'service.same',
      path,
      `activeService and previewService are both '${shorten(active)}'; they must differ`,
    );
  }
}

function checkStepList(root: View, place: StepListPlace, list: View, report: Report): void {
  for (const step of items(list)) {
    if (!isRecord(step.value)) continue;
    const written = keys(step);
    const known = written.filter((key) => (stepKinds as string[]).includes(key));
    if (written.length === 0 || known.length > 1) {
      const got = known.length > 1 ? known.join(' and ') : 'nothing';
      report.violation(
        'step.choice',
        step.path,
        `${toWords(step.path)} must be exactly one of ${stepKinds.join(', ')}, not ${got}`,
      );
    }
    if (isRecord(at(step, 'pause').value)) checkPause(at(step, 'pause'), report);
    checkRunWebhook(root, at(step, 'runWebhook'), report);
    checkAnalysis(root, place, at(step, 'analysis'), report);
    checkExposure(at(step, 'exposeServices'), report);
  }
}

/** spec/deployment-file.md §6.2: either a duration with its unit, or `untilApproved: true` and what belongs to it. */
function checkPause(pause: View, report: Report): void {
  const where = toWords(pause.path);
  const has = (key: string): boolean => exists(at(pause, key));
  const refuse = (key: string, message: string): void =>
    report.violation('pause.form', at(pause, key).path, `${where}: ${message}`);
  const hasDuration = has('duration');
  const hasUnit = has('unit') && !(isNone(at(pause, 'unit').value) && !hasDuration);
  const approved = at(pause, 'untilApproved').value;
  const roles = at(pause, 'requiresRoles');

  if (approved === true) {
    if (hasDuration || hasUnit)
      refuse(hasDuration ? 'duration' : 'unit', 'untilApproved cannot go together with duration and unit');
  } else if (approved === undefined || approved === false) {
    if (hasDuration && !hasUnit) refuse('duration', 'a duration needs a unit: seconds, minutes or hours');
    else if (hasUnit && !hasDuration) refuse('unit', 'a unit needs a duration');
    else if (!hasDuration)
      report.violation('pause.form', pause.path, `${where} needs either duration and unit, or untilApproved: true`);
    for (const key of ['requiresRoles', 'approvalExpiration'])
      if (has(key)) refuse(key, `${key} needs untilApproved: true`);
  }
  if (Array.isArray(roles.value) && roles.value.length === 0) {
    report.violation(
      'roles.empty',
      roles.path,
      `${toWords(roles.path)} needs at least one role; leave it out to let anyone approve`,
    );
  }
  checkLength(pause, report);
  checkLength(at(pause, 'approvalExpiration'), report);
}

function checkLength(duration: View, report: Report): void {
  const seconds = secondsOf(duration);
  if (seconds === undefined || seconds <= maxWaitSeconds) return;
  const { path } = at(duration, 'duration');
  report.violation('field.range', path, `${toWords(path)} is longer than a year`);
}

function checkRunWebhook(root: View, step: View, report: Report): void {
  const { path } = at(step, 'name');
  const name = text(at(step, 'name'));
  if (name === undefined) return;
  if (exists(at(step, 'unit')))
    report.warning(at(step, 'unit').path, `${toWords(at(step, 'unit').path)} means nothing and is ignored`);
  const known = items(at(root, 'webhooks')).flatMap((webhook) => text(at(webhook, 'name')) ?? []);
  if (name.trim() === '' || known.includes(name)) return;
  report.violation('ref.webhook', path, `webhook '${shorten(name)}' is not in webhooks`, {
    hint: didYouMean(name, known),
  });
}

function checkAnalysis(root: View, place: StepListPlace, step: View, report: Report): void {
  if (!isRecord(step.value)) return;
  const where = toWords(step.path);
  const { path: unitPath } = at(step, 'unit');
  if (exists(at(step, 'unit')) && exists(at(step, 'units'))) {
    report.violation('field.unknown', unitPath, `${where} has both units and unit; unit is the old name of units`, {
      onKey: true,
    });
  } else if (exists(at(step, 'unit'))) {
    report.warning(unitPath, `${toWords(unitPath)} is the old name of units`);
  } else if (!exists(at(step, 'units'))) {
    report.violation('field.required', at(step, 'units').path, `${where}.units is required`);
  }
  const queries = items(at(root, 'analysis', 'queries'));
  const known = queries.flatMap((query) => text(at(query, 'name')) ?? []);
  for (const use of items(at(step, 'queries'))) {
    const name = text(use);
    if (name === undefined || name.trim() === '') continue;
    const query = queries.find((candidate) => text(at(candidate, 'name')) === name);
    if (query === undefined) {
      const what = exists(at(root, 'analysis'))
        ? `query '${shorten(name)}' is not in analysis.queries`
        : `query '${shorten(name)}' is used but the file has no analysis block`;
      report.violation('ref.query', use.path, what, { hint: didYouMean(name, known) });
      continue;
    }
    const provider = [
      at(query, 'metricProviderName'),
      at(step, 'metricProviderName'),
      at(root, 'analysis', 'defaultMetricProviderName'),
    ];
    if (!provider.some(exists)) {
      report.violation(
        'ref.provider',
        use.path,
        `query '${shorten(name)}' has no metric provider; give metricProviderName or analysis.defaultMetricProviderName`,
      );
    }
    if (
      place === 'beforeDeployment' &&
      /\{\{\s*armory\.replicaSetName\s*\}\}/.test(text(at(query, 'queryTemplate')) ?? '')
    ) {
      report.violation(
        'template.variable',
        use.path,
        `query '${shorten(name)}' uses armory.replicaSetName, which does not exist before the deployment`,
      );
    }
  }
}

/** spec/deployment-file.md §6.5. */
function checkExposure(step: View, report: Report): void {
  const ttl = at(step, 'ttl');
  const seconds = secondsOf(ttl);
  if (seconds === undefined || (seconds >= 60 && seconds <= 24 * 3600)) return;
  report.violation(
    'ttl.range',
    at(ttl, 'duration').path,
    `${toWords(ttl.path)} must be between 60 seconds and 24 hours`,
  );
}
