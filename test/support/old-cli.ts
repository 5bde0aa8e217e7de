import { once } from 'node:events';
import { connect } from 'node:net';

/*
 * The command-line client in use, as spec/cli-wire-protocol.md has it: what it writes, byte for byte, and what it makes of
 * an answer. Go's HTTP client writes Host, User-Agent and Content-Length first, then the other headers in alphabetical order,
 * then what its transport adds.
 */

/** Where the tests pretend that the API is: `--addr`. The socket goes to whatever port it listens on. */
export const host = '127.0.0.1:8080';
export const addr = `http://${host}`;

const startType = 'application/vnd.start.kubernetes.pipeline.v2+json';
const linkType = 'application/vnd.start.kubernetes.pipeline.v2.link+json';

type Headers = Record<string, string>;

function bytes(line: string, headers: Headers, added: Headers, body?: string): string {
  const { Host, 'User-Agent': agent, ...rest } = headers;
  const sorted = Object.entries(rest).sort(([a], [b]) => (a < b ? -1 : 1));
  const all = [
    ['Host', Host],
    ['User-Agent', agent],
    ...(body === undefined ? [] : [['Content-Length', String(Buffer.byteLength(body))]]),
    ...sorted,
    ...Object.entries(added),
  ];
  return `${line} HTTP/1.1\r\n${all.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${body ?? ''}`;
}

/** §1.3, REST calls. `more` is what a command overrides or adds. */
export function rest(token: string, method: string, path: string, body?: string, more: Headers = {}): string {
  const headers = {
    Host: host,
    'User-Agent': 'armory-cli/1.2.3',
    Authorization: `Bearer ${token}`,
    'Content-Type': 'application/json',
    'X-Armory-Client': 'armory-cli/1.2.3',
    ...more,
  };
  return bytes(`${method} ${path}`, headers, { 'Accept-Encoding': 'gzip' }, body);
}

/** §3.2, rows 1 and 2: a local file. */
export function startFile(token: string, body: string): string {
  return rest(token, 'POST', '/pipelines/kubernetes', body, { 'Content-Type': startType, Accept: startType });
}

/** §3.2, rows 3 and 4: a local file that enqueues, or of another kind. */
export function startOther(token: string, body: string): string {
  return rest(token, 'POST', '/pipelines', body);
}

/** §3.2, `-f URL` and `-i ID`. */
export function startLocation(token: string, location: string, body: string): string {
  const more = { 'Content-Type': linkType, Accept: startType, 'X-Armory-Config-Location': location };
  return rest(token, 'POST', '/pipelines/kubernetes', body, more);
}

/** §3.2: the location of `-i ID`. */
export function locationOf(pipelineId: string): string {
  return `armory::${addr}/pipelines/${pipelineId}/config`;
}

/** §3.4 */
export function linkBody({ account = '', targets }: { account?: string; targets?: string[] } = {}): string {
  return goJson({ account, targetFilters: targets?.map((includeTarget) => ({ includeTarget })) ?? null });
}

/** §3.5: anonymous, `$pipelineID: uuid!`, one selection. */
export const graphqlQuery =
  'query($pipelineID:uuid!){pipelineById(id: $pipelineID){id,status,blockedByPipeline{id},application{name}}}';

/** §1.3, GraphQL; §3.5. Go's encoder ends a document with a line feed. */
export function graphql(token: string, pipelineId: string, requestId: string, query = graphqlQuery): string {
  const headers = {
    Host: host,
    'User-Agent': 'Go-http-client/1.1',
    Accept: 'application/json; charset=utf-8',
    Authorization: `Bearer ${token}`,
    'Content-Type': 'application/json; charset=utf-8',
    'X-Request-Id': requestId,
  };
  const body = `${goJson({ query, variables: { pipelineID: pipelineId } })}\n`;
  return bytes('POST /v1/graphql', headers, { 'Accept-Encoding': 'gzip', Connection: 'close' }, body);
}

/** §1.3, client credentials; §2.1. */
export function token(clientId: string, clientSecret: string): string {
  const headers = {
    Host: host,
    'User-Agent': 'Go-http-client/1.1',
    Accept: 'application/json',
    'Content-Type': 'application/x-www-form-urlencoded',
  };
  const form = new URLSearchParams([
    ['audience', 'https://api.example.org'],
    ['client_id', clientId],
    ['client_secret', clientSecret],
    ['grant_type', 'client_credentials'],
  ]);
  return bytes('POST /oauth/token', headers, { 'Accept-Encoding': 'gzip' }, form.toString());
}

/** JSON as Go writes it: no spaces, keys of maps in alphabetical order, and `<`, `>`, `&` as escapes. */
export function goJson(value: unknown): string {
  return JSON.stringify(sorted(value)).replaceAll('<', '\\u003c').replaceAll('>', '\\u003e').replaceAll('&', '\\u0026');
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sorted(inner)]));
}

export type WireAnswer = {
  /** Without the version: `202 Accepted`. */
  statusLine: string;
  status: number;
  /** By lower-case name; one that came twice holds both. */
  headers: Record<string, string>;
  body: string;
  /** The server closed the connection after it. */
  closed: boolean;
};

/**
 * Writes the bytes of requests on one connection, the next after the answer to the one before.
 *
 * @throws where what comes back is not an answer of a length that was told, as the client expects it
 */
