/** Keys that mark what belongs to a deployment (spec/behaviour.md §2; design.md, "Own keys"). */

/** Label of pods and part of ReplicaSet and Service selectors: tells the two versions apart. */
export const hashKey = 'armory-pod-template-hash';

/** Label of what a deployment drives, copied by Kubernetes from Services to their EndpointSlices. */
export const deploymentKey = 'cdaas/deployment';

/** Annotation `<deployment id>.<version>` of the transition that wrote the object last. */
export const fenceKey = 'cdaas/fence';

/** Annotation with the id of the control plane that wrote the object. */
export const instanceKey = 'cdaas/instance';

/** Annotations of everything that a deployment applies. */
export const annotationKeys = {
  application: 'deploy.armory.io/application',
  deploymentId: 'deploy.armory.io/deployment-id',
  environment: 'deploy.armory.io/environment',
  replicaSetName: 'deploy.armory.io/replica-set-name',
} as const;

/** Manager of fields that are set by server-side apply. */
export const fieldManager = 'cdaas';
