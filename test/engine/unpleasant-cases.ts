import type { Verb } from '../support/unpleasant-cluster.ts';
import { large, liars } from './unpleasant-answers.ts';
import {
  answerAll,
  type Backend,
  type Case,
  forbids,
  gone,
  isReview,
  isWatch,
  isWrite,
  objects,
  only,
  padding,
  raises,
  trickle,
  unreachable,
  withMetadata,
} from './unpleasant-case.ts';

const away: Case[] = [
  { title: 'refuses connections', trouble: { door: 'closed' }, ...gone(/refuses connections \(ECONNREFUSED\)/) },
  {
    title: 'is a black hole',
    trouble: { door: 'black hole' },
    ...gone(/did not accept a connection within|no connection.*came about/),
  },
  {
    title: 'does not speak TLS',
    trouble: { door: 'no TLS' },
    ...gone(/no TLS connection with the server came about/),
    registered: unreachable(/does not speak TLS/),
  },
  {
    title: 'shows an expired certificate',
    trouble: { door: 'expired' },
    ...gone(/certificate has expired/),
    registered: unreachable(/certificate ended 20/),
  },
  {
    title: 'shows a certificate of another CA',
    trouble: { door: 'other' },
    ...gone(/was not issued by the registered CA/),
    registered: unreachable(/was issued by CN=Other CA, and the CA that was given is CN=Cluster CA/),
  },
];

const slow: Case[] = [
  {
    title: 'takes most of the time limit for each answer',
    trouble: {
      request: (asked) =>
        isWatch(asked) ? 'pass' : new Promise((resolve) => setTimeout(() => resolve('pass'), slowMs)),
    },
    atStart: 'goesOn',
    raised: 'goesOn',
    registered: 'accepted',
  },
  { title: 'never answers', trouble: answerAll(() => undefined), ...gone(/did not answer within/) },
  { title: 'lets its answers trickle for ever', trouble: answerAll(trickle), ...gone(/did not answer within/) },
];

/** Of the time limits that tests set. */
export const timeLimitMs = 1_500;
const slowMs = 900;

const storms: Case[] = [
  {
    title: 'answers 409 to every change',
    trouble: {
      request: only(isWrite, (_, reply) => reply.refuse(409, 'Conflict', 'the object has been modified')),
    },
    atStart: { holds: /web.*(keeps changing|has been modified)/ },
    raised: { holds: /web.*(keeps changing|has been modified)/ },
    registered: 'accepted',
  },
  {
    title: 'answers 429 and when to come again',
    trouble: answerAll((reply) => reply.refuse(429, 'TooManyRequests', 'slow down', { 'retry-after': '1' })),
    atStart: { holds: /slow down.*\(HTTP 429\)/ },
    raised: { holds: /slow down.*\(HTTP 429\)/ },
    registered: unreachable(/answered 429/),
  },
  {
    title: 'answers 429 and not when to come again',
    trouble: answerAll((reply) => reply.send({ status: 429, text: 'busy' })),
    atStart: { holds: /HTTP 429/ },
    raised: { holds: /HTTP 429/ },
    registered: unreachable(/answered 429/),
  },
  ...[500, 503, 504].map(
    (status): Case => ({
      title: `answers ${status} to everything`,
      trouble: answerAll((reply) => reply.send({ status, headers: { 'content-type': 'text/html' }, text: '<html>' })),
      atStart: { holds: new RegExp(`HTTP ${status}`) },
      raised: { holds: new RegExp(`HTTP ${status}`) },
      registered: unreachable(new RegExp(`answered ${status}`)),
    }),
  ),
];

const watches: Case[] = [
  {
    title: 'ends every watch at once',
    trouble: { request: only(isWatch, (_, reply) => reply.send({})) },
    atStart: 'goesOn',
    raised: 'goesOn',
    registered: 'accepted',
  },
  {
    title: 'sends garbage in every watch',
    trouble: { request: only(isWatch, (_, reply) => reply.send({ text: '{"type":"ADDED","object":5}\n<html>\n' })) },
    atStart: 'goesOn',
    raised: 'goesOn',
    registered: 'accepted',
  },
  {
    title: 'sends more than 8 MiB in one event of every watch',
    trouble: { request: only(isWatch, (_, reply) => reply.send({ text: padding })) },
    atStart: null,
    raised: 'goesOn',
    registered: 'accepted',
  },
  {
    title: 'no longer lets us watch',
    trouble: { request: only(isWatch, (_, reply) => reply.refuse(403, 'Forbidden', 'cannot watch')) },
    atStart: 'goesOn',
    raised: 'goesOn',
    registered: 'accepted',
  },
];

const mayNot = (verb: Verb, resource: string, group = '') => {
  const named = `${resource}${group && `.${group}`}`;
  return {
    trouble: forbids(verb, resource, group),
    words: new RegExp(`may not ${verb} ${named.replaceAll('.', '\\.')}`),
  };
};

