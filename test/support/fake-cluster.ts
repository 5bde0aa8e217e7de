import { after, afterEach, before } from 'node:test';
import { createKubeClient, type KubeClient } from '@cdaas/control-plane/drivers/kube.ts';
import { type Authority, createAuthority, type FakeApiServer, json, startFakeApiServer } from './fake-api-server.ts';
import { allowing, token } from './kube-outcomes.ts';

/** A fake API server for the tests of one file, and clients of it. `server` and `authority` are there once a test runs. */
export type FakeCluster = {
  readonly server: FakeApiServer;
  readonly authority: Authority;
  /** A client that is closed after the test. */
  clientOf(options?: Partial<Parameters<typeof createKubeClient>[0]>): KubeClient;
};

/** After each test it answers everything with `{}` again, and has seen nothing. @param names in its certificate */
export function useFakeCluster(names = ['127.0.0.1']): FakeCluster {
  let started: { server: FakeApiServer; authority: Authority } | undefined;
  const opened: KubeClient[] = [];
  const running = () => {
    if (started === undefined) throw new Error('the fake cluster runs while tests run');
    return started;
  };
  before(async () => {
    const authority = await createAuthority();
    started = { authority, server: await startFakeApiServer(await authority.issue('api', names)) };
  });
  after(() => started?.server.close());
  afterEach(async () => {
    const { server } = running();
    server.cut();
    await Promise.all(opened.splice(0).map((client) => client.close()));
    server.answer((_request, response) => json(response, 200, {}));
    server.seen.length = 0;
  });
  return {
    get server() {
      return running().server;
    },
    get authority() {
      return running().authority;
    },
    clientOf(options = {}) {
      const { server, authority } = running();
      const access = { server: server.url, caData: authority.certificate, credential: { token } };
      const client = createKubeClient({ ...access, outbound: allowing(server.port), ...options });
      opened.push(client);
      return client;
    },
  };
}
