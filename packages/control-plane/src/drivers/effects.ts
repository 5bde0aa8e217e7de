import { shownText } from '@cdaas/contract/text.ts';
import { evaluate } from '@cdaas/pipeline/conditions.ts';
import {
  type DeploymentEvent,
  type DeploymentState,
  type Effect,
  type ObjectFacts,
  partOf,
  type Slot,
  type Survey,
  type WriteEffect,
} from '@cdaas/pipeline/deployment-state.ts';
import { writerOfHeld } from '@cdaas/pipeline/field-managers.ts';
import { isRecord } from '@cdaas/pipeline/is-record.ts';
import type { KubernetesObject, ObjectRef } from '@cdaas/pipeline/kubernetes.ts';
import { deploymentKey, fieldManager, instanceKey } from '@cdaas/pipeline/marks.ts';
import { isMending } from '@cdaas/pipeline/mend.ts';
import type { DeploymentPlan } from '@cdaas/pipeline/plan.ts';
import { blindSurvey, survey } from '@cdaas/pipeline/preflight.ts';
import type { Surroundings } from '@cdaas/pipeline/preflight-look.ts';
import { type ClusterWrite, factsOf, fenceVersion, refOf, renderWrite } from '@cdaas/pipeline/render.ts';
import { slotOfObject } from '@cdaas/pipeline/slot-of-object.ts';
import { type ClusterLimits, outsideLimits } from '../clusters/limits.ts';
import { managersAsApplied } from './applied-fields.ts';
import { type KubeClient, misunderstood, type ResourceRef } from './kube.ts';
import type { Answered, Outcome, Unreachable } from './kube-exchange.ts';
import { readableSurvey } from './readable-survey.ts';
import { redactSecrets } from './redact.ts';
import { outsideRegistration, refusalWords } from './refusal-words.ts';
import { readSurroundings, viewFor } from './surroundings.ts';
import { isGone, notServed, understand } from './understand.ts';
import { withinTime } from './within-time.ts';

/**
 * Carries out one effect of a deployment against its cluster and says what came of it as the next event. Outcomes of
 * the cluster are events, never exceptions; only a bug throws.
 */

/** What the engine knows of a deployment and its cluster when it performs an effect. */
export type Performance = {
  client: KubeClient;
  state: DeploymentState;
  plan: DeploymentPlan;
  effect: Effect;
  /** Of the row that committed the effect. */
  version: number;
  instance: string;
  meshConfirmation: 'linkerd-smi' | 'stored';
  /** What the cluster's registration lets be deployed there. */
  limits: ClusterLimits;
  /** Which of these deployments are over; asked for objects that stand in the way. */
  finalAmong(deploymentIds: string[]): Promise<ReadonlySet<string>>;
  /** The saved form of an object, for a restore. */
  previousForm(slot: string): Promise<KubernetesObject | undefined>;
  now(): Date;
};

/** `superseded`: a later transition of this deployment wrote the object; whoever performs this is late and must stop. */
export type Performed = { kind: 'event'; event: DeploymentEvent; originals?: Original[] } | { kind: 'superseded' };

/** An object as it was before this deployment changed anything, to be saved with the preflight's event. */
export type Original = { slot: Slot; object: KubernetesObject };

/** Of a preflight, which is many requests; and of a check, which is five lists. */
const surveyMs = 60_000;
const checkMs = 20_000;
/** Of what a condition shows; names and reasons in it are the cluster's. */
const longestDetail = 1_000;

export async function performEffect(performance: Performance): Promise<Performed> {
  const { effect } = performance;
  switch (effect.kind) {
    case 'survey':
      return performSurvey(performance);
    case 'read':
      return performRead(performance, effect);
    case 'check':
      return performCheck(performance, effect);
    case 'write':
      return performWrite(performance, effect);
  }
}

