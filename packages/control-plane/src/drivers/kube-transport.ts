import { type Dispatcher, Pool } from 'undici';
import type { ClusterAccess } from '../clusters/kubeconfig.ts';
import { createConnector, type Outbound } from '../outbound.ts';
import { createBreaker } from './breaker.ts';
import {
  closedOutcome,
  exchange,
  type Outcome,
  type StreamSink,
  type Unreachable,
  type UnreachableCode,
} from './kube-exchange.ts';

/*
 * HTTP to one API server, built so that a slow or hostile one costs this process little: a bounded number of requests
 * in flight, each with a deadline and a size, no redirects, only the registered CA, a breaker. HTTP/1.1 with kept-alive
 * connections: it measured cheaper than HTTP/2, and it makes "was this request sent?" exact, because a connection
 * carries one request at a time.
 */

export type HttpMethod = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

export type KubeRequest = {
  method: HttpMethod;
  /** Absolute path below the server's address, already encoded. */
  path: string;
  query?: Record<string, string | number | boolean | undefined>;
  /** Sent as JSON. */
  body?: unknown;
  contentType?: string;
  signal?: AbortSignal | undefined;
  /** From the call to the end of the answer, waiting for a free slot included. Default 10 s. */
  timeoutMs?: number | undefined;
  /** What nobody waits for: its failure is no sign that the cluster is away, and does not hold up other requests. */
  bestEffort?: true;
};

export type KubeLimits = {
  /** Requests under way at once; watches do not count. */
  inFlight: number;
  /** Requests waiting for one of them; more are refused as `busy`. */
  queueLength: number;
  timeoutMs: number;
  answerBytes: number;
  /** Watches open at once. */
  watches: number;
  /** What the watches together may deliver on average; a faster server is read slowly. */
  watchBytesPerSecond: number;
  /** Consecutive failures that open the breaker. */
  breakerThreshold: number;
};

export const defaultLimits: KubeLimits = {
  inFlight: 16,
  queueLength: 4096,
  timeoutMs: 10_000,
  answerBytes: 8 * 1024 * 1024,
  watches: 600,
  watchBytesPerSecond: 4 * 1024 * 1024,
  breakerThreshold: 5,
};

export type KubeTransport = {
  request(request: KubeRequest): Promise<Outcome>;
  /** A GET whose answer goes on: settles when it ends ('ended'), fails, or was not a 200. Retries nothing. */
  stream(request: Omit<KubeRequest, 'method' | 'body'>, sink: StreamSink): Promise<Outcome | { kind: 'ended' }>;
  /** Somebody saw the cluster answer: if it counts as away here, the next request finds out. */
  hurry(): void;
  /** Lets requests under way finish; ends watches; refuses what comes later. */
  close(): Promise<void>;
};

export type TransportOptions = ClusterAccess & {
  outbound: Outbound;
  limits?: Partial<KubeLimits>;
  /** Milliseconds since the epoch. */
  now?: () => number;
  /** The cluster counted as away, and has done what it was asked; that it says its version is not enough. */
  onAnswersAgain?: (() => void) | undefined;
  /** It is reached in a new way: the first success is told as one of a cluster that counted as away. */
  isReplacement?: boolean;
};

