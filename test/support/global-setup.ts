import { startTestServer, type TestServer } from './postgres.ts';

// Called by node's test runner once before and once after all files: they share one Postgres server and one template.

let server: TestServer | undefined;

export async function globalSetup(): Promise<void> {
  server = await startTestServer();
  process.env.CDAAS_TEST_SERVER_URL = server.url;
  process.env.CDAAS_TEST_TEMPLATE = server.template;
}

export async function globalTeardown(): Promise<void> {
  await server?.stop();
}
