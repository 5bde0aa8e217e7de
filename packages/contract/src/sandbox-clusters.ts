import { z } from 'zod';
import { text } from './text.ts';

export const SandboxClusterParams = z.object({ id: text(200) });
