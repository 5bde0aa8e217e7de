import { ErrorBody } from '@cdaas/contract/errors.ts';
import { z } from 'zod';
import type { Admin } from './admin.ts';

/** An answer of the API that is no success. `code` and `link`: of the first error in its body, where it has them. */
export class Refusal extends Error {
  readonly code: string | undefined;
  readonly link: string | undefined;

  constructor(words: string, code?: string, link?: string) {
    super(words);
    this.name = 'Refusal';
    this.code = code;
    this.link = link;
  }
}

/** What the demo needs of the HTTP API, over real HTTP: it does what a stranger with curl does. */
export type ApiClient = {
  /** POSTs a deployment file as YAML. */
  start(file: string, idempotencyKey: string): Promise<{ pipelineId: string; warnings: string[] }>;
  pipeline(id: string): Promise<PipelineNow>;
  deployment(id: string): Promise<DeploymentNow>;
  overview(): Promise<Overview>;
  /** Server-sent events, until the pipeline's last one. */
  events(pipelineId: string, signal: AbortSignal): AsyncGenerator<PipelineEvent>;
};

const Pipeline = z.object({
  status: z.string(),
  // Besides the runs of targets there are pauses.
  steps: z
    .array(z.object({ deployment: z.object({ id: z.string() }).optional() }))
    .transform((steps) => steps.flatMap(({ deployment }) => (deployment === undefined ? [] : [{ deployment }]))),
});
export type PipelineNow = z.infer<typeof Pipeline>;

const Deployment = z.object({
  phase: z.string(),
  waitingFor: z.string().nullable(),
  error: z.string().nullable(),
  kubernetes: z.object({ canary: z.object({ steps: z.array(z.object({ ref: z.string(), status: z.string() })) }) }),
});
export type DeploymentNow = z.infer<typeof Deployment>;

const Pipelines = z.object({
  pipelines: z.array(z.object({ id: z.string(), application: z.string(), completedAtIso8601: z.string() })),
});

/** Whether anything was ever deployed, and what has not ended. */
export type Overview = { isEmpty: boolean; inProgress: InProgress[] };

/** A deployment that has not ended. `approvable`: the step that waits for a person, null where none does. */
export type InProgress = {
  application: string;
  deploymentId: string;
  phase: string;
  waitingFor: string | null;
  approvable: string | null;
};

const Event = z.object({ number: z.number(), at: z.string(), type: z.string(), message: z.string().nullish() });
export type PipelineEvent = z.infer<typeof Event>;

const Started = z.object({ pipelineId: z.string(), warnings: z.array(z.string()) });
const Token = z.object({ access_token: z.string() });

/** @throws Refusal with what the API answered, when it did not give a token */
export async function signIn(url: string, admin: Admin): Promise<ApiClient> {
  const { access_token: token } = Token.parse(
    await call(`${url}/oauth/token`, {
      method: 'POST',
      body: new URLSearchParams({
        grant_type: 'client_credentials',
        client_id: admin.clientId,
        client_secret: admin.clientSecret,
      }),
    }),
  );
  const headers = { authorization: `Bearer ${token}` };
  const pipeline = async (id: string) => Pipeline.parse(await call(`${url}/pipelines/${id}`, { headers }));
  const deployment = async (id: string) => Deployment.parse(await call(`${url}/deployments/${id}`, { headers }));
  return {
    pipeline,
    deployment,
    async start(file, idempotencyKey) {
      const yaml = { ...headers, 'content-type': 'application/yaml', 'idempotency-key': idempotencyKey };
      return Started.parse(await call(`${url}/pipelines/kubernetes`, { method: 'POST', headers: yaml, body: file }));
    },
    async overview() {
      const { pipelines } = Pipelines.parse(await call(`${url}/pipelines?limit=200`, { headers }));
      const inProgress: InProgress[] = [];
      for (const { id, application } of pipelines.filter(({ completedAtIso8601 }) => completedAtIso8601 === '')) {
        for (const step of (await pipeline(id)).steps) {
          const { phase, waitingFor, kubernetes } = await deployment(step.deployment.id);
          const waiting = kubernetes.canary.steps.find(({ status }) => status === 'AWAITING_APPROVAL');
          const approvable = phase === 'AWAITING_APPROVAL' ? (waiting?.ref ?? null) : null;
          inProgress.push({ application, deploymentId: step.deployment.id, phase, waitingFor, approvable });
        }
      }
      return { isEmpty: pipelines.length === 0, inProgress };
    },
    events: (pipelineId, signal) => follow(`${url}/pipelines/${pipelineId}/events`, headers, signal),
  };
}

async function call(url: string, init: RequestInit): Promise<unknown> {
  const answer = await fetch(url, init);
  const text = await answer.text();
  if (!answer.ok) throw refusalOf(`${init.method ?? 'GET'} ${new URL(url).pathname} answered ${answer.status}`, text);
  return JSON.parse(text);
}

function refusalOf(what: string, body: string): Refusal {
  let read: unknown;
  try {
    read = JSON.parse(body);
  } catch {
    return new Refusal(`${what}: ${body}`);
  }
  const parsed = ErrorBody.safeParse(read);
  if (!parsed.success) return new Refusal(`${what}: ${body}`);
  const { errors } = parsed.data;
  const words = errors.map(({ message }) => message).join('; ');
  return new Refusal(`${what}: ${words}`, errors[0]?.code, errors[0]?.metadata?.link);
}

/** The data of server-sent events (WHATWG HTML, 9.2), as far as our API uses them: one `data` line an event. */
async function* follow(
  url: string,
  headers: Record<string, string>,
  signal: AbortSignal,
): AsyncGenerator<PipelineEvent> {
  const answer = await fetch(url, { headers: { ...headers, accept: 'text/event-stream' }, signal });
  if (!answer.ok || answer.body === null) throw new Error(`the events could not be followed: ${answer.status}`);
  let rest = '';
  for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line.startsWith('data:')) yield Event.parse(JSON.parse(line.slice('data:'.length)));
  }
}
