/** Runs the sandbox cluster as a process of its own. */
import { parseArgs } from 'node:util';
import { startSandbox } from './sandbox.ts';

const usage = `Runs a sandbox cluster: a small Kubernetes API with controllers and a mesh, kept under a folder.

  node packages/sandbox/src/main.ts --data DIR [--port N] [--kubeconfig]

  --data DIR     where the cluster is kept (made if missing)
  --port N       where to listen on 127.0.0.1; default: the port of the last start, else a free one
  --kubeconfig   print a kubeconfig instead of the address
`;

const { values } = parseArgs({
  options: {
    data: { type: 'string' },
    port: { type: 'string' },
    kubeconfig: { type: 'boolean' },
    help: { type: 'boolean' },
  },
});

if (values.help || !values.data) {
  process.stdout.write(usage);
  process.exit(values.help ? 0 : 2);
}

try {
  const sandbox = await startSandbox({
    dataDir: values.data,
    ...(values.port ? { port: Number(values.port) } : {}),
    log: (line) => process.stderr.write(`${line}\n`),
  });
  process.stdout.write(values.kubeconfig ? sandbox.kubeconfig : `${sandbox.server}\n`);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => sandbox.stop().then(() => process.exit(0)));
  }
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
  process.exit(1);
}