export function createKubeTransport(options: TransportOptions): KubeTransport {
  const { server, caData, credential, outbound, now = Date.now, onAnswersAgain } = options;
  const limits = { ...defaultLimits, ...options.limits };
  const { origin, pathname } = new URL(server);
  const prefix = pathname.replace(/\/+$/, '');
  const secret = 'token' in credential ? credential.token : undefined;
  const connect = createConnector(outbound, 'cluster', {
    ca: caData,
    ...('certificate' in credential ? { cert: credential.certificate, key: credential.key } : {}),
  });
  const createPool = (connections: number) =>
    // undici's own timers are off: every request carries its own deadline. 20 s is below any server's idle limit.
    new Pool(origin, {
      connections,
      pipelining: 1,
      connect,
      headersTimeout: 0,
      bodyTimeout: 0,
      keepAliveTimeout: 20_000,
    });
  const pool = createPool(limits.inFlight);
  const watchPool = createPool(limits.watches);
  const breaker = createBreaker({
    threshold: limits.breakerThreshold,
    now,
    isDoubted: options.isReplacement === true,
    onClosed: () => onAnswersAgain?.(),
  });
  const slots = createSlots(limits.inFlight, limits.queueLength);
  const watchBudget = createBudget(limits.watchBytesPerSecond, now);
  let closing: Promise<void> | undefined;
  let watching = 0;

  const headers = ['accept', 'application/json', 'user-agent', 'cdaas'];
  if (secret !== undefined) headers.push('authorization', `Bearer ${secret}`);
  const dispatchOptions = ({ method, path, query, body, contentType }: KubeRequest): Dispatcher.DispatchOptions => ({
    method,
    path: `${prefix}${path}${renderQuery(query)}`,
    headers: body === undefined ? headers : [...headers, 'content-type', contentType ?? 'application/json'],
    body: body === undefined ? null : JSON.stringify(body),
    // undici closes the connection after a DELETE with a body, in case a server leaves that unread; API servers read it.
    reset: false,
  });

  const unreachable = (code: UnreachableCode, reason: string, sent: boolean): Unreachable => ({
    kind: 'unreachable',
    code,
    reason,
    sent,
  });
  /** Tells the breaker what became of a call. */
  const settled = (outcome: Outcome, bestEffort = false): Outcome => {
    if (outcome.kind === 'answered') {
      if (outcome.status < 500) breaker.succeeded();
      else breaker.answered();
    } else if (isFailure(outcome.code)) {
      lastFailure = outcome.reason;
      if (!bestEffort) breaker.failed();
    }
    return outcome;
  };
  let lastFailure = '';
  const refusedByBreaker = (retryInMs: number) =>
    unreachable(
      'breaker.open',
      `the cluster does not answer (${lastFailure}); ${retryInMs > 0 ? `asking it again in ${Math.ceil(retryInMs / 1000)} s` : 'it is being asked again'}`,
      false,
    );

  const send = (request: KubeRequest, timeoutMs: number): Promise<Outcome> =>
    exchange(pool, dispatchOptions(request), {
      timeoutMs,
      answerBytes: limits.answerBytes,
      signal: request.signal,
      secret,
    });

  /** An open breaker is tested with a harmless question, never with somebody's write. */
  const probe = async (): Promise<Unreachable | undefined> => {
    const outcome = await send({ method: 'GET', path: '/version' }, limits.timeoutMs);
    // However little sense it makes: what answers is not away.
    if (outcome.kind === 'answered' || outcome.code.startsWith('answer.')) {
      breaker.probeAnswered();
      return undefined;
    }
    lastFailure = outcome.reason;
    breaker.probeFailed();
    return unreachable(outcome.code, outcome.reason, false);
  };

  const request = async (request: KubeRequest): Promise<Outcome> => {
    const timeoutMs = request.timeoutMs ?? limits.timeoutMs;
    const deadline = now() + timeoutMs;
    if (closing) return closedOutcome();
    // A request that has waited for half of its time is not begun any more: cut short, its outcome would be unknown.
    const slot = await slots.take(timeoutMs / 2, request.signal);
    if (slot !== 'taken') {
      return slot === 'aborted'
        ? unreachable('aborted', 'the request was withdrawn', false)
        : unreachable('busy', 'too many requests to this cluster are waiting', false);
    }
    try {
      const admission = breaker.admit();
      if (admission.kind === 'refuse') return refusedByBreaker(admission.retryInMs);
      if (admission.kind === 'probe') {
        const failed = await probe();
        if (failed) return failed;
        // It is back, and slow: what is left of the time would cut the request short. The next one has all of it.
        if (deadline - now() < timeoutMs / 2) return unreachable('busy', 'the cluster answers slowly', false);
      }
      if (closing) return closedOutcome();
      const outcome = await send(request, Math.max(1, deadline - now()));
      // A kept-alive connection can be closed by the server just as it is used again. Asking twice is harmless.
      const again = request.method === 'GET' && outcome.kind === 'unreachable' && outcome.code === 'reset';
      const last = again && deadline > now() ? await send(request, deadline - now()) : outcome;
      return settled(last, request.bestEffort);
    } finally {
      slots.release();
    }
  };

  const stream: KubeTransport['stream'] = async (request, sink) => {
    if (closing) return closedOutcome();
    if (watching >= limits.watches) return unreachable('busy', 'too many watches of this cluster are open', false);
    const admission = breaker.admit();
    if (admission.kind === 'refuse') return refusedByBreaker(admission.retryInMs);
    watching += 1;
    let opened = false;
    const onOpen = () => {
      opened = true;
      // Watches are served from memory, also while nothing can be read or written.
      breaker.answered();
      sink.onOpen();
    };
    try {
      if (admission.kind === 'probe') {
        const failed = await probe();
        if (failed) return failed;
      }
      const outcome = await exchange(watchPool, dispatchOptions({ ...request, method: 'GET' }), {
        timeoutMs: request.timeoutMs ?? limits.timeoutMs,
        answerBytes: limits.answerBytes,
        signal: request.signal,
        secret,
        stream: { onOpen, onData: sink.onData, pauseMs: watchBudget },
      });
      // A watch that is cut after it began says little: load balancers do that to all of them at once.
      return outcome.kind === 'ended' || opened ? outcome : settled(outcome);
    } finally {
      watching -= 1;
    }
  };

  return {
    request,
    stream,
    hurry: () => breaker.hurry(),
    close() {
      // Not pool.close(): it would also wait for connections that nobody waits for any more.
      closing ??= Promise.all([watchPool.destroy(), slots.idle().then(() => pool.destroy())]).then(() => {});
      return closing;
    },
  };
}