async function performSurvey(performance: Performance): Promise<Performed> {
  const { client, plan, state, effect } = performance;
  const outside = await findOutside(client, performance);
  if (!Array.isArray(outside)) return failed(performance, effect.key, outside);
  if (outside.length > 0) {
    const closed = { ...blindSurvey(plan, ''), problems: outside };
    return { kind: 'event', event: { type: 'surveyed', at: at(performance), key: effect.key, survey: closed } };
  }
  const read = await withinTime(surveyMs, readSurroundings(client, plan, performance));
  if (read.kind === 'forbidden') {
    const blind = blindSurvey(plan, read.rights, read.help);
    return { kind: 'event', event: { type: 'surveyed', at: at(performance), key: effect.key, survey: blind } };
  }
  if (read.kind !== 'read') return failed(performance, effect.key, read);
  const found = readableSurvey(survey(plan, state, read.surroundings));
  const originals = originalsOf(plan, state, read.surroundings);
  return { kind: 'event', event: { type: 'surveyed', at: at(performance), key: effect.key, survey: found }, originals };
}

/**
 * Objects of the plan that the cluster's registration does not let be deployed there. Asked before anything else is done,
 * because only the cluster knows which kinds lie outside of namespaces, and the registration may have changed.
 */
async function findOutside(client: KubeClient, { plan, limits }: Performance): Promise<Survey['problems'] | Outcome> {
  const problems: Survey['problems'] = [];
  for (const { apiVersion, kind, metadata } of [...plan.workloads.map(({ manifest }) => manifest), ...plan.objects]) {
    const resource = await client.findResource(apiVersion, kind);
    // What is not served yet may be by a definition in the same file; it is looked at again before it is written.
    if (resource.kind !== 'found' && resource.kind !== 'absent') return resource;
    const namespaced = resource.kind === 'found' ? resource.namespaced : metadata.namespace !== undefined;
    const namespace = namespaced ? metadata.namespace : undefined;
    const outside = outsideLimits({ kind, name: metadata.name, namespace }, limits);
    if (outside) problems.push({ object: `${kind} ${metadata.name}`, message: `${outside.message} ${outside.hint}` });
  }
  return problems;
}

function originalsOf(plan: DeploymentPlan, state: DeploymentState, seen: Surroundings): Original[] {
  const originals = new Map<Slot, KubernetesObject>();
  for (const [index, route] of plan.routes.entries()) {
    for (const service of seen.services) {
      const { name } = service.metadata;
      if (name === route.rootServiceName) originals.set(`root.${index}`, service);
      if (route.canaryServiceGiven && name === route.canaryServiceName) originals.set(`canary.${index}`, service);
    }
  }
  for (const [index, { name }] of plan.workloads.entries()) {
    const deployment = seen.deployments.find(({ metadata }) => metadata.name === name);
    if (deployment) originals.set(`deployment.${index}`, deployment);
  }
  for (const [index, object] of seen.existing.entries()) {
    if (object) originals.set(slotOfObject(state.outline, index), object);
  }
  return [...originals].map(([slot, object]) => ({ slot, object }));
}

async function performRead(performance: Performance, effect: Extract<Effect, { kind: 'read' }>): Promise<Performed> {
  const { client, state, plan, instance } = performance;
  const ref = await locate(client, refOf(state, effect.slot));
  if (ref.kind !== 'located') return failed(performance, effect.key, ref);
  const understood = understand(await client.get(ref.ref), ref.object);
  const found = { type: 'found' as const, at: at(performance), key: effect.key };
  if (understood.kind === 'gone') return { kind: 'event', event: { ...found, object: null, leftover: false } };
  if (understood.kind !== 'object') return failed(performance, effect.key, understood);
  const { object } = understood;
  if ((fenceVersion(object, state.id) ?? 0) > performance.version) return { kind: 'superseded' };
  const owner = object.metadata.labels?.[deploymentKey];
  const ours = object.metadata.annotations?.[instanceKey] === instance;
  const leftover =
    ours && owner !== undefined && owner !== state.id && (await performance.finalAmong([owner])).has(owner);
  // Who changed what the run holds is asked only where that is looked at.
  const facts = { ...factsOf(object, plan.routes), ...(isMending(effect) ? { writer: writerOfHeld(object) } : {}) };
  return { kind: 'event', event: { ...found, object: facts, leftover } };
}

