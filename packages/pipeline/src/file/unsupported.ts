import { isRecord } from '../is-record.ts';
import { groupOf } from './kubernetes-names.ts';
import { isUrl } from './manifests.ts';
import type { Path } from './source.ts';
import { constraintStepLists, stepsOf, strategyStepLists } from './step-lists.ts';
import type { TargetObjects } from './target-objects.ts';
import { templateTexts, usesSecret } from './templates.ts';
import { strategyKind, trafficOf } from './traffic-entries.ts';
import { at, entries, exists, items, text, type View } from './view.ts';
import type { Report } from './violations.ts';

/**
 * What the file may say but this version does not do yet. It is refused where it would take effect (an unused strategy does
 * nothing), never ignored (design.md, law 10). Each rule goes away with the feature it names.
 */
export function checkUnsupported(
  root: View,
  targets: [string, View][],
  assembled: Map<string, TargetObjects>,
  report: Report,
): void {
  const refuse = (path: Path, what: string, hint?: string): void =>
    report.violation('step.unsupported', path, `not supported yet: ${what}`, { hint });

  const config = at(root, 'deploymentConfig');
  const inProgress = at(config, 'ifDeploymentInProgress', 'strategy');
  if (inProgress.value === 'enqueueOne') refuse(inProgress.path, 'ifDeploymentInProgress: enqueueOne', 'use reject');
  for (const { path } of templateTexts(root).filter(({ value }) => usesSecret(value)))
    refuse(path, 'secrets in fields of the file');
  for (const manifest of items(at(root, 'manifests'))) refuseManifest(manifest, targets, refuse);
  warnSecretsInFiles(root, report);
  for (const [name, target] of targets) {
    if (isRecord(target.value)) refuseTarget(root, name, target, assembled.get(name), refuse);
  }
}

type RefuseFeature = (path: Path, what: string, hint?: string) => void;

function refuseManifest(manifest: View, targets: [string, View][], refuse: RefuseFeature): void {
  const names = at(manifest, 'targets');
  const wanted = items(names).map(text);
  if (exists(names) && !targets.some(([name]) => wanted.includes(name))) return;
  const path = at(manifest, 'path');
  if (isUrl(text(path) ?? '')) refuse(path.path, 'a manifest path that is a URL', 'send the text in files, or inline');
  const inline = at(manifest, 'inline');
  if (usesSecret(text(inline) ?? '')) refuse(inline.path, 'secrets in inline manifests');
}

function warnSecretsInFiles(root: View, report: Report): void {
  for (const [, contents] of entries(at(root, 'files'))) {
    for (const content of items(contents)) {
      if (usesSecret(text(content) ?? ''))
        report.warning(
          content.path,
          'a manifest file holds {{secrets.…}}, which is not replaced and goes to the cluster as it is',
        );
    }
  }
}

function refuseTarget(
  root: View,
  name: string,
  target: View,
  objects: TargetObjects | undefined,
  refuse: RefuseFeature,
): void {
  for (const { list } of constraintStepLists(target)) {
    if (items(list).length > 0) refuse(list.path, `steps in ${String(list.path.at(-1))}`);
  }
  const strategyName = text(at(target, 'strategy'));
  const strategy = strategyName === undefined ? undefined : at(root, 'strategies', strategyName);
  const kind = strategyKind(root, target);
  if (strategy !== undefined) refuseStrategy(strategy, refuse);
  if (kind === 'canary') refuseTraffic(root, name, target, refuse);
  if (objects !== undefined) refuseObjects(target, objects, refuse);
}

function refuseStrategy(strategy: View, refuse: RefuseFeature): void {
  const blueGreen = at(strategy, 'blueGreen');
  if (exists(blueGreen)) refuse(blueGreen.path, 'blue/green strategies');
  for (const { kind, body } of stepsOf(strategyStepLists(strategy))) {
    if (kind === 'analysis' || kind === 'runWebhook' || kind === 'exposeServices') refuse(body.path, `${kind} steps`);
    const roles = at(body, 'requiresRoles');
    if (kind === 'pause' && items(roles).length > 0) refuse(roles.path, 'requiresRoles');
  }
}

function refuseTraffic(root: View, name: string, target: View, refuse: RefuseFeature): void {
  const { value: management, path } = at(root, 'trafficManagement');
  if (management !== undefined && !Array.isArray(management)) return;
  const covering = trafficOf(root, name);
  const smi = covering.filter(({ kind }) => kind === 'smi');
  const istio = covering.filter(({ kind }) => kind === 'istio');
  for (const { view } of istio) refuse(view.path, 'Istio');
  if (smi.length === 0 && istio.length === 0) {
    const where = management === undefined ? at(target, 'strategy').path : path;
    refuse(
      where,
      `splitting traffic by the number of pods (no trafficManagement for target '${name}')`,
      'add trafficManagement: [{smi: [{rootServiceName: …}]}]',
    );
  }
}

function refuseObjects(target: View, { deployments, others, complete }: TargetObjects, refuse: RefuseFeature): void {
  if (deployments.length === 0 && complete) refuse(target.path, 'a target without a Deployment');
  const namespace = deployments[0]?.object.metadata.namespace;
  for (const { object, refuse: refuseObject } of deployments) {
    if (object.metadata.namespace === namespace) continue;
    const what = 'Deployments of one target in several namespaces';
    refuseObject(
      'step.unsupported',
      ['metadata', 'namespace'],
      `not supported yet: ${what}`,
      'give the target a namespace',
    );
  }
  for (const { object, refuse: refuseObject } of others) {
    const kind = `${groupOf(object.apiVersion)}/${object.kind}`;
    if (kind === 'autoscaling/HorizontalPodAutoscaler' || kind === 'keda.sh/ScaledObject') {
      refuseObject('step.unsupported', ['kind'], `not supported yet: ${object.kind}`);
    }
  }
}
