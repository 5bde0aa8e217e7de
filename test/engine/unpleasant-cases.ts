import { gzipSync } from 'node:zlib';
import type { Answer, Asked, Reply, Trouble, Verb } from '../support/unpleasant-cluster.ts';

/**
 * What a cluster may do to those who deploy to it, and what becomes of a deployment then. Every weight that is asked for
 * stays what it was, traffic stays where it was, and the status says why in words.
 */

/**
 * `holds`: nothing changes while it lasts, what is waited for is told in these words, and the run goes on when it is over.
 * `fails`: the run ends FAILED for this reason, rolled back. `goesOn`: it succeeds all the same.
 */
export type Expected = { holds: RegExp } | { fails: RegExp } | 'goesOn';

export type Case = {
  title: string;
  trouble: Trouble;
  /** From the start of a run on; null where that says no more than `raised`. */
  atStart: Expected | null;
  /** From an approval at 10 % on; null where it meets nothing from there on. */
  raised: Expected | null;
  /** When the cluster is registered: `code` of the error and words of its message, or that it is accepted. */
  registered: { code: string; words: RegExp } | 'accepted';
};

type Requests = NonNullable<Trouble['request']>;

const writing: Verb[] = ['create', 'update', 'patch', 'delete'];
/** Whether one may do something is asked by creating a review, which nobody stores and no admission sees. */
const isReview = ({ resource }: Asked) => resource === 'selfsubjectaccessreviews';
const isWrite = (asked: Asked) => writing.includes(asked.verb) && !isReview(asked);
const isWatch = ({ verb }: Asked) => verb === 'watch';
const isEvent = ({ resource }: Asked) => resource === 'events';

/** The trouble for the requests that match; the others pass. Events are told beside the run and do not count. */
const only =
  (matches: (asked: Asked) => boolean, request: Requests): Requests =>
  (asked, reply) =>
    matches(asked) && !isEvent(asked) ? request(asked, reply) : 'pass';

/** Watches are refused with them, so that they do not hide it. */
const toAll = (request: Requests): Trouble => ({ request: only(() => true, request) });

const answerAll = (answer: (reply: Reply) => undefined): Trouble => toAll((_, reply) => answer(reply));

/** What the cluster answers to one who asks for or changes single objects, made something else of. */
const objects = (change: (object: Fields, asked: Asked) => unknown, matches = (_: Asked) => true): Trouble => ({
  request: only(
    (asked) => !isWatch(asked) && asked.verb !== 'discover' && asked.verb !== 'delete' && matches(asked),
    async (asked, reply) => {
      const answer = await reply.pass();
      const body = JSON.parse(answer.text) as Fields;
      if (answer.status >= 300) return reply.send(answer);
      const items = body.items as Fields[] | undefined;
      const changed = items ? { ...body, items: items.map((item) => change(item, asked)) } : change(body, asked);
      return reply.json(answer.status, changed);
    },
  ),
});

type Fields = Record<string, unknown> & { metadata: Record<string, unknown> };

const withMetadata = (change: Record<string, unknown>) => (object: Fields) => ({
  ...object,
  metadata: { ...object.metadata, ...change },
});

/** The text of every answer but a watch's, made something else of. */
const texts = (change: (answer: Answer) => Partial<Answer>): Trouble => ({
  request: only(
    (asked) => !isWatch(asked),
    async (_, reply) => reply.send(change(await reply.pass())),
  ),
});

const backendsOf = ({ body }: Asked) => (body as { spec?: { backends?: Backend[] } } | undefined)?.spec?.backends;
type Backend = { service: string; weight: number | string };

/** A change of a TrafficSplit that asks for a weight above 10. */
const raises = (asked: Asked) => {
  const canary = asked.resource === 'trafficsplits' && isWrite(asked) ? backendsOf(asked)?.[1]?.weight : undefined;
  return canary !== undefined && Number(canary) > 10;
};