export async function exchange(port: number, ...requests: string[]): Promise<WireAnswer[]> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  let received: Buffer = Buffer.alloc(0);
  let ended = false;
  let stirred = (): void => {};
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, chunk]);
    stirred();
  });
  for (const event of ['end', 'close', 'error']) {
    socket.on(event, () => {
      ended = true;
      stirred();
    });
  }
  const more = () => new Promise<void>((resolve) => (stirred = resolve));
  const answers: WireAnswer[] = [];
  try {
    for (const request of requests) {
      socket.write(request);
      let taken = takeAnswer(received);
      while (taken === undefined) {
        if (ended) throw new Error(`the connection ended without a whole answer: ${received.toString('latin1')}`);
        await more();
        taken = takeAnswer(received);
      }
      received = taken.rest;
      if (taken.answer.headers.connection === 'close') while (!ended) await more();
      answers.push({ ...taken.answer, closed: ended });
    }
    return answers;
  } finally {
    socket.destroy();
  }
}

function takeAnswer(received: Buffer): { answer: Omit<WireAnswer, 'closed'>; rest: Buffer } | undefined {
  const end = received.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [line = '', ...lines] = received.subarray(0, end).toString('latin1').split('\r\n');
  const statusLine = line.replace(/^HTTP\/1\.1 /, '');
  const headers: Record<string, string> = {};
  for (const text of lines) {
    const [name = '', value = ''] = /^([^:]+): (.*)$/.exec(text)?.slice(1) ?? [];
    const key = name.toLowerCase();
    headers[key] = headers[key] === undefined ? value : `${headers[key]}\n${value}`;
  }
  const status = Number(statusLine.slice(0, 3));
  if (status !== 204 && headers['content-length'] === undefined)
    throw new Error(`an answer of unknown length: ${line}`);
  const length = Number(headers['content-length'] ?? 0);
  const body = received.subarray(end + 4, end + 4 + length);
  if (body.length < length) return undefined;
  return {
    answer: { statusLine, status, headers, body: body.toString('utf8') },
    rest: received.subarray(end + 4 + length),
  };
}

type Read = { status: number; body: string };

/** §3.5, §1.5: what `deploy start` prints on stderr, how it exits, and the id that it goes on with. */
export function afterStart({ status, body }: Read): { exit: 0 | 1 | 3; id?: string; stderr: string } {
  if (status === 202) {
    const answer = parsed(body) as { pipelineId?: string; warnings?: string[] } | undefined;
    if (answer === undefined) return { exit: 1, stderr: '' };
    const warnings = (answer.warnings ?? []).map((text) => `Warning: ${text}\n`);
    return { exit: 0, id: answer.pipelineId ?? '', stderr: warnings.join('') };
  }
  const error = parsed(body) as
    | { error_id?: unknown; errors?: { message?: string; metadata?: Record<string, string> }[] }
    | undefined;
  const [first] = error?.errors ?? [];
  if (typeof error?.error_id !== 'string' || error.error_id === '' || first === undefined) {
    return {
      exit: 1,
      stderr: `an API error occurred, msg: Failed to start deployment, status code: ${status}, body: ${body}`,
    };
  }
  const metadata = Object.entries(first.metadata ?? {}).map(([key, value]) => `  ${key}=${value}\n`);
  const lines = [
    'Failed to start deployment\n',
    `Error Id: ${error.error_id}\n`,
    `HTTP Status Code: ${status}\n`,
    `Error Message: ${first.message}\n`,
    ...(metadata.length === 0 ? [] : ['Error Metadata: \n', ...metadata]),
  ];
  return { exit: status === 409 ? 3 : 1, stderr: lines.join('') };
}

/** §3.5: what the wait after a start makes of an answer of GraphQL; `again` costs the user 5 s, and after 60 the start. */
export function afterGraphql({ status, body }: Read): 'started' | 'refused' | 'again' {
  const answer = parsed(body) as
    | { errors?: unknown[]; data?: { pipelineById?: { status?: string; blockedByPipeline?: object | null } | null } }
    | undefined;
  if (status !== 200 || answer === undefined || (answer.errors?.length ?? 0) > 0) return 'again';
  const pipeline = answer.data?.pipelineById;
  if (pipeline === null || pipeline === undefined) return 'started';
  if (pipeline.status !== 'QUEUED' && pipeline.status !== 'REJECTED') return 'started';
  if ((pipeline.blockedByPipeline ?? null) === null) return 'again';
  return pipeline.status === 'QUEUED' ? 'started' : 'refused';
}

/** §3.6: what `--watch` makes of a poll. */
export function afterPoll({ status, body }: Read): { status: string; exit: 0 | 1 | null } {
  const pipeline = parsed(body) as { status?: string } | undefined;
  if (status !== 200 || pipeline === undefined) return { status: 'UNKNOWN', exit: 1 };
  const word = pipeline.status ?? '';
  if (word === 'SUCCEEDED') return { status: word, exit: 0 };
  return { status: word, exit: word === 'FAILED' || word === 'CANCELLED' ? 1 : null };
}

type Step = { type: string; status: string; pause?: { duration: number; unit: string } };

/** §4: the two lines of text that `deploy status` prints, without their moment. */
export function statusText({ body }: Read): string[] {
  const { application, startedAtIso8601, status, steps } = parsed(body) as Record<string, string> & { steps: Step[] };
  const paused = steps.filter((step) => step.type === 'pause' && step.status === 'PAUSED');
  const words = (): string => {
    if (status === 'AWAITING_APPROVAL') return '[AWAITING_APPROVAL] msg: Paused for Manual Judgment.';
    if (status !== 'PAUSED') return String(status);
    return paused.map(({ pause }) => `[PAUSED] msg: Paused for ${pause?.duration} ${pause?.unit}.`).join('\n');
  };
  return [`application: ${application}, started: ${startedAtIso8601}`, `status: ${words()}`];
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}
