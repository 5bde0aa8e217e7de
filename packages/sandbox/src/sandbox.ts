/**
 * The sandbox cluster: the Kubernetes API over TLS, its workload controllers and a mesh, in this process, kept under a
 * folder. One process serves a folder at a time; the listening port guards that.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createSecureServer, type Http2SecureServer } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { createServerIdentity } from './certificates.ts';
import { type Adaptor, adaptorController } from './controllers/adaptor.ts';
import { cleanupController } from './controllers/cleanup.ts';
import type { Controller } from './controllers/controller.ts';
import { deploymentController } from './controllers/deployments.ts';
import { endpointController } from './controllers/endpoints.ts';
import { podController } from './controllers/pods.ts';
import { replicaSetController } from './controllers/replicasets.ts';
import { ApiError } from './errors.ts';
import { type Faults, noFaults } from './faults.ts';
import { isAuthorised, type Request, type Response, sendStatus, sendText } from './http.ts';
import { type Answers, type Requests, sendRequests } from './mesh.ts';
import { writeFileAtomically } from './persistence.ts';
import { createRegistry } from './resources.ts';
import { type Intercept, type Router, route } from './router.ts';
import { seedCluster } from './seed.ts';
import { openStore } from './store.ts';
import { createWatchHub } from './watch.ts';

export type SandboxOptions = {
  /** Where the cluster is kept; made if missing. */
  dataDir: string;
  /** Default: the port of the last start, else a free one. */
  port?: number;
  log?: (line: string) => void;
  /** Chooses backends and pods for `send`; in [0, 1). */
  random?: () => number;
};

export type Sandbox = {
  /** `https://127.0.0.1:<port>` */
  server: string;
  port: number;
  /** The certificate authority, PEM in base64, as a kubeconfig carries it. */
  caData: string;
  token: string;
  /** A kubeconfig as YAML text. */
  kubeconfig: string;
  /** Sends requests to a Service as a client in the cluster would; counts answers by version. */
  send(requests: Requests): Answers;
  adaptor: Adaptor;
  faults: Faults;
  intercept: Intercept | null;
  stop(): Promise<void>;
};

type Access = { caCertificate: string; certificate: string; key: string; token: string; port: number };

const host = '127.0.0.1';

/**
 * Starts the cluster kept in a folder, or a new one.
 * @throws Error naming the port and the remedy where the port is taken
 */
export async function startSandbox(options: SandboxOptions): Promise<Sandbox> {
  const log = options.log ?? (() => {});
  mkdirSync(options.dataDir, { recursive: true, mode: 0o700 });
  const accessFile = join(options.dataDir, 'access.json');
  const known = existsSync(accessFile) ? (JSON.parse(readFileSync(accessFile, 'utf8')) as Access) : undefined;
  const access: Access = known ?? {
    ...(await createServerIdentity()),
    token: randomBytes(32).toString('base64url'),
    port: 0,
  };

  let serve: (request: Request, response: Response) => void = () => {};
  const server = createSecureServer({ key: access.key, cert: access.certificate, allowHTTP1: true });
  server.on('request', (request, response) => {
    serve(request as unknown as Request, response as unknown as Response);
  });
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  // A client that hangs up is its own business.
  server.on('sessionError', () => {});

  const port = await listen(server, options.port ?? access.port, options.dataDir);
  if (port !== known?.port) writeFileAtomically(accessFile, JSON.stringify({ ...access, port }));

  const store = openStore(options.dataDir);
  const registry = createRegistry();
  for (const { object } of store.list('customresourcedefinitions.apiextensions.k8s.io')) registry.register(object);
  const cluster = { store, registry };
  seedCluster(cluster);
  const hub = createWatchHub(store);
  const faults = noFaults();
  const context = { cluster, faults, log };
  const { controller, adaptor } = adaptorController(context);
  const controllers: Controller[] = [
    podController(context),
    replicaSetController(context),
    deploymentController(context),
    endpointController(context),
    cleanupController(context),
    controller,
  ];
  store.subscribe((change) => {
    for (const one of controllers) one.changed(change);
  });
  for (const one of controllers) one.start();

  const address = `https://${host}:${port}`;
  const caData = Buffer.from(access.caCertificate).toString('base64');
  const sandbox: Sandbox = {
    server: address,
    port,
    caData,
    token: access.token,
    kubeconfig: kubeconfigFor(address, caData, access.token),
    send: (requests) => sendRequests(store, requests, options.random ?? Math.random),
    adaptor,
    faults,
    intercept: null,
    async stop() {
      hub.close();
      for (const one of controllers) one.stop();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
      store.close();
    },
  };

  const router: Router = { cluster, hub, intercept: () => sandbox.intercept };
  serve = (request, response) => {
    answer(router, access.token, request, response).catch((error: unknown) => {
      if (error instanceof ApiError) return sendStatus(response, error.status);
      log(`${request.method} ${request.url}: ${error instanceof Error ? error.stack : String(error)}`);
      if (!response.headersSent) sendStatus(response, internal(error).status);
    });
  };
  log(`serving ${address}`);
  return sandbox;
}

async function answer(router: Router, token: string, request: Request, response: Response): Promise<void> {
  const path = request.url?.split('?')[0] ?? '';
  const authorised = isAuthorised(request, token);
  if (authorised === undefined && ['/healthz', '/livez', '/readyz'].includes(path)) {
    return sendText(response, 200, 'ok', 'text/plain');
  }
  if (!authorised && !(authorised === undefined && path === '/version')) {
    throw new ApiError(401, 'Unauthorized', 'Unauthorized');
  }
  if (['/healthz', '/livez', '/readyz'].includes(path)) return sendText(response, 200, 'ok', 'text/plain');
  await route(router, request, response);
}

function internal(error: unknown): ApiError {
  return new ApiError(
    500,
    'InternalError',
    `Internal error occurred: ${error instanceof Error ? error.message : error}`,
  );
}

async function listen(server: Http2SecureServer, port: number, dataDir: string): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'EADDRINUSE') return reject(cause);
      const remedy = `is the sandbox cluster of ${dataDir} running already? Stop what listens there, or choose another port`;
      reject(new Error(`port ${port} on ${host} is in use: ${remedy}.`, { cause }));
    });
    server.listen(port, host, resolve);
  });
  return (server.address() as AddressInfo).port;
}

function kubeconfigFor(server: string, caData: string, token: string): string {
  return `apiVersion: v1
kind: Config
clusters:
  - name: sandbox
    cluster:
      server: ${server}
      certificate-authority-data: ${caData}
users:
  - name: sandbox
    user:
      token: ${token}
contexts:
  - name: sandbox
    context:
      cluster: sandbox
      user: sandbox
current-context: sandbox
`;
}
