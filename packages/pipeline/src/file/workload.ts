import { isRecord } from '../is-record.ts';
import type { KubernetesObject } from '../kubernetes.ts';
import { hashKey } from '../marks.ts';
import { didYouMean, slipOf } from './hints.ts';
import { checkTexts, type Refuse } from './manifest-object.ts';
import { at, entries, exists, items, type View } from './view.ts';
import { toWords } from './words.ts';

/** Rules of a Deployment: what is needed to make a ReplicaSet of it. */
export function checkWorkload(deployment: KubernetesObject, refuse: Refuse, warn: (text: string) => void): void {
  if (deployment.apiVersion !== 'apps/v1') {
    return refuse(
      'manifest.kind',
      ['apiVersion'],
      `a Deployment must have apiVersion apps/v1, not ${deployment.apiVersion}`,
    );
  }
  const root: View = { value: deployment, path: [] };
  const metadata = at(root, 'metadata');
  checkKeys(root, ['apiVersion', 'kind', 'metadata', 'spec'], refuse);
  checkKeys(metadata, metadataFields, refuse);
  for (const field of ['finalizers', 'ownerReferences'])
    if (says(at(metadata, field))) warn(`metadata.${field} has no meaning here: no Deployment object is kept`);
  const spec = at(root, 'spec');
  if (!isRecord(spec.value)) return refuse('manifest.object', ['spec'], 'spec is missing');

  checkKeys(spec, [...usedFields, ...Object.keys(meaningless), 'paused', 'strategy'], refuse);
  for (const field of ['replicas', 'minReadySeconds']) {
    const { value, path } = at(spec, field);
    const isCount = typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 2 ** 31;
    if (!isAbsent(value) && !isCount)
      refuse('manifest.object', path, `spec.${field} must be a whole number, 0 or more`);
  }
  checkStrategy(at(spec, 'strategy'), refuse, warn);
  for (const [field, instead] of Object.entries(meaningless))
    if (!isAbsent(at(spec, field).value)) warn(`spec.${field} has no meaning here: ${instead}`);
  checkKeys(at(spec, 'selector'), ['matchLabels', 'matchExpressions'], refuse);
  const template = at(spec, 'template');
  checkKeys(template, ['metadata', 'spec'], refuse);
  checkKeys(at(template, 'metadata'), metadataFields, refuse);
  const labels = at(template, 'metadata', 'labels');
  checkTexts(labels, labels.path, refuse);
  checkTexts(at(template, 'metadata', 'annotations'), at(template, 'metadata', 'annotations').path, refuse);
  checkSelector(at(spec, 'selector', 'matchLabels'), labels, refuse);
  checkContainers(at(template, 'spec', 'containers'), refuse);
  for (const container of items(at(template, 'spec', 'initContainers'))) checkContainer(container, refuse);
  if (at(spec, 'paused').value === true) warn('spec.paused is ignored');
}

/** ObjectMeta (meta/v1) as people may write it; in a pod template Kubernetes itself looks only at some. */
const metadataFields = [
  'annotations',
  'creationTimestamp',
  'deletionGracePeriodSeconds',
  'finalizers',
  'generateName',
  'labels',
  'name',
  'namespace',
  'ownerReferences',
];
const usedFields = ['minReadySeconds', 'replicas', 'selector', 'template'];
/** Fields of a DeploymentSpec (apps/v1) that the Deployment controller would use, and what stands for it here. */
const meaningless: Record<string, string> = {
  progressDeadlineSeconds: 'deploymentConfig.timeout says how long pods may take to become ready',
  revisionHistoryLimit: 'old ReplicaSets are removed at the end of a deployment',
};

function isAbsent(value: unknown): boolean {
  return value === undefined || value === null;
}

/** Tools write `strategy: {}` and the like for nothing. */
function says({ value }: View): boolean {
  return !isAbsent(value) && !(typeof value === 'object' && Object.keys(value as object).length === 0);
}

