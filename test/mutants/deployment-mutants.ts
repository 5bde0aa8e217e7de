/** Wrong versions of the deployment machine, one line each, and the law test that must notice. */
export type Mutant = {
  name: string;
  /** Below packages/pipeline/src. */
  file: string;
  /** Stands exactly once in the file. */
  line: string;
  instead: string;
  /** Beginning of the title of the test that fails. */
  killedBy: string;
};

export const mutants: Mutant[] = [
  {
    name: 'S5 of a first deployment does not wait until the pods are ready',
    file: 'conditions.ts',
    line: 'return { holds: ready >= condition.ready, detail',
    instead: 'return { holds: true, detail',
    killedBy: 'law 4',
  },
  {
    name: 'weights rise while new pods are missing',
    file: 'conditions.ts',
    line: 'return { holds: ready < condition.ready, detail',
    instead: 'return { holds: false, detail',
    killedBy: 'law 1',
  },
  {
    name: 'weights rise while root is not pinned',
    file: 'deployment-machine.ts',
    line: 'return guardConditions(state).find(holding) ?? null;',
    instead: 'return null;',
    killedBy: 'law 1',
  },
  {
    name: 'F1 does not drain',
    file: 'programme.ts',
    line: "{ id: 'F1.drain', kind: 'drain' },",
    instead: '',
    killedBy: 'law 1',
  },
  {
    name: 'R2 comes before R1',
    file: 'programme.ts',
    line: 'if (undo?.split && undo.shifted) {',
    instead: 'if (undo?.split && undo.rootPinned === undefined) {',
    killedBy: 'law 1',
  },
  {
    name: 'a roll back does not write weights that seem to be in force',
    file: 'deployment-machine.ts',
    line: "change.op === 'weights' && state.track === 'forward' && sameWeights(",
    instead: "change.op === 'weights' && sameWeights(",
    killedBy: 'law 1',
  },
  {
    name: 'S2 pins root to the new version',
    file: 'programme.ts',
    line: "slot: 'root', change: { op: 'pin', hash: survey.old.hash }",
    instead: "slot: 'root', change: { op: 'pin', hash }",
    killedBy: 'law 1',
  },
  {
    name: 'F3 gives traffic back to root before its endpoints are the new pods',
    file: 'conditions.ts',
    line: 'const listed = pods.every((pod) => !isReady(pod) || seen.pods.has(pod.metadata.name));',
    instead: "const listed = true; if (condition.ready !== null) return { holds: true, detail: '' };",
    killedBy: 'law 2',
  },
  {
    name: 'a weight step does not wait for the mesh',
    file: 'programme.ts',
    line: "mesh`, weights, null, 'goOn'),",
    instead: "mesh`, weights, null, 'goOn').slice(1),",
    killedBy: 'law 3',
  },
  {
    name: 'F2 does not wait until F1 is confirmed',
    file: 'programme.ts',
    line: "...meshWait(state, 'F1.mesh', toNew, null, 'goOn'),",
    instead: '',
    killedBy: 'law 3',
  },
  {
    name: 'a lost write is sent again without a look',
    file: 'outcomes.ts',
    line: "if (effect.kind === 'write') doubtSent(state, effect);",
    instead: '',
    killedBy: 'law 4',
  },
  {
    name: 'a roll back begins while a lost pin may still arrive',
    file: 'deployment-machine.ts',
    line: 'state.doubt === null && state.unsettled === null;',
    instead: 'state.doubt === null;',
    killedBy: 'law 4',
  },
  {
    name: 'a PATCH carries no resourceVersion',
    file: 'render.ts',
    line: '({ ...metadata, resourceVersion: effect.resourceVersion });',
    instead: '({ ...metadata });',
    killedBy: 'law 5',
  },
  {
    name: 'the new ReplicaSet is created with its pods',
    file: 'render.ts',
    line: 'replicas: 0,',
    instead: 'replicas: plan.workload.replicas,',
    killedBy: 'law 5',
  },
  {
    name: 'a split that somebody else made is taken for ours',
    file: 'outcomes.ts',
    line: 'if (object.uid !== doubt.uid && isOurs(state, slot)) {',
    instead: 'if (object.uid === "" && isOurs(state, slot)) {',
    killedBy: 'law 5',
  },
  {
    name: 'a late outcome of another call counts',
    file: 'deployment-machine.ts',
    line: 'if (effect === null || effect.key !== event.key) return;',
    instead: 'if (effect === null) return;',
    killedBy: 'law 6',
  },
  {
    name: 'nobody looks at a wait again',
    file: 'deployment-machine.ts',
    line: 'return { effect: null, until: due };',
    instead: 'return { effect: null, until: null };',
    killedBy: 'driving',
  },
];
