/** What a new cluster holds: namespaces, its node, the mesh's resource definitions and the adaptor's workload. */
import { workload, workloadImage, workloadLabels } from './adaptor-rules.ts';
import * as api from './api.ts';
import { nodeName } from './controllers/pods.ts';
import { versionInfo } from './discovery.ts';
import type { Schema } from './schema.ts';
import type { Cluster } from './store.ts';

const options: api.WriteOptions = { manager: 'sandbox' };

/** Creates what is missing, so that a cluster whose first start was cut short is completed by the next. */
export function seedCluster(cluster: Cluster): void {
  for (const name of ['kube-system', 'kube-public', 'default', workload.namespace]) {
    ensure(cluster, 'namespaces', '', { metadata: { name } });
  }
  ensure(cluster, 'nodes', '', { metadata: { name: nodeName, labels: { 'kubernetes.io/hostname': nodeName } } });
  const node = cluster.store.get('nodes', '', nodeName)!.object;
  if (!node.status) cluster.store.put('nodes', { ...node, status: nodeStatus });
  for (const definition of [trafficSplits, serviceProfiles]) {
    ensure(cluster, 'customresourcedefinitions.apiextensions.k8s.io', '', definition);
  }
  ensure(cluster, 'clusterroles.rbac.authorization.k8s.io', '', {
    metadata: { name: 'cluster-admin' },
    rules: [{ apiGroups: ['*'], resources: ['*'], verbs: ['*'] }],
  });
  ensure(cluster, 'deployments.apps', workload.namespace, adaptorWorkload);
}

function ensure(
  cluster: Cluster,
  id: string,
  namespace: string,
  body: { metadata: { name: string; labels?: Record<string, string> }; [field: string]: unknown },
): void {
  if (cluster.store.get(id, namespace, body.metadata.name)) return;
  const resource = cluster.registry.byId(id);
  api.create(cluster, { resource, version: resource.versions[0]!, namespace }, body, options);
}

const nodeStatus = {
  capacity: { cpu: '1000', memory: '1000Gi', pods: '10000' },
  allocatable: { cpu: '1000', memory: '1000Gi', pods: '10000' },
  conditions: [{ type: 'Ready', status: 'True', reason: 'KubeletReady' }],
  nodeInfo: { kubeletVersion: versionInfo.gitVersion },
};

/** As the adaptor's own chart 1.0 defines it. */
const trafficSplits = {
  metadata: { name: 'trafficsplits.split.smi-spec.io', labels: { 'linkerd.io/extension': 'smi' } },
  spec: {
    group: 'split.smi-spec.io',
    scope: 'Namespaced',
    names: {
      kind: 'TrafficSplit',
      listKind: 'TrafficSplitList',
      plural: 'trafficsplits',
      singular: 'trafficsplit',
      shortNames: ['ts'],
    },
    versions: [
      splitVersion('v1alpha1', true, { 'x-kubernetes-int-or-string': true }),
      splitVersion('v1alpha2', false, { type: 'number' }),
    ],
  },
};

function splitVersion(name: string, storage: boolean, weight: Schema) {
  const backend = {
    type: 'object',
    required: ['service', 'weight'],
    properties: { service: { type: 'string' }, weight },
  };
  const spec = {
    type: 'object',
    required: ['service', 'backends'],
    properties: { service: { type: 'string' }, backends: { type: 'array', items: backend } },
  };
  const additionalPrinterColumns = [
    { name: 'Service', type: 'string', jsonPath: '.spec.service', description: 'The apex service of this split.' },
    { name: 'Backends', type: 'string', jsonPath: '.spec.backends[*].service' },
    { name: 'Weights', type: 'string', jsonPath: '.spec.backends[*].weight' },
  ];
  return {
    name,
    served: true,
    storage,
    additionalPrinterColumns,
    schema: { openAPIV3Schema: { type: 'object', properties: { spec } } },
  };
}

/** The part of Linkerd's ServiceProfile that a traffic split touches; its other fields are kept as they come. */
const serviceProfiles = {
  metadata: { name: 'serviceprofiles.linkerd.io' },
  spec: {
    group: 'linkerd.io',
    scope: 'Namespaced',
    names: {
      kind: 'ServiceProfile',
      listKind: 'ServiceProfileList',
      plural: 'serviceprofiles',
      singular: 'serviceprofile',
      shortNames: ['sp'],
    },
    versions: [
      {
        name: 'v1alpha2',
        served: true,
        storage: true,
        additionalPrinterColumns: [
          { name: 'Destinations', type: 'string', jsonPath: '.spec.dstOverrides[*].authority' },
          { name: 'Weights', type: 'string', jsonPath: '.spec.dstOverrides[*].weight' },
        ],
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: {
                type: 'object',
                'x-kubernetes-preserve-unknown-fields': true,
                properties: {
                  dstOverrides: {
                    type: 'array',
                    items: {
                      type: 'object',
                      required: ['authority', 'weight'],
                      properties: { authority: { type: 'string' }, weight: { 'x-kubernetes-int-or-string': true } },
                    },
                  },
                },
              },
            },
          },
        },
      },
    ],
  },
};

/** By this workload a control plane sees that an SMI adaptor serves the cluster; the sandbox itself does its work. */
const adaptorWorkload = {
  metadata: { name: workload.name, labels: workloadLabels },
  spec: {
    replicas: 1,
    selector: { matchLabels: workloadLabels },
    template: {
      metadata: { labels: workloadLabels },
      spec: { containers: [{ name: 'smi-adaptor', image: workloadImage }] },
    },
  },
};
