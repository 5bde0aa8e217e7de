import { Readable } from 'node:stream';
import { EventPage, EventsHeaders, EventsQuery, type EventView } from '@cdaas/contract/events.ts';
import { PipelineParams } from '@cdaas/contract/pipelines.ts';
import { followEvents, readEvents, type StoredEvent } from '@cdaas/control-plane/events.ts';
import { resolvePrincipal } from '@cdaas/control-plane/principals.ts';
import { isRecord } from '@cdaas/pipeline/is-record.ts';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { errorAnswers, moment } from '../answers.ts';
import type { ApiDeps } from '../deps.ts';
import { callerOf } from '../plugins/auth.ts';

/** A client that has taken nothing for so long is closed; it resumes by Last-Event-ID. */
const stalledMs = 60_000;

/** What happened in a pipeline: a page as JSON, or as it happens as server-sent events. */
export const eventRoutes: FastifyPluginAsyncZod<ApiDeps> = async (app, deps) => {
  app.get(
    '/pipelines/:id/events',
    {
      config: { permission: 'deployment.view', stream: true },
      schema: {
        tags: ['pipelines'],
        summary: 'Events by number. With `Accept: text/event-stream` they follow live; `Last-Event-ID` resumes.',
        params: PipelineParams,
        querystring: EventsQuery,
        headers: EventsHeaders,
        response: {
          200: {
            description: 'A page, or the stream.',
            content: {
              'application/json': { schema: EventPage },
              'text/event-stream': { schema: z.string() },
            },
          },
          ...errorAnswers(404),
        },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const after = request.headers['last-event-id'] ?? request.query.after ?? 0;
      if (wantsStream(request)) return stream(request, reply, deps, id, after);
      const page = await readEvents(callerOf(request), { pipelineId: id, after, limit: request.query.limit });
      const events = page.events.map(viewOf);
      const complete = page.final && (events.at(-1)?.number ?? after) >= page.last;
      return reply.type('application/json').send({ events, last: page.last, final: complete });
    },
  );
};

function wantsStream(request: FastifyRequest): boolean {
  return /(^|,)\s*text\/event-stream\s*($|[;,])/i.test(request.headers.accept ?? '');
}

async function stream(
  request: FastifyRequest,
  reply: FastifyReply,
  deps: ApiDeps,
  pipelineId: string,
  after: number,
): Promise<FastifyReply> {
  const ctx = callerOf(request);
  const claims = request.claims;
  // Refuse before the stream begins: an unknown pipeline is a plain 404.
  await readEvents(ctx, { pipelineId, after, limit: 1 });
  // The client went away meanwhile, and 'close' is told only once.
  if (reply.raw.destroyed) return reply.send();
  const gone = new AbortController();
  const follow = followEvents(ctx, deps.events, {
    pipelineId,
    after,
    signal: gone.signal,
    async stillAllowed() {
      if (claims === null || claims.expiresAt <= deps.db.clock.now()) return false;
      return (await resolvePrincipal(deps.db, claims))?.permissions.has('deployment.view') ?? false;
    },
  });

  let takenAt = performance.now();
  async function* frames(): AsyncGenerator<string> {
    // Sent at once, so that clients and proxies see the answer begin.
    yield 'retry: 1000\n\n';
    for await (const event of follow) {
      yield event === null ? ': still here\n\n' : frameOf(event);
      takenAt = performance.now();
    }
  }
  const body = Readable.from(frames(), { objectMode: true, highWaterMark: 16 });
  const stalled = setInterval(() => {
    if (performance.now() - takenAt > stalledMs) reply.raw.destroy();
  }, stalledMs / 4);
  deps.metrics.liveStreams.inc();
  // Of the connection, not of the body: the body closes only after its generator has, which may be waiting for news.
  reply.raw.once('close', () => {
    clearInterval(stalled);
    gone.abort();
    deps.metrics.liveStreams.dec();
  });
  return reply
    .type('text/event-stream; charset=utf-8')
    .header('cache-control', 'no-store')
    .header('x-accel-buffering', 'no')
    .send(body);
}

/** `data` is one line: JSON has no raw line breaks. */
function frameOf(event: StoredEvent): string {
  return `id: ${event.number}\nevent: ${event.type.replaceAll(/[\r\n]/g, ' ')}\ndata: ${JSON.stringify(viewOf(event))}\n\n`;
}

function viewOf({ number, type, at, deploymentId, target, message, data }: StoredEvent): EventView {
  return { number, type, at: moment(at), deploymentId, target, message, data: isRecord(data) ? data : {} };
}