function forbids(verb: Verb, resource: string, group: string): Trouble {
  return {
    request: only(
      (asked) => asked.verb === verb && asked.resource === resource,
      ({ name }, reply) =>
        reply.refuse(
          403,
          'Forbidden',
          `${resource}${group && `.${group}`} "${name ?? ''}" is forbidden: User "cdaas" cannot ${verb} resource "${resource}" in API group "${group}" in the namespace "shop"`,
        ),
    ),
  };
}

const trickle = ({ response }: Reply): undefined => {
  response.writeHead(200, { 'content-type': 'application/json' });
  const timer = setInterval(() => response.write(' '), 20);
  response.on('close', () => clearInterval(timer));
};

const unreachable = (words: RegExp) => ({ code: 'cluster.unreachable', words });
const gone = (words: RegExp): Pick<Case, 'atStart' | 'raised' | 'registered'> => ({
  atStart: { holds: words },
  raised: { holds: words },
  registered: unreachable(words),
});

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

/** More than an answer may have. */
const padding = 'x'.repeat(9 * 1024 * 1024);

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

const endless = JSON.stringify({
  kind: 'KindList',
  apiVersion: 'v1',
  metadata: { continue: 'more' },
  items: Array(5_000).fill({ metadata: { name: 'x' } }),
});

const large: Case[] = [
  {
    title: 'answers with objects larger than 8 MiB',
    trouble: objects(withMetadata({ annotations: { padding } }), (asked) => asked.verb !== 'list'),
    atStart: { holds: /larger than \d MiB/ },
    raised: { holds: /larger than \d MiB/ },
    registered: unreachable(/larger than 8 MiB/),
  },
  {
    title: 'answers with pages of lists larger than 8 MiB',
    trouble: {
      request: only(
        ({ verb }) => verb === 'list' || verb === 'watch',
        (_, reply) => reply.send({ text: `{"kind":"PodList","metadata":{},"items":[],"x":"${padding}"}` }),
      ),
    },
    atStart: { holds: /larger than \d MiB/ },
    raised: { holds: /larger than \d MiB/ },
    registered: 'accepted',
  },
  {
    title: 'answers with lists without end',
    trouble: {
      request: only(
        ({ verb }) => verb === 'list' || verb === 'watch',
        ({ resource }, reply) => {
          const kind = { pods: 'Pod', services: 'Service' }[resource] ?? 'Other';
          return reply.send({ text: endless.replaceAll('Kind', kind) });
        },
      ),
    },
    atStart: { holds: /lists too many (pods|services)/ },
    raised: { holds: /lists too many (pods|services)/ },
    registered: 'accepted',
  },
];

