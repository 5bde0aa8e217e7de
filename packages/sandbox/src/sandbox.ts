/**
 * The sandbox cluster: the Kubernetes API over TLS, its workload controllers and a mesh, in this process, kept under a
 * folder. One process serves a folder at a time; the listening port guards that.
 */
import { mkdirSync } from 'node:fs';
import { createSecureServer, type Http2SecureServer } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { host, kubeconfigFor, loadAccess, saveAccess } from './access.ts';
import { type Adaptor, adaptorController } from './controllers/adaptor.ts';
import { cleanupController } from './controllers/cleanup.ts';
import type { Controller } from './controllers/controller.ts';
import { deploymentController } from './controllers/deployments.ts';
import { endpointController } from './controllers/endpoints.ts';
import { garbageCollector } from './controllers/garbage-collector.ts';
import { podController } from './controllers/pods.ts';
import { replicaSetController } from './controllers/replicasets.ts';
import { type Faults, noFaults } from './faults.ts';
import type { Request, Response } from './http.ts';
import { type Answers, type Requests, sendRequests } from './mesh.ts';
import { createRegistry, definitionsId } from './resources.ts';
import { type Router, serve } from './router.ts';
import { seedCluster } from './seed.ts';
import { openStore } from './store.ts';
import { createWatchHub } from './watch.ts';
import type { Intercept } from './writes.ts';

export type SandboxOptions = {
  /** Where the cluster is kept; made if missing. */
  dataDir: string;
  /** Default: the port of the last start, else a free one. */
  port?: number;
  log?: (line: string) => void;
  /** Chooses backends and pods for `send`; in [0, 1). */
  random?: () => number;
  /** Told every request as it comes, before it is answered. */
  onRequest?: (request: { method: string; url: string; userAgent: string }) => void;
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

/**
 * Starts the cluster kept in a folder, or a new one.
 * @throws Error naming the port and the remedy where the port is taken
 */
export async function startSandbox(options: SandboxOptions): Promise<Sandbox> {
  const log = options.log ?? (() => {});
  mkdirSync(options.dataDir, { recursive: true, mode: 0o700 });
  const access = await loadAccess(options.dataDir);
  const server = createSecureServer({ key: access.key, cert: access.certificate, allowHTTP1: true });
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  // A client that hangs up is its own business.
  server.on('sessionError', () => {});

  const port = await listen(server, options.port ?? access.port, options.dataDir);
  if (port !== access.port) saveAccess(options.dataDir, { ...access, port });

  const store = openStore(options.dataDir);
  const registry = createRegistry();
  for (const { object } of store.list(definitionsId)) registry.register(object);
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
    garbageCollector(context),
    cleanupController(context),
    controller,
  ];
  store.subscribe((change) => {
    for (const one of controllers) {
      // The change is stored: what a controller makes of it is no concern of the request.
      try {
        one.changed(change);
      } catch (error) {
        log(error instanceof Error ? (error.stack ?? error.message) : String(error));
      }
    }
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

  const router: Router = {
    cluster,
    hub,
    token: access.token,
    intercept: () => sandbox.intercept,
    delayMs: () => faults.requestDelayMs,
    send: sandbox.send,
    log,
  };
  server.on('request', (request, response) => {
    const { method = '', url = '', headers } = request;
    options.onRequest?.({ method, url, userAgent: headers['user-agent'] ?? '' });
    serve(router, request as unknown as Request, response as unknown as Response);
  });
  return sandbox;
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
