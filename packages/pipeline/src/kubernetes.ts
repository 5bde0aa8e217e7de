/** A Kubernetes object as JSON: what a manifest, a request body or an answer holds. */
export type KubernetesObject = {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
  [field: string]: unknown;
};

/** The part of ObjectMeta (meta/v1) that this project reads or writes. */
export type ObjectMeta = {
  name: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  deletionTimestamp?: string;
  /** Kept of Deployments only. */
  managedFields?: {
    manager?: string;
    operation?: string;
    time?: string;
    subresource?: string;
    fieldsV1?: Record<string, unknown>;
  }[];
  ownerReferences?: { apiVersion: string; kind: string; name: string; uid: string; controller?: boolean }[];
  [field: string]: unknown;
};

/** Names one object in one cluster. `namespace` is absent for cluster-scoped kinds. */
export type ObjectRef = { apiVersion: string; kind: string; namespace?: string; name: string };