const liars: Case[] = [
  {
    title: 'answers with another object than was asked for',
    trouble: objects((object) => ({ ...object, metadata: { ...object.metadata, name: 'other' } }), touchesOne),
    atStart: { holds: /another object/ },
    raised: { holds: /another object/ },
    registered: 'accepted',
  },
  {
    title: 'answers with an object of another kind',
    trouble: objects(() => secretObject, touchesOne),
    atStart: { holds: /another object/ },
    raised: { holds: /another object/ },
    registered: 'accepted',
  },
  {
    title: 'answers changes of splits with another uid',
    trouble: objects(
      withMetadata({ uid: 'another' }),
      ({ resource, verb }) => resource === 'trafficsplits' && verb === 'patch',
    ),
    atStart: 'goesOn',
    raised: 'goesOn',
    registered: 'accepted',
  },
  {
    title: 'leaves resourceVersions out',
    trouble: objects(
      ({ metadata: { resourceVersion: _, ...metadata }, ...object }) => ({ ...object, metadata }),
      touchesOne,
    ),
    atStart: { holds: /without a resourceVersion/ },
    raised: { holds: /without a resourceVersion/ },
    registered: 'accepted',
  },
  {
    title: 'answers with resourceVersions like books',
    trouble: objects(withMetadata({ resourceVersion: '1'.repeat(100_000) }), touchesOne),
    atStart: { holds: /malformed/ },
    raised: { holds: /malformed/ },
    registered: 'accepted',
  },
  {
    title: 'answers with resourceVersions that go backwards',
    trouble: objects(
      (object) => withMetadata({ resourceVersion: String(Number(object.metadata.resourceVersion) - 1) })(object),
      touchesOne,
    ),
    atStart: { holds: /web.*(keeps changing|has been modified)/ },
    raised: { holds: /web.*(keeps changing|has been modified)/ },
    registered: 'accepted',
  },
  {
    title: 'answers with JSON of a million parts',
    trouble: texts(() => ({ text: `{"metadata":[${'{},'.repeat(1_000_000)}1]}` })),
    ...gone(/nested too deep or made of too many parts|larger than \d MiB/),
  },
  {
    title: 'answers with JSON nested a million deep',
    trouble: texts(() => ({ text: '{"metadata":'.repeat(600_000) })),
    ...gone(/nested too deep or made of too many parts|larger than \d MiB/),
  },
  {
    title: 'repeats keys in its answers',
    trouble: texts(({ status, text }) => ({ status, text: text.replace('{', '{"metadata":"x","spec":[],"kind":7,') })),
    atStart: 'goesOn',
    raised: 'goesOn',
    registered: 'accepted',
  },
  {
    title: 'puts halves of characters and NUL into its objects',
    trouble: objects((object) =>
      withMetadata({ annotations: { ...(object.metadata.annotations as object), odd: 'a\ud800b\0c' } })(object),
    ),
    atStart: 'goesOn',
    raised: 'goesOn',
    registered: 'accepted',
  },
  {
    title: 'calls its answers something else than JSON',
    trouble: texts(({ status, text }) => ({ status, text, headers: { 'content-type': 'text/html; charset=utf-7' } })),
    atStart: 'goesOn',
    raised: 'goesOn',
    registered: 'accepted',
  },
  {
    title: 'redirects to where clouds hand out credentials',
    trouble: answerAll((reply) =>
      reply.send({ status: 302, headers: { location: 'http://169.254.169.254/latest/meta-data/' } }),
    ),
    ...gone(/answered with a redirect \(302\), which is not followed/),
  },
  {
    title: 'packs its answers, a bomb, into gzip',
    trouble: answerAll(({ response }): undefined => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' });
      response.end(bomb);
    }),
    ...gone(/not JSON/),
  },
  {
    title: 'sends a megabyte of headers',
    trouble: answerAll(({ response }): undefined => {
      response.socket?.write(`HTTP/1.1 200 OK\r\nx: ${padding.slice(0, 1024 * 1024)}\r\n\r\n`);
    }),
    ...gone(/does not speak HTTP|connection to the cluster was lost/),
  },
  {
    title: 'ends its answers early',
    trouble: answerAll(({ response }): undefined => {
      response.writeHead(200, { 'content-length': '1000' });
      response.write('{"kind":"Pod');
      setImmediate(() => response.socket?.destroy());
    }),
    ...gone(/connection to the cluster was lost/),
  },
  {
    title: 'is a load balancer that finds nothing',
    trouble: answerAll((reply) => reply.send({ status: 404, headers: {}, text: '<html>default backend - 404</html>' })),
    ...gone(/answered 404, not in the words of Kubernetes/),
  },
  {
    title: 'is a gateway that finds nothing, in JSON',
    trouble: answerAll((reply) => reply.json(404, { message: 'no Route matched with those values' })),
    ...gone(/answered 404, not in the words of Kubernetes/),
  },
  {
    title: 'answers everything with a success of something else',
    trouble: answerAll((reply) =>
      reply.json(200, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success' }),
    ),
    atStart: { holds: /is it a Kubernetes API server/ },
    raised: { holds: /something else|another object|is it a Kubernetes API server/ },
    registered: unreachable(/not a Kubernetes API server/),
  },
];

function touchesOne(asked: Asked): boolean {
  return (
    asked.resource !== 'namespaces' &&
    !isReview(asked) &&
    (asked.verb === 'get' || asked.verb === 'patch' || asked.verb === 'create')
  );
}

const secretObject = {
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name: 'web', namespace: 'shop', uid: 'u', resourceVersion: '1' },
  data: {},
};

const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024));

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