const smi = 'split.smi-spec.io';
const credentials: Case[] = [
  ...(
    [
      ['patch', 'trafficsplits', smi],
      ['delete', 'trafficsplits', smi],
      ['patch', 'services', ''],
      ['delete', 'services', ''],
      ['patch', 'replicasets', 'apps'],
      ['delete', 'replicasets', 'apps'],
    ] as const
  ).map(([verb, resource, group]): Case => {
    const { trouble, words } = mayNot(verb, resource, group);
    // The first of these is the root Service, which is applied before anything depends on it.
    const early = verb === 'patch' && resource === 'services';
    return {
      title: `no longer lets us ${verb} ${resource}`,
      trouble,
      atStart: early ? { fails: words } : { holds: words },
      raised: { holds: words },
      registered: 'accepted',
    };
  }),
  ...(
    [
      ['create', 'services', ''],
      ['create', 'replicasets', 'apps'],
      ['create', 'trafficsplits', smi],
    ] as const
  ).map(([verb, resource, group]): Case => {
    const { trouble, words } = mayNot(verb, resource, group);
    return {
      title: `no longer lets us ${verb} ${resource}`,
      trouble,
      atStart: { holds: words },
      raised: null,
      registered: 'accepted',
    };
  }),
  {
    title: 'no longer accepts the token',
    trouble: answerAll((reply) => reply.refuse(401, 'Unauthorized', 'Unauthorized')),
    atStart: { holds: /does not accept the credential/ },
    raised: { holds: /does not accept the credential/ },
    registered: { code: 'cluster.refused', words: /does not accept this credential/ },
  },
];

const admission: Case[] = [
  {
    title: 'has a webhook that rejects weights above 10',
    trouble: {
      request: only(raises, (_, reply) =>
        reply.refuse(400, 'BadRequest', 'admission webhook "weights.example.org" denied the request: not on Fridays'),
      ),
    },
    atStart: { fails: /admission webhook "weights.example.org" denied the request: not on Fridays/ },
    raised: { fails: /admission webhook "weights.example.org" denied the request: not on Fridays/ },
    registered: 'accepted',
  },
  {
    title: 'has a policy that forbids weights above 10',
    trouble: {
      request: only(raises, (_, reply) =>
        reply.refuse(
          403,
          'Forbidden',
          'trafficsplits.split.smi-spec.io "web" is forbidden: ValidatingAdmissionPolicy "weights" with binding "weights" denied request: not on Fridays',
        ),
      ),
    },
    atStart: { fails: /ValidatingAdmissionPolicy "weights".*denied request/ },
    raised: { fails: /ValidatingAdmissionPolicy "weights".*denied request/ },
    registered: 'accepted',
  },
  {
    title: 'has a webhook that times out',
    trouble: {
      request: only(isWrite, (_, reply) =>
        reply.refuse(
          500,
          'InternalError',
          'Internal error occurred: failed calling webhook "w.example.org": context deadline exceeded',
        ),
      ),
    },
    atStart: { holds: /failed calling webhook "w.example.org": context deadline exceeded.*\(HTTP 500\)/ },
    raised: { holds: /failed calling webhook "w.example.org": context deadline exceeded.*\(HTTP 500\)/ },
    registered: 'accepted',
  },
  {
    title: 'has a webhook that adds labels to Services and splits',
    trouble: objects((object, { resource }) => {
      const labels = { ...(object.metadata.labels as object), 'injected.example.org/by': 'webhook' };
      return resource === 'services' || resource === 'trafficsplits' ? withMetadata({ labels })(object) : object;
    }),
    atStart: 'goesOn',
    raised: 'goesOn',
    registered: 'accepted',
  },
  {
    title: 'stores other weights than were asked for',
    trouble: objects((object, asked) => {
      if (!raises(asked)) return object;
      const backends = (object.spec as { backends: Backend[] }).backends.map((backend) => ({ ...backend, weight: 50 }));
      return { ...object, spec: { ...(object.spec as object), backends } };
    }),
    atStart: { fails: /stored something else than was asked for/ },
    raised: { fails: /stored something else than was asked for/ },
    registered: 'accepted',
  },
  {
    title: 'has no quota left for Services and ReplicaSets',
    trouble: {
      request: only(
        (asked) => asked.verb === 'create' && asked.resource !== 'trafficsplits' && !isReview(asked),
        ({ resource }, reply) =>
          reply.refuse(
            403,
            'Forbidden',
            `${resource} "x" is forbidden: exceeded quota: q, requested: count/${resource}=1, used: count/${resource}=9, limited: count/${resource}=9`,
          ),
      ),
    },
    atStart: { fails: /exceeded quota: q, requested: count\/services=1/ },
    raised: null,
    registered: 'accepted',
  },
  {
    title: 'has the namespace on its way out',
    trouble: {
      request: only(
        (asked) => asked.verb === 'create' && !isReview(asked),
        ({ resource }, reply) =>
          reply.json(403, {
            kind: 'Status',
            status: 'Failure',
            reason: 'Forbidden',
            message: `${resource} "x" is forbidden: unable to create new content in namespace shop because it is being terminated`,
            details: { causes: [{ reason: 'NamespaceTerminating', message: 'namespace shop is being terminated' }] },
            code: 403,
          }),
      ),
    },
    atStart: { fails: /because it is being terminated/ },
    raised: null,
    registered: 'accepted',
  },
];

export const cases: Case[] = [
  ...away,
  ...slow,
  ...storms,
  ...watches,
  ...credentials,
  ...admission,
  ...large,
  ...liars,
];
