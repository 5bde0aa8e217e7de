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
export const isReview = ({ resource }: Asked) => resource === 'selfsubjectaccessreviews';
export const isWrite = (asked: Asked) => writing.includes(asked.verb) && !isReview(asked);
export const isWatch = ({ verb }: Asked) => verb === 'watch';
const isEvent = ({ resource }: Asked) => resource === 'events';

/** The trouble for the requests that match; the others pass. Events are told beside the run and do not count. */
export const only =
  (matches: (asked: Asked) => boolean, request: Requests): Requests =>
  (asked, reply) =>
    matches(asked) && !isEvent(asked) ? request(asked, reply) : 'pass';

/** Watches are refused with them, so that they do not hide it. */
const toAll = (request: Requests): Trouble => ({ request: only(() => true, request) });

export const answerAll = (answer: (reply: Reply) => undefined): Trouble => toAll((_, reply) => answer(reply));

/** What the cluster answers to one who asks for or changes single objects, made something else of. */
export const objects = (change: (object: Fields, asked: Asked) => unknown, matches = (_: Asked) => true): Trouble => ({
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

export const withMetadata = (change: Record<string, unknown>) => (object: Fields) => ({
  ...object,
  metadata: { ...object.metadata, ...change },
});

/** The text of every answer but a watch's, made something else of. */
export const texts = (change: (answer: Answer) => Partial<Answer>): Trouble => ({
  request: only(
    (asked) => !isWatch(asked),
    async (_, reply) => reply.send(change(await reply.pass())),
  ),
});

const backendsOf = ({ body }: Asked) => (body as { spec?: { backends?: Backend[] } } | undefined)?.spec?.backends;
export type Backend = { service: string; weight: number | string };

/** A change of a TrafficSplit that asks for a weight above 10. */
export const raises = (asked: Asked) => {
  const canary = asked.resource === 'trafficsplits' && isWrite(asked) ? backendsOf(asked)?.[1]?.weight : undefined;
  return canary !== undefined && Number(canary) > 10;
};

export function forbids(verb: Verb, resource: string, group: string): Trouble {
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

export const trickle = ({ response }: Reply): undefined => {
  response.writeHead(200, { 'content-type': 'application/json' });
  const timer = setInterval(() => response.write(' '), 20);
  response.on('close', () => clearInterval(timer));
};

export const unreachable = (words: RegExp) => ({ code: 'cluster.unreachable', words });
export const gone = (words: RegExp): Pick<Case, 'atStart' | 'raised' | 'registered'> => ({
  atStart: { holds: words },
  raised: { holds: words },
  registered: unreachable(words),
});

/** More than an answer may have. */
export const padding = 'x'.repeat(9 * 1024 * 1024);
