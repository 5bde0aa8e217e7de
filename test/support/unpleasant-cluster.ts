import type { IncomingMessage, ServerResponse } from 'node:http';
import { Agent, createServer as createTlsServer, request as sendRequest } from 'node:https';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import type { ClusterAddress } from './cluster-client.ts';
import { type Authority, createAuthority, type Identity } from './fake-api-server.ts';

/**
 * A cluster behind somebody who makes it unpleasant: everything passes to the real cluster until a test begins a trouble.
 * It has a CA of its own and an address of its own; whoever reaches the cluster directly sees what really became of it.
 */
export type UnpleasantCluster = {
  /** As it is registered. */
  access: ClusterAddress;
  port: number;
  /** Begins a trouble and cuts what is open, watches too. It lasts until the returned function is called. */
  begin(trouble: Trouble): () => void;
  /** Requests or connections that met a trouble. */
  met(): number;
  close(): Promise<void>;
};

export type Trouble = {
  /** What becomes of connections; `other` and `expired` are certificates that are shown. */
  door?: 'closed' | 'black hole' | 'no TLS' | 'other' | 'expired';
  /** What becomes of a request; 'pass' lets it pass. */
  request?: (asked: Asked, reply: Reply) => undefined | 'pass' | Promise<undefined | 'pass'>;
};

export type Verb = 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete' | 'discover';

export type Asked = {
  verb: Verb;
  /** As in URLs, e.g. `trafficsplits`; empty for discovery. */
  resource: string;
  name: string | undefined;
  path: string;
  query: URLSearchParams;
  body: unknown;
};

export type Answer = { status: number; headers: Record<string, string>; text: string };

export type Reply = {
  /** Has the cluster carry it out and answers what it answered. Not for watches. */
  pass(): Promise<Answer>;
  send(answer: Partial<Answer>): undefined;
  json(status: number, body: unknown, headers?: Record<string, string>): undefined;
  /** A Status of meta/v1. */
  refuse(code: number, reason: string, message: string, headers?: Record<string, string>): undefined;
  /** Cuts the connection. */
  drop(): undefined;
  /** For what the others cannot do. */
  response: ServerResponse;
};

/** Names under `.test` that every unpleasant cluster's certificate holds; where they lead is the test's to say. */
export const clusterName = 'cluster.test';

let authorities: Promise<{ ours: Authority; other: Authority }> | undefined;

