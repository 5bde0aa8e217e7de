import { ensureClient } from '../packages/control-plane/src/generate.ts';

const [command = ''] = process.argv.slice(2);
if (command === 'generate')
  console.log((await ensureClient()) ? 'Generated the Prisma client.' : 'The Prisma client is up to date.');
