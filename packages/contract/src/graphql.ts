import { z } from 'zod';

/** A query as clients in use send it (spec/cli-wire-protocol.md §3.5), and GraphQL over HTTP has it. */
export const GraphqlRequest = z
  .object({
    query: z.string(),
    variables: z.record(z.string(), z.unknown()).nullish(),
    operationName: z.string().nullish(),
  })
  .meta({ id: 'GraphqlRequest' });
export type GraphqlRequest = z.infer<typeof GraphqlRequest>;

/**
 * Answers 200 to every query that could be read as a request, as GraphQL does for `application/json`: what is wrong with
 * the query stands in `errors`. What never reached the query has the error body of every other route.
 */
export const GraphqlAnswer = z
  .object({
    data: z.record(z.string(), z.unknown()).nullish().describe('Absent where the query was not carried out.'),
    errors: z
      .array(
        z.object({
          message: z.string(),
          locations: z.array(z.object({ line: z.number().int(), column: z.number().int() })).optional(),
          path: z.array(z.union([z.string(), z.number()])).optional(),
        }),
      )
      .optional()
      .describe('Absent where there are none.'),
  })
  .meta({ id: 'GraphqlAnswer' });
export type GraphqlAnswer = z.infer<typeof GraphqlAnswer>;
