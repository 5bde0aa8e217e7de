import { AppError } from '@cdaas/contract/errors.ts';
import { GraphqlAnswer, GraphqlRequest } from '@cdaas/contract/graphql.ts';
import { shownText, storedId } from '@cdaas/contract/text.ts';
import { getPipeline } from '@cdaas/control-plane/pipelines.ts';
import type { CallerContext } from '@cdaas/control-plane/principals.ts';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import {
  buildSchema,
  type DocumentNode,
  execute,
  GraphQLError,
  NoSchemaIntrospectionCustomRule,
  parse,
  specifiedRules,
  type ValidationRule,
  validate,
} from 'graphql';
import { errorAnswers } from '../answers.ts';
import { callerOf } from '../plugins/auth.ts';

/** Clients in use ask this after each start, to learn whether it runs (spec/cli-wire-protocol.md §3.5). */
export const graphqlRoutes: FastifyPluginAsyncZod = async (app) => {
  app.post(
    '/v1/graphql',
    {
      config: { permission: 'deployment.view' },
      bodyLimit: 16_384,
      schema: {
        tags: ['pipelines'],
        summary: 'One GraphQL query, pipelineById, for clients that wait for a start.',
        body: GraphqlRequest,
        response: { 200: GraphqlAnswer, ...errorAnswers(400, 413, 415, 422) },
      },
    },
    async (request) => answer(callerOf(request), request.body),
  );
};

/** Types are named as in the queries of clients in use, which declare `$pipelineID: uuid!`. Nothing in it can recurse. */
const schema = buildSchema(`
  scalar uuid
  type Application { name: String! }
  type OtherPipeline { id: uuid! }
  type Pipeline {
    id: uuid!
    status: String!
    blockedByPipeline: OtherPipeline
    replacedByPipeline: OtherPipeline
    application: Application!
  }
  type query_root { pipelineById(id: uuid!): Pipeline }
  schema { query: query_root }
`);

/** The query of clients in use has about 40. Parsing and validating more than this is work that nobody needs. */
const maxLexicalTokens = 300;
/** Each is a look into the database. */
const maxPipelines = 5;
const maxErrors = 5;

const rules: ValidationRule[] = [...specifiedRules, NoSchemaIntrospectionCustomRule, limitPipelines];

/** One query may name a field often, under aliases; fragments that are spread twice are still asked once. */
function limitPipelines(context: Parameters<ValidationRule>[0]): ReturnType<ValidationRule> {
  let asked = 0;
  return {
    Field(node) {
      if (node.name.value !== 'pipelineById') return;
      asked += 1;
      if (asked === maxPipelines + 1) {
        context.reportError(
          new GraphQLError(`A query may ask for at most ${maxPipelines} pipelines.`, { nodes: node }),
        );
      }
    },
  };
}

/** @throws what stands between the query and the database, which is not the query's fault */
async function answer(ctx: CallerContext, { query, variables, operationName }: GraphqlRequest): Promise<GraphqlAnswer> {
  const read = readQuery(query);
  if ('errors' in read) return read;
  const { document } = read;
  const wrong = validate(schema, document, rules, { maxErrors });
  if (wrong.length > 0) return refused(wrong);
  const result = await execute({
    schema,
    document,
    contextValue: ctx,
    rootValue: { pipelineById },
    variableValues: variables ?? {},
    operationName: operationName ?? null,
  });
  // A query that is at fault itself in one place may have met a failure of ours in another.
  const failures = result.errors?.map(({ originalError }) => originalError) ?? [];
  const failure = failures.find((error) => error !== undefined && !(error instanceof GraphQLError));
  if (failure !== undefined) throw failure;
  const data = result.data === undefined ? {} : { data: result.data };
  return result.errors === undefined ? data : { ...data, ...refused(result.errors) };
}

function readQuery(query: string): { document: DocumentNode } | Refused {
  try {
    return { document: parse(query, { maxLexicalTokens, maxComments: maxLexicalTokens }) };
  } catch (error) {
    if (error instanceof GraphQLError) return refused([error]);
    throw error;
  }
}

type Refused = Required<Pick<GraphqlAnswer, 'errors'>>;

function refused(errors: readonly GraphQLError[]): Refused {
  return {
    errors: errors.map((error) => {
      const { message, locations, path } = error.toJSON();
      return {
        message: shownText(message, 500),
        ...(locations === undefined ? {} : { locations: locations.map(({ line, column }) => ({ line, column })) }),
        ...(path === undefined ? {} : { path: [...path] }),
      };
    }),
  };
}

/** Null for whatever is not a pipeline of the caller's tenant, an id that is no UUID included: clients take it for done. */
async function pipelineById({ id }: { id: unknown }, ctx: CallerContext) {
  if (typeof id !== 'string') throw new GraphQLError('The id of a pipeline is a string.');
  try {
    const pipeline = await getPipeline(ctx, { id: storedId(id) });
    return {
      id: pipeline.id,
      status: pipeline.status,
      // A start is never queued: it runs at once or is answered 409.
      blockedByPipeline: null,
      replacedByPipeline: null,
      application: { name: pipeline.application },
    };
  } catch (error) {
    if (error instanceof AppError && error.code === 'not.found') return null;
    throw error;
  }
}