export async function startUnpleasantCluster(real: ClusterAddress): Promise<UnpleasantCluster> {
  authorities ??= Promise.all([createAuthority('Cluster CA'), createAuthority('Other CA')]).then(([ours, other]) => {
    return { ours, other };
  });
  const { ours, other } = await authorities;
  const names = ['127.0.0.1', clusterName];
  const identities: Record<'good' | 'other' | 'expired', Identity> = {
    good: await ours.issue('api', names),
    other: await other.issue('api', names),
    expired: await ours.issue('api', names, new Date(Date.now() - 60_000)),
  };
  const secure = ({ certificate, key }: Identity) => ({ cert: certificate, key });
  const agent = new Agent({ ca: Buffer.from(real.caData, 'base64').toString(), keepAlive: true, maxSockets: 64 });
  const upstream = new URL(real.server);
  let trouble: Trouble = {};
  let met = 0;

  const forward = (request: IncomingMessage, text: string, onAnswer: (answer: IncomingMessage) => void) => {
    const { method, url, headers } = request;
    const { host: _, connection: __, 'transfer-encoding': ___, ...rest } = headers;
    const sent = sendRequest(
      { agent, host: upstream.hostname, port: upstream.port, method, path: url, headers: rest },
      onAnswer,
    );
    sent.end(text);
    return sent;
  };
  const pass = (request: IncomingMessage, text: string) =>
    new Promise<Answer>((resolve, reject) => {
      const sent = forward(request, text, async (answer) => {
        const parts: Buffer[] = [];
        for await (const part of answer) parts.push(part);
        const headers = { 'content-type': answer.headers['content-type'] ?? 'application/json' };
        resolve({ status: answer.statusCode ?? 500, headers, text: Buffer.concat(parts).toString() });
      });
      sent.on('error', reject);
    });
  const passThrough = (request: IncomingMessage, text: string, response: ServerResponse) => {
    const sent = forward(request, text, (answer) => {
      response.writeHead(answer.statusCode ?? 500, {
        'content-type': answer.headers['content-type'] ?? 'application/json',
      });
      response.flushHeaders();
      answer.on('error', () => response.destroy());
      answer.pipe(response);
    });
    sent.on('error', () => response.destroy());
    response.on('close', () => sent.destroy());
  };

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part);
    const text = Buffer.concat(parts).toString();
    const asked = askedOf(request, text);
    const reply: Reply = {
      response,
      pass: () => pass(request, text),
      send({ status = 200, headers = { 'content-type': 'application/json' }, text: body = '' }) {
        response.writeHead(status, headers);
        response.end(body);
      },
      json: (status, body, headers = {}) =>
        reply.send({ status, headers: { 'content-type': 'application/json', ...headers }, text: JSON.stringify(body) }),
      refuse(code, reason, message, headers) {
        const status = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', reason, message, code };
        return reply.json(code, status, headers);
      },
      drop() {
        response.socket?.destroy();
      },
    };
    const handling = trouble.request?.(asked, reply) ?? (trouble.request ? undefined : 'pass');
    if (handling !== 'pass') met += 1;
    if ((await handling) === 'pass') passThrough(request, text, response);
  };

  const sockets = new Set<Socket>();
  const tls = createTlsServer(secure(identities.good), (request, response) => {
    // Whoever is cut off in the middle has what he asked for.
    response.on('error', () => {});
    serve(request, response).catch(() => response.destroy());
  });
  tls.on('tlsClientError', () => {});
  const accept = (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    if (trouble.door !== undefined) met += 1;
    if (trouble.door === 'black hole') return;
    if (trouble.door === 'no TLS') return void socket.end('HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n');
    tls.emit('connection', socket);
  };
  let front = createServer(accept);
  const listen = (port: number) =>
    new Promise<number>((done, failed) => {
      front.once('error', failed);
      front.listen(port, '127.0.0.1', () => done((front.address() as AddressInfo).port));
    });
  const port = await listen(0);
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };

  return {
    port,
    access: {
      server: `https://127.0.0.1:${port}`,
      caData: Buffer.from(ours.certificate).toString('base64'),
      token: real.token,
    },
    begin(next) {
      trouble = next;
      const { door } = next;
      tls.setSecureContext(secure(identities[door === 'other' || door === 'expired' ? door : 'good']));
      if (door === 'closed') {
        front.close();
        met += 1;
      }
      cut();
      let isOver = false;
      return () => {
        if (isOver) return;
        isOver = true;
        trouble = {};
        tls.setSecureContext(secure(identities.good));
        cut();
        if (door !== 'closed') return;
        front = createServer(accept);
        void listen(port);
      };
    },
    met: () => met,
    async close() {
      cut();
      agent.destroy();
      await new Promise<void>((done) => front.close(() => done()));
    },
  };
}

const verbs: Record<string, Verb> = { POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' };

function askedOf({ method = '', url = '' }: IncomingMessage, text: string): Asked {
  const { pathname: path, searchParams: query } = new URL(url, 'https://cluster');
  const [, core, rest = ''] = /^\/(api\/v1|apis\/[^/]+\/[^/]+)(?:\/(.+))?$/.exec(path) ?? [];
  const parts = rest.split('/').filter((part) => part !== '');
  const [resource = '', name] = parts[0] === 'namespaces' && parts.length > 2 ? parts.slice(2) : parts;
  const reading = query.get('watch') === 'true' ? 'watch' : name === undefined ? 'list' : 'get';
  const verb = core === undefined || resource === '' ? 'discover' : (verbs[method] ?? reading);
  return { verb, resource, name, path, query, body: text === '' ? undefined : JSON.parse(text) };
}
