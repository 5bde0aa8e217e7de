import type { KubernetesObject } from '../kubernetes.ts';
import type { DeploymentPlan, SmiRoute, StrategyStep, Workload } from '../plan.ts';
import { toSeconds } from './durations.ts';
import { didYouMean } from './hints.ts';
import { readManifests } from './manifests.ts';
import type { ParsedFile } from './parse.ts';
import { checkFile } from './rules-file.ts';
import { checkSteps } from './rules-steps.ts';
import { activeTargets, checkTargets, dependenciesOf } from './rules-targets.ts';
import type { DeploymentFile } from './schema.ts';
import { checkShape } from './schema-violations.ts';
import type { Path } from './source.ts';
import { assembleTargets, type TargetObjects } from './target-objects.ts';
import { checkTemplates } from './templates.ts';
import { checkTraffic } from './traffic.ts';
import { smiNames, trafficOf } from './traffic-entries.ts';
import { checkUnsupported } from './unsupported.ts';
import { at, exists, text, type View, withoutNulls } from './view.ts';
import { createReport, type Report, type Violation } from './violations.ts';
import { shorten } from './words.ts';

export type ResolveOptions = {
  /** Names of the cluster accounts that the caller's tenant has. */
  registeredAccounts: Iterable<string>;
  /** How long connections may drain after traffic left a backend. */
  drainSeconds: number;
  /** Account of the request (start by URL): replaces the account of every target. Empty means none. */
  account?: string | undefined;
};

export type ResolvedFile = {
  pipeline: {
    application: string;
    description: string;
    /** File-wide custom variables, `contextOverrides` merged in. */
    context: Record<string, string>;
    sourceControl: Record<string, unknown>;
    /** What happens where a deployment of the application is in progress. */
    onConflict: 'reject';
  };
  /** One for each target of this start, in the order of the file. */
  plans: DeploymentPlan[];
  /** By target: the targets of this start that must have SUCCEEDED before it begins. */
  dependencies: ReadonlyMap<string, string[]>;
  /** For the start response, in the order of the file. */
  warnings: string[];
};

/** Pods of a target may take this long to become ready unless the file says otherwise (spec/deployment-file.md §3). */
const defaultTimeoutSeconds = 30 * 60;

/**
 * Checks a parsed deployment file against every rule of spec/deployment-file.md and turns it into what each deployment is
 * told to do. Either every violation at once, in the order of the file (HTTP 422), or the plans. Never throws for what a
 * client can send.
 */
export function resolveDeploymentFile(
  file: ParsedFile,
  options: ResolveOptions,
): ResolvedFile | { violations: Violation[] } {
  const report = createReport(file);
  const root: View = { value: withoutNulls(file.value), path: [] };
  if (at(root, 'kind').value === 'lambda') {
    report.violation('step.unsupported', ['kind'], 'not supported yet: kind lambda');
    return { violations: report.violations() };
  }
  const { file: parsed, oversized } = checkShape(root, report);
  if (oversized) return { violations: report.violations() };

  const account = options.account || text(at(root, 'account')) || undefined;
  const accountPath = options.account ? undefined : at(root, 'account').path;
  checkFile(root, report);
  checkSteps(root, report);
  checkTargets(root, account, report);
  checkTemplates(root, report);
  const assembled = assembleTargets(root, readManifests({ ...file.budget }, root, report), report);
  checkTraffic(root, assembled, report);
  const targets = activeTargets(root, file);
  checkAccounts(
    targets,
    account === undefined ? undefined : { name: account, path: accountPath },
    new Set(options.registeredAccounts),
    report,
  );
  checkUnsupported(root, targets, assembled, report);

  const violations = report.violations();
  if (violations.length > 0 || parsed === undefined) return { violations };
  const plans = targets.map(([name]) => planTarget(root, parsed, name, assembled.get(name), { ...options, account }));
  return {
    pipeline: pipelineOf(parsed),
    plans,
    dependencies: dependenciesOf(targets),
    warnings: report.warnings(),
  };
}

