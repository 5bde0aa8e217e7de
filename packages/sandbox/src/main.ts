/** Runs the sandbox cluster as a process of its own. */
import { renameSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { startSandbox } from './sandbox.ts';

const usage = `Runs a sandbox cluster: a small Kubernetes API with controllers and a mesh, kept under a folder.

  npm run -s sandbox -- --data DIR [--port N] [--kubeconfig FILE]

  --data DIR          where the cluster is kept (made if missing); not the folder of a sandbox that runs
  --port N            where to listen on 127.0.0.1; default: the port of the last start, else a free one
  --kubeconfig FILE   write a kubeconfig for it to FILE, which only its owner can read

It prints its address once it serves, and serves until Ctrl-C.
`;

function readArguments() {
  try {
    return parseArgs({
      options: {
        data: { type: 'string' },
        port: { type: 'string' },
        kubeconfig: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values;
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n\n${usage}`);
    process.exit(2);
  }
}

/** Whole or not at all, so that whoever waits for the file never reads half of it. */
function writeKubeconfig(file: string, content: string): void {
  const unfinished = `${file}.${process.pid}`;
  writeFileSync(unfinished, content, { mode: 0o600 });
  renameSync(unfinished, file);
}

const values = readArguments();
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
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => sandbox.stop().then(() => process.exit(0)));
  }
  if (values.kubeconfig !== undefined) writeKubeconfig(values.kubeconfig, sandbox.kubeconfig);
  process.stdout.write(`${sandbox.server}\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
  process.exit(1);
}
