import { z } from 'zod';

/** Event numbers are 32-bit integers in the database. */
const eventNumber = z.coerce.number().int().min(0).max(2_147_483_647);

/** A `Last-Event-ID` that is not one of ours is taken for none. */
export const EventsHeaders = z.object({ 'last-event-id': eventNumber.optional().catch(undefined) });

export const EventsQuery = z.object({
  after: eventNumber.optional().describe('Answer only events with a greater number.'),
  limit: z.coerce.number().int().min(1).max(1000).default(200),
});
export type EventsQuery = z.infer<typeof EventsQuery>;

/**
 * One thing that happened in a pipeline. Numbers start at 1 and have no gaps within a pipeline; over server-sent events
 * the number is the id to resume from.
 */
export const EventView = z
  .object({
    number: z.number().int(),
    at: z.string(),
    type: z.string(),
    deploymentId: z.string().nullable().describe('Null for what concerns the whole pipeline.'),
    target: z.string().nullable().describe('The target of that deployment.'),
    message: z.string().nullable().describe('What happened, in words.'),
    data: z.record(z.string(), z.unknown()),
  })
  .meta({ id: 'Event' });
export type EventView = z.infer<typeof EventView>;

export const EventPage = z
  .object({
    events: z.array(EventView),
    last: z
      .number()
      .int()
      .describe('Number of the newest event of the pipeline; more can be asked for while behind it.'),
    final: z.boolean().describe('The pipeline has ended and `last` is its final event.'),
  })
  .meta({ id: 'EventPage' });
export type EventPage = z.infer<typeof EventPage>;