/** Failures of the cluster or of the way to it. What was refused on this side says nothing about them. */
function isFailure(code: UnreachableCode): boolean {
  return code === 'dns' || code === 'connect' || code === 'tls' || code === 'timeout' || code === 'reset';
}

function renderQuery(query: KubeRequest['query']): string {
  const parts = Object.entries(query ?? {}).flatMap(([name, value]) =>
    value === undefined ? [] : [`${encodeURIComponent(name)}=${encodeURIComponent(value)}`],
  );
  return parts.length === 0 ? '' : `?${parts.join('&')}`;
}

type Slots = {
  take(waitMs: number, signal: AbortSignal | undefined): Promise<'taken' | 'busy' | 'aborted'>;
  release(): void;
  /** Resolves when nobody holds a slot. */
  idle(): Promise<void>;
};

/** A first-come semaphore whose queue is bounded in length and each wait in time. */
function createSlots(size: number, queueLength: number): Slots {
  let free = size;
  const waitingForIdle: (() => void)[] = [];
  const queue = new Set<(outcome: 'taken' | 'busy' | 'aborted') => void>();
  return {
    async take(waitMs, signal) {
      if (signal?.aborted) return 'aborted';
      if (free > 0) {
        free -= 1;
        return 'taken';
      }
      if (queue.size >= queueLength) return 'busy';
      return new Promise((resolve) => {
        const settle = (outcome: 'taken' | 'busy' | 'aborted') => {
          queue.delete(settle);
          clearTimeout(timer);
          signal?.removeEventListener('abort', onAbort);
          resolve(outcome);
        };
        const onAbort = () => settle('aborted');
        const timer = setTimeout(() => settle('busy'), waitMs);
        signal?.addEventListener('abort', onAbort, { once: true });
        queue.add(settle);
      });
    },
    release() {
      const [next] = queue;
      if (next) next('taken');
      else free += 1;
      if (free === size) for (const done of waitingForIdle.splice(0)) done();
    },
    async idle() {
      if (free < size) await new Promise<void>((done) => waitingForIdle.push(done));
    },
  };
}

/** Average bytes per second with a burst of four seconds: answers how long to stop reading after so many bytes. */
function createBudget(bytesPerSecond: number, now: () => number): (bytes: number) => number {
  const burst = bytesPerSecond * 4;
  let left = burst;
  let at = now();
  return (bytes) => {
    const time = now();
    left = Math.min(burst, left + ((time - at) / 1000) * bytesPerSecond) - bytes;
    at = time;
    return left >= 0 ? 0 : Math.ceil((-left / bytesPerSecond) * 1000);
  };
}
