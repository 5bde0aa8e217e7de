import { gzipSync } from 'node:zlib';
import type { Asked } from '../support/unpleasant-cluster.ts';
import {
  answerAll,
  type Case,
  gone,
  isReview,
  objects,
  only,
  padding,
  texts,
  unreachable,
  withMetadata,
} from './unpleasant-case.ts';

const endless = JSON.stringify({
  kind: 'KindList',
  apiVersion: 'v1',
  metadata: { continue: 'more' },
  items: Array(5_000).fill({ metadata: { name: 'x' } }),
});

/** Answers larger than a control plane may keep. */
export const large: Case[] = [
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

/** Answers that are not true, not whole or not Kubernetes'. */
export const liars: Case[] = [
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
