import { webcrypto } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import 'reflect-metadata';
import * as x509 from '@peculiar/x509';

/* An HTTPS server with a CA of its own that answers as a test tells it to: for how a client behaves towards a server
 * that is slow, broken or hostile, which the sandbox cluster is not. */

x509.cryptoProvider.set(webcrypto as never);
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

export type Identity = { certificate: string; key: string };
export type Authority = Identity & {
  /** Issues a certificate; `names` are DNS names or IP addresses, empty for a client's. The key is EC, or RSA of so many bits. */
  issue(commonName: string, names: string[], notAfter?: Date, rsaBits?: number): Promise<Identity>;
};

async function pemOfKey(key: webcrypto.CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY');
}

export async function createAuthority(name = 'Test CA'): Promise<Authority> {
  const keys = (await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
  const notBefore = new Date(Date.now() - 3_600_000 * 48);
  const inOneDay = new Date(Date.now() + 86_400_000);
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name: `CN=${name}`,
    notBefore,
    notAfter: inOneDay,
    signingAlgorithm: algorithm,
    keys,
    extensions: [new x509.BasicConstraintsExtension(true, undefined, true)],
  });
  let serial = 1;
  return {
    certificate: ca.toString('pem'),
    key: await pemOfKey(keys.privateKey),
    async issue(commonName, names, notAfter = inOneDay, rsaBits) {
      const publicExponent = new Uint8Array([1, 0, 1]);
      const rsa = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', modulusLength: rsaBits ?? 0, publicExponent };
      const kind = rsaBits === undefined ? algorithm : rsa;
      const own = (await webcrypto.subtle.generateKey(kind, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
      const alternatives = names.map((value) => ({ type: /^[\d.:a-f]+$/.test(value) ? 'ip' : 'dns', value }) as const);
      serial += 1;
      const certificate = await x509.X509CertificateGenerator.create({
        serialNumber: serial.toString(16).padStart(2, '0'),
        subject: `CN=${commonName}`,
        issuer: ca.subject,
        notBefore,
        notAfter,
        signingAlgorithm: algorithm,
        publicKey: own.publicKey,
        signingKey: keys.privateKey,
        extensions: names.length > 0 ? [new x509.SubjectAlternativeNameExtension(alternatives)] : [],
      });
      return { certificate: certificate.toString('pem'), key: await pemOfKey(own.privateKey) };
    },
  };
}

export type Handler = (request: IncomingMessage & { text: string }, response: ServerResponse) => void;

export type FakeApiServer = {
  port: number;
  /** https://127.0.0.1:<port> */
  url: string;
  /** `METHOD /path?query` of each request, in order of arrival. */
  seen: string[];
  /** TCP connections accepted so far. */
  connections(): number;
  /** Replaces what it answers. */
  answer(handler: Handler): void;
  /** Closes every connection at once, as a server that dies would. */
  cut(): void;
  close(): Promise<void>;
};

export async function startFakeApiServer(
  identity: Identity,
  options: { port?: number; clientCa?: string } = {},
): Promise<FakeApiServer> {
  let handler: Handler = (_request, response) => json(response, 200, {});
  const seen: string[] = [];
  const sockets = new Set<Duplex>();
  let accepted = 0;
  const server = createServer(
    {
      cert: identity.certificate,
      key: identity.key,
      ...(options.clientCa ? { ca: options.clientCa, requestCert: true, rejectUnauthorized: true } : {}),
    },
    (request, response) => {
      seen.push(`${request.method} ${request.url}`);
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => handler(Object.assign(request, { text: Buffer.concat(parts).toString() }), response));
    },
  );
  server.on('connection', (socket) => {
    accepted += 1;
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
  });
  server.on('tlsClientError', () => {});
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  await new Promise<void>((done, failed) => {
    server.once('error', failed);
    server.listen(options.port ?? 0, '127.0.0.1', done);
  });
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `https://127.0.0.1:${port}`,
    seen,
    connections: () => accepted,
    answer(next) {
      handler = next;
    },
    cut,
    close() {
      cut();
      return new Promise((done) => server.close(() => done()));
    },
  };
}

export function json(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
}

/** An error as an API server answers it: a Status of meta/v1. */
export function refusal(response: ServerResponse, code: number, reason: string, message = reason): void {
  json(response, code, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', reason, message, code });
}