async function performCheck(performance: Performance, effect: Extract<Effect, { kind: 'check' }>): Promise<Performed> {
  const { namespace } = effect.condition;
  const view = await withinTime(checkMs, viewFor(performance.client, namespace, [effect.condition]));
  if (view.kind !== 'read') return failed(performance, effect.key, view);
  const sight = evaluate(effect.condition, view.view);
  const detail = shownText(sight.detail, longestDetail);
  return { kind: 'event', event: { type: 'checked', at: at(performance), key: effect.key, ...sight, detail } };
}

async function performWrite(performance: Performance, effect: WriteEffect): Promise<Performed> {
  const { client, state, plan } = performance;
  const { part, index } = partOf(effect.slot);
  const route = effect.change.op === 'create' && part === 'canary' ? plan.routes[index] : undefined;
  let root: KubernetesObject | undefined;
  if (route && !route.canaryServiceGiven) {
    const ref = { apiVersion: 'v1', kind: 'Service', namespace: plan.namespace, name: route.rootServiceName };
    const read = await readFor(performance, { ...ref, plural: 'services' });
    if (read.kind !== 'object') return failed(performance, effect.key, read);
    root = read.object;
  }
  let replicaSet: KubernetesObject | undefined;
  if (effect.change.op === 'create' && part === 'deployment') {
    const under = refOf(state, `${state.track === 'forward' ? 'newReplicaSet' : 'oldReplicaSet'}.${index}`);
    const read = await readFor(performance, { ...under, plural: 'replicasets' });
    if (read.kind !== 'object') return failed(performance, effect.key, read);
    replicaSet = read.object;
  }
  const isMadeAgain = part === 'deployment' && state.track === 'rollBack';
  const previous =
    effect.change.op === 'restore' || isMadeAgain ? await performance.previousForm(effect.slot) : undefined;
  const mark = { instance: performance.instance, version: performance.version };
  const write = renderWrite({ plan, state, effect, mark, root, replicaSet, previous });
  const located = await locate(client, write.ref, write.verb);
  if (located.kind !== 'located') return failed(performance, effect.key, located);
  // Only what brings something new is held back: a roll back always may.
  const isNew = write.verb === 'create' || write.verb === 'apply';
  const { kind, name } = write.ref;
  const outside = isNew
    ? outsideLimits({ kind, name, namespace: located.ref.namespace }, performance.limits)
    : undefined;
  if (outside) return failed(performance, effect.key, forbiddenHere(outside.message));
  const outcome = await send(client, located.ref, write);
  if (outcome.kind === 'unreachable')
    return outcome.sent ? lost(performance, outcome) : failed(performance, effect.key, outcome);
  const written = (object: ObjectFacts | null): Performed => {
    return { kind: 'event', event: { type: 'written', at: at(performance), key: effect.key, object } };
  };
  // A delete that finds nothing has its effect, and of creates "not found" is said of the namespace or the kind.
  const mayMiss = write.verb === 'delete' || write.verb === 'create';
  if (outcome.status >= 300 && (outcome.status !== 404 || mayMiss || isGone(outcome, write.ref))) {
    return failed(performance, effect.key, outcome);
  }
  if (write.verb === 'delete') return written(null);
  const understood = understand(outcome, located.object);
  if (understood.kind !== 'object') {
    // It was carried out, or it was not: nothing follows from such an answer.
    return understood.kind === 'unreachable' ? lost(performance, understood) : failed(performance, effect.key, outcome);
  }
  const { object } = understood;
  if (effect.uid !== undefined && write.verb !== 'create' && object.metadata.uid !== effect.uid) {
    return lost(
      performance,
      misunderstood(`the server answered with another ${write.ref.kind} ${write.ref.name} than was changed`),
    );
  }
  const isGiven = part === 'canary' && plan.routes[index]?.canaryServiceGiven === true;
  const isAppliedNext = write.verb === 'create' && (part === 'object' || part === 'root' || isGiven);
  const stored = isAppliedNext ? await handOver(client, located, object, outcome.body) : object;
  return written(factsOf(stored, plan.routes));
}

/**
 * Has what a POST set managed as by an apply. It changes nothing but the list of managers, and only while nobody has
 * touched the object since the POST, so that it does no harm however late it arrives; where it fails, all is as it was.
 */
