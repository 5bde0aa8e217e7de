import { startTestServer, type TestServer } from './postgres.ts';
import { offerSharedCluster } from './shared-cluster.ts';

// Called by node's test runner once before and once after all files: they share one Postgres server, one template, and one
// real cluster, which is started when the first of them needs it.

let server: TestServer | undefined;
let cluster: { stop(): Promise<void> } | undefined;

export async function globalSetup(): Promise<void> {
  cluster = offerSharedCluster();
  server = await startTestServer();
  process.env.CDAAS_TEST_SERVER_URL = server.url;
  process.env.CDAAS_TEST_TEMPLATE = server.template;
}

export async function globalTeardown(): Promise<void> {
  await Promise.all([server?.stop(), cluster?.stop()]);
}
