/**
 * The stand-in for Linkerd's SMI adaptor 0.2.7: keeps one ServiceProfile for each root Service, whose dstOverrides are
 * the TrafficSplit's backends. Deleting a split empties them; the ServiceProfile stays. A split that is deleted while
 * the adaptor is down is never heard of: its last weights stay in force. It is up while its workload has a pod, so
 * that scaling that to 0 takes it down as it would the real one.
 */

import { type AdaptorLimits, authorityOf, createPace, specAfter, workload } from '../adaptor-rules.ts';
import * as api from '../api.ts';
import { managersAfterUpdate } from '../apply.ts';
import { isFields, type KubeObject, type ServiceProfile, type TrafficSplit } from '../objects.ts';
import type { Entry, Store } from '../store.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { createQueue } from './queue.ts';

export type Adaptor = AdaptorLimits;

export const splits = 'trafficsplits.split.smi-spec.io';
export const profiles = 'serviceprofiles.linkerd.io';
const writer = { manager: 'smi-adaptor' };

export function adaptorController({ cluster, log }: ControllerContext): { controller: Controller; adaptor: Adaptor } {
  const { store, registry } = cluster;
  const queue = createQueue(sync, log);
  let down = false;
  const isUp = () => !down && hasPod(store);

  const adaptor: Adaptor = {
    lagMs: 20,
    perSecond: 0,
    forgetsDeletes: false,
    get down() {
      return down;
    },
    set down(value) {
      const wasDown = down;
      down = value;
      if (wasDown && isUp()) takeAll();
    },
  };
  const pace = createPace(adaptor);

  function takeAll(): void {
    for (const { object } of store.list(splits)) ask(object as TrafficSplit);
  }

  function ask({ metadata, spec }: TrafficSplit): void {
    if (!spec?.service) return;
    queue.add(JSON.stringify([metadata.namespace, metadata.name, spec.service]), pace());
  }

  function sync(key: string): void {
    if (!isUp()) return;
    const [namespace, name, service] = JSON.parse(key) as [string, string, string];
    const split = store.get(splits, namespace, name)?.object as TrafficSplit | undefined;
    const root = split?.spec.service ?? service;
    const profile = store.get(profiles, namespace, authorityOf(root, namespace))?.object as ServiceProfile | undefined;
    const spec = specAfter(split, profile, namespace, adaptor);
    if (spec === undefined) return;
    if (profile) return write(profile, { ...profile, spec });
    const target = { resource: registry.byId(profiles), version: 'v1alpha2', namespace };
    api.create(cluster, target, { metadata: { name: authorityOf(root, namespace) }, spec }, writer);
  }

  function write(old: KubeObject, next: KubeObject): void {
    const managedFields = managersAfterUpdate(old, next, writer);
    const generation = (old.metadata.generation ?? 0) + 1;
    store.put(profiles, { ...next, metadata: { ...next.metadata, generation, managedFields } });
  }

  return {
    adaptor,
    controller: {
      start: takeAll,
      changed({ entry, previous }) {
        if (entry.id === splits && isUp()) ask(entry.object as TrafficSplit);
        const came = isWorkload(entry) && !(previous && availableIn(previous.object)) && availableIn(entry.object);
        if (came && isUp()) takeAll();
      },
      stop: () => queue.stop(),
    },
  };
}

function isWorkload({ id, object: { metadata } }: Entry): boolean {
  return id === 'deployments.apps' && metadata.namespace === workload.namespace && metadata.name === workload.name;
}

function hasPod(store: Store): boolean {
  const deployment = store.get('deployments.apps', workload.namespace, workload.name);
  return deployment !== undefined && availableIn(deployment.object);
}

function availableIn({ status }: KubeObject): boolean {
  return isFields(status) && Number(status.availableReplicas ?? 0) > 0;
}