async function handOver(
  client: KubeClient,
  located: Located,
  created: KubernetesObject,
  body: unknown,
): Promise<KubernetesObject> {
  const managedFields = managersAsApplied(body);
  if (managedFields === undefined) return created;
  const { uid, resourceVersion } = created.metadata;
  const outcome = await client.patch(located.ref, { metadata: { managedFields, uid, resourceVersion } });
  const understood = understand(outcome, located.object);
  return understood.kind === 'object' && understood.object.metadata.uid === uid ? understood.object : created;
}

/** The outcome of a write is not known: the cluster is read next. */
function lost(performance: Performance, { reason }: Unreachable): Performed {
  const { key } = performance.effect;
  return { kind: 'event', event: { type: 'lost', at: at(performance), key, message: reason } };
}

/** An object that another is made from, as it is now; what the cluster answered where there is none to be had. */
async function readFor(
  { client }: Performance,
  { plural, ...ref }: ObjectRef & { plural: string },
): Promise<{ kind: 'object'; object: KubernetesObject } | Outcome> {
  const outcome = await client.get({ ...ref, plural });
  const understood = understand(outcome, ref);
  return understood.kind === 'gone' ? outcome : understood;
}

function send(client: KubeClient, ref: ResourceRef, write: ClusterWrite): Promise<Outcome> {
  switch (write.verb) {
    case 'create': {
      const { name: _inBody, ...collection } = ref;
      return client.create(collection, write.body);
    }
    case 'put':
      return client.put(ref, write.body);
    case 'patch':
      return client.patch(ref, write.body);
    case 'apply':
      return client.apply(ref, write.body, { fieldManager, force: true });
    case 'delete':
      return client.delete(ref, {
        uid: write.uid,
        resourceVersion: write.resourceVersion,
        propagationPolicy: write.orphan ? 'Orphan' : 'Background',
      });
  }
}

/** `object`: as answers name it. */
type Located = { kind: 'located'; ref: ResourceRef; object: ObjectRef };

/**
 * Where the cluster serves an object. A kind that it does not serve is refused to who creates or removes an object as its
 * server would: 404. Of what stands there already it says nothing, least of all that it is gone.
 */
async function locate(client: KubeClient, ref: ObjectRef, verb?: ClusterWrite['verb']): Promise<Located | Outcome> {
  const resource = await client.findResource(ref.apiVersion, ref.kind);
  if (resource.kind === 'found') {
    const { namespace: asked, ...rest } = ref;
    const namespace = resource.namespaced ? asked : undefined;
    const object = namespace === undefined ? rest : { ...rest, namespace };
    return {
      kind: 'located',
      ref: { apiVersion: ref.apiVersion, plural: resource.plural, namespace, name: ref.name },
      object,
    };
  }
  if (resource.kind !== 'absent') return resource;
  if (verb !== 'create' && verb !== 'delete') return misunderstood(`${notServed(ref)} now`);
  return { kind: 'answered', status: 404, body: { kind: 'Status', reason: 'NotFound', message: notServed(ref) } };
}

/** As a cluster would refuse it that knew the registration. */
function forbiddenHere(message: string): Answered {
  return { kind: 'answered', status: 403, body: { kind: 'Status', reason: outsideRegistration, message } };
}

/** The event of a call that did not succeed. */
function failed(performance: Performance, key: string, outcome: Outcome): Performed {
  if (outcome.kind === 'unreachable') {
    const event = { type: 'unreachable' as const, at: at(performance), key, message: outcome.reason };
    return { kind: 'event', event };
  }
  return { kind: 'event', event: refused(performance, key, outcome) };
}

function refused(performance: Performance, key: string, answer: Answered): DeploymentEvent {
  const { status, body, retryAfterMs } = answer;
  return {
    type: 'refused',
    at: at(performance),
    key,
    status,
    ...refusalWords(answer, withoutSecrets(performance.plan, body)),
    ...(retryAfterMs === undefined ? {} : { retryAfterSeconds: Math.ceil(retryAfterMs / 1000) }),
  };
}

/** Some servers repeat what they refuse. */
function withoutSecrets(plan: DeploymentPlan, body: unknown): unknown {
  if (!isRecord(body) || typeof body.message !== 'string') return body;
  return { ...body, message: redactSecrets(body.message, plan.objects) };
}

function at(performance: Performance): string {
  return performance.now().toISOString();
}
