import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ServerHttp2Stream } from 'node:http2';
import { ApiError, badRequest, type Status, unsupportedMediaType } from './errors.ts';

/** HTTP/1.1, or HTTP/2 behind the same face; only then is there a stream. */
export type Request = IncomingMessage;
export type Response = ServerResponse & { stream?: ServerHttp2Stream };

const bodyLimit = 3 * 1024 * 1024;

/** How kubectl sends the same as JSON. */
function jsonWay(url: string): string {
  const [path = ''] = url.split('?');
  if (!path.endsWith('/token')) return 'kubectl apply and kubectl create -f send JSON';
  const request = '{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}';
  return `for a token: echo '${request}' | kubectl create --raw ${path} -f - (the token is in its status)`;
}

/**
 * Reads a JSON body; an empty one is undefined.
 * @throws ApiError 413 above 3 MiB as the API server's limit, 400 for what is not JSON
 */
export async function readBody(request: Request): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    // What is too much is read all the same, so that the client gets to hear why.
    if (size <= bodyLimit) chunks.push(chunk);
    else if (size > 16 * bodyLimit) break;
  }
  if (size > bodyLimit) {
    throw new ApiError(413, 'RequestEntityTooLarge', `Request entity too large: limit is ${bodyLimit}`);
  }
  if (size === 0) return undefined;
  const type = request.headers['content-type'] ?? '';
  if (type.includes('protobuf') || type.includes('cbor')) {
    throw unsupportedMediaType(`the sandbox reads JSON only, not ${type}; ${jsonWay(request.url ?? '')}`);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch (cause) {
    throw badRequest(`the sandbox reads JSON bodies only: ${(cause as Error).message}`);
  }
}

export function sendText(response: Response, code: number, text: string, type = 'application/json'): void {
  const body = Buffer.from(text);
  response.writeHead(code, { 'content-type': type, 'content-length': body.length });
  response.end(body);
}

export function sendJson(response: Response, code: number, value: unknown): void {
  sendText(response, code, JSON.stringify(value));
}

export function sendStatus(response: Response, status: Status): void {
  sendJson(response, status.code, status);
}

/** Starts an answer that goes on until its end is told: a watch. */
export function startStream(response: Response): { write(text: string): void; end(): void } {
  response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' });
  response.flushHeaders();
  return {
    write(text) {
      // A client that reads nothing for long is cut off; it lists again, as it must after any lost watch.
      if ((response.stream ?? response).writableLength > 16 * bodyLimit) drop(response);
      else response.write(text);
    },
    end: () => response.end(),
  };
}

/** Cuts the connection without an answer. */
export function drop(response: Response): void {
  if (response.stream) response.stream.session?.destroy();
  else response.socket?.destroy();
}