/** A field that Kubernetes does not know would be dropped without a word, and its meaning with it. */
function checkKeys(view: View, known: readonly string[], refuse: Refuse): void {
  const unknown = entries(view).filter(([key, { value }]) => !known.includes(key) && !isAbsent(value));
  for (const [key, { path }] of unknown.slice(0, 50)) {
    const hint = didYouMean(key, known) ?? `known here: ${known.join(', ')}`;
    refuse('field.unknown', path, `${toWords(path)} is not a field of a Deployment`, hint);
  }
}

/** `spec.strategy` of the Deployment: the strategy of the target takes its place. */
function checkStrategy(strategy: View, refuse: Refuse, warn: (text: string) => void): void {
  if (!says(strategy)) return;
  if (!isRecord(strategy.value)) return refuse('manifest.object', strategy.path, 'spec.strategy must be a mapping');
  checkKeys(strategy, ['type', 'rollingUpdate'], refuse);
  const type = at(strategy, 'type');
  if (type.value === 'Recreate') {
    refuse('step.unsupported', type.path, 'not supported yet: spec.strategy.type Recreate', 'leave it out');
  } else if (!isAbsent(type.value) && type.value !== 'RollingUpdate') {
    refuse('manifest.object', type.path, 'spec.strategy.type must be RollingUpdate or Recreate');
  } else warn('spec.strategy has no meaning here: the strategy of the target says how');
}

function checkSelector(selector: View, labels: View, refuse: Refuse): void {
  if (!isRecord(selector.value) || Object.keys(selector.value).length === 0) {
    return refuse('manifest.object', selector.path, 'spec.selector.matchLabels is missing');
  }
  checkTexts(selector, selector.path, refuse);
  const unmatched = entries(selector).filter(([key, { value }]) => at(labels, key).value !== value);
  if (unmatched.length > 0) {
    const names = unmatched.map(([key]) => key).join(', ');
    refuse(
      'manifest.object',
      selector.path,
      `spec.selector.matchLabels does not match the labels of spec.template (${names})`,
    );
  }
  for (const view of [selector, labels]) {
    if (exists(at(view, hashKey)))
      refuse('manifest.object', at(view, hashKey).path, `the label ${hashKey} belongs to the control plane`);
  }
}

function checkContainers(containers: View, refuse: Refuse): void {
  if (items(containers).length === 0)
    return refuse('manifest.object', containers.path, 'spec.template.spec.containers is missing or empty');
  for (const container of items(containers)) checkContainer(container, refuse);
}

/** Fields of a Container (core/v1, Kubernetes 1.35). Others pass, for versions to come, unless they are nearly one of these. */
const containerFields = [
  'args',
  'command',
  'env',
  'envFrom',
  'image',
  'imagePullPolicy',
  'lifecycle',
  'livenessProbe',
  'name',
  'ports',
  'readinessProbe',
  'resizePolicy',
  'resources',
  'restartPolicy',
  'restartPolicyRules',
  'securityContext',
  'startupProbe',
  'stdin',
  'stdinOnce',
  'terminationMessagePath',
  'terminationMessagePolicy',
  'tty',
  'volumeDevices',
  'volumeMounts',
  'workingDir',
];

function checkContainer(container: View, refuse: Refuse): void {
  const misspelt = new Set<string>();
  for (const [key, { path }] of entries(container)) {
    const meant = containerFields.includes(key) ? undefined : slipOf(key, containerFields);
    if (meant === undefined) continue;
    misspelt.add(meant);
    refuse('field.unknown', path, `${toWords(path)} is not a field of a container`, `did you mean '${meant}'?`);
  }
  for (const field of ['name', 'image']) {
    const { value } = at(container, field);
    if (misspelt.has(field) || (typeof value === 'string' && value !== '')) continue;
    refuse('manifest.object', container.path, `a container has no ${field}`);
  }
}

/** Whether a Service with this selector would send requests to pods with these labels. */
export function selectorMatches(selector: unknown, labels: unknown): boolean {
  if (!isRecord(selector) || !isRecord(labels)) return false;
  const wanted = Object.entries(selector);
  return wanted.length > 0 && wanted.every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value);
}