function checkAccounts(
  targets: [string, View][],
  override: { name: string; path: Path | undefined } | undefined,
  registered: Set<string>,
  report: Report,
): void {
  for (const [, target] of targets) {
    const account = override?.name ?? text(at(target, 'account'));
    if (account === undefined || account === '' || registered.has(account)) continue;
    const path = override?.path ?? (exists(at(target, 'account')) ? at(target, 'account').path : target.path);
    report.violation('account.unknown', path, `account '${shorten(account)}' does not exist`, {
      hint: didYouMean(account, registered),
    });
  }
}

function pipelineOf(file: DeploymentFile): ResolvedFile['pipeline'] {
  return {
    application: file.application,
    description: file.description ?? '',
    context: { ...file.contextOverrides, ...file.context },
    sourceControl: file.sourceControl ?? {},
    onConflict: 'reject',
  };
}

/** The plan of a target of a file without violations: whatever is missing here was refused before. */
function planTarget(
  root: View,
  file: DeploymentFile,
  name: string,
  objects: TargetObjects | undefined,
  { account, drainSeconds }: ResolveOptions,
): DeploymentPlan {
  const target = file.targets[name];
  const workloads = objects?.deployments.map(({ object }) => planWorkload(object)).sort(byName) ?? [];
  const routes = trafficOf(root, name)
    .flatMap(({ kind, view }) => (kind === 'smi' ? (planRoute(view) ?? []) : []))
    .sort((a, b) => (a.rootServiceName < b.rootServiceName ? -1 : 1));
  const [first] = workloads;
  const steps = file.strategies?.[target?.strategy ?? '']?.canary?.steps;
  if (
    target === undefined ||
    objects === undefined ||
    first === undefined ||
    routes.length === 0 ||
    steps === undefined
  ) {
    throw new Error(`target '${name}' passed validation without all that its plan needs`);
  }
  return {
    application: file.application,
    target: name,
    account: account ?? target.account ?? '',
    namespace: first.manifest.metadata.namespace ?? 'default',
    workloads,
    routes,
    objects: objects.others.map(({ object }) => object),
    steps: steps.map(planStep),
    readyTimeoutSeconds:
      file.deploymentConfig?.timeout === undefined ? defaultTimeoutSeconds : toSeconds(file.deploymentConfig.timeout),
    drainSeconds,
    ...(file.deploymentConfig?.keepDeploymentObject === true ? { keepDeploymentObject: true } : {}),
  };
}

function planWorkload(manifest: KubernetesObject): Workload {
  const { value } = at({ value: manifest, path: [] }, 'spec', 'replicas');
  return { name: manifest.metadata.name, replicas: typeof value === 'number' ? value : 1, manifest };
}

function byName(a: Workload, b: Workload): number {
  return a.name < b.name ? -1 : 1;
}

function planRoute(entry: View): SmiRoute | undefined {
  const names = smiNames(entry);
  return (
    names && {
      rootServiceName: names.root,
      canaryServiceName: names.canary,
      canaryServiceGiven: names.canaryGiven,
      trafficSplitName: names.split,
    }
  );
}

type FileStep = NonNullable<NonNullable<DeploymentFile['strategies']>[string]['canary']>['steps'][number];

function planStep(step: FileStep): StrategyStep {
  if (step.setWeight !== undefined) return { kind: 'setWeight', weight: step.setWeight.weight };
  const { pause } = step;
  if (pause?.untilApproved === true) {
    const { approvalExpiration } = pause;
    return {
      kind: 'pause',
      untilApproved: true,
      approvalExpirationSeconds: approvalExpiration === undefined ? null : toSeconds(approvalExpiration),
    };
  }
  if (pause?.duration !== undefined && pause.unit !== undefined)
    return { kind: 'pause', duration: pause.duration, unit: pause.unit };
  throw new Error('a step passed validation without a kind that a plan can hold');
}
