import type { KubernetesObject } from '../kubernetes.ts';
import { checkTexts, type Refuse } from './manifest-object.ts';
import { at, entries, exists, isMapping, items, type View } from './view.ts';

/** The label by which the control plane tells versions apart (spec/behaviour.md §2); nobody else may set it. */
export const hashLabel = 'armory-pod-template-hash';

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
  const spec = at(root, 'spec');
  if (!isMapping(spec.value)) return refuse('manifest.object', ['spec'], 'spec is missing');

  const { value: replicas } = at(spec, 'replicas');
  if (
    replicas !== undefined &&
    replicas !== null &&
    !(typeof replicas === 'number' && Number.isInteger(replicas) && replicas >= 0 && replicas < 2 ** 31)
  ) {
    refuse('manifest.object', ['spec', 'replicas'], 'spec.replicas must be a whole number, 0 or more');
  }
  const template = at(spec, 'template');
  const labels = at(template, 'metadata', 'labels');
  checkTexts(labels, labels.path, refuse);
  checkTexts(at(template, 'metadata', 'annotations'), at(template, 'metadata', 'annotations').path, refuse);
  checkSelector(at(spec, 'selector', 'matchLabels'), labels, refuse);
  checkContainers(at(template, 'spec', 'containers'), refuse);
  if (at(spec, 'paused').value === true) warn('spec.paused is ignored');
}

function checkSelector(selector: View, labels: View, refuse: Refuse): void {
  if (!isMapping(selector.value) || Object.keys(selector.value).length === 0) {
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
    if (exists(at(view, hashLabel)))
      refuse('manifest.object', at(view, hashLabel).path, `the label ${hashLabel} belongs to the control plane`);
  }
}

function checkContainers(containers: View, refuse: Refuse): void {
  if (items(containers).length === 0)
    return refuse('manifest.object', containers.path, 'spec.template.spec.containers is missing or empty');
  for (const container of items(containers)) {
    const { value: name } = at(container, 'name');
    if (typeof name !== 'string' || name === '') refuse('manifest.object', container.path, 'a container has no name');
  }
}

/** Whether a Service with this selector would send requests to pods with these labels. */
export function selectorMatches(selector: unknown, labels: unknown): boolean {
  if (!isMapping(selector) || !isMapping(labels)) return false;
  const wanted = Object.entries(selector);
  return wanted.length > 0 && wanted.every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value);
}
