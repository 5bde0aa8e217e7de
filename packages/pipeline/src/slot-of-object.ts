import type { Outline, Slot } from './deployment-state.ts';

/** The slot of the plan's i-th object: a Service that the run also shifts traffic with has one slot for both. */
export function slotOfObject(outline: Outline, index: number): Slot {
  const object = outline.objects[index];
  if (object?.kind === 'Service' && object.apiVersion === 'v1' && object.namespace === outline.namespace) {
    for (const [route, names] of outline.routes.entries()) {
      if (object.name === names.rootServiceName) return `root.${route}`;
      if (names.canaryServiceGiven && object.name === names.canaryServiceName) return `canary.${route}`;
    }
  }
  return `object.${index}`;
}
