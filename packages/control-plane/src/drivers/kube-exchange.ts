import type { Dispatcher, Pool } from 'undici';
import { OutboundError } from '../outbound.ts';
import { isModestJson } from './modest-json.ts';

/*
 * One HTTP request to a cluster and its answer, as a value. What a caller may rely on: `sent: false` means that no byte
 * of the request left for the cluster. Everything after the first byte is `sent: true`, outcome unknown, unless an
 * answer came.
 */

export type Answered = {
  kind: 'answered';
  status: number;
  /** Parsed JSON; undefined where an error answer was not JSON. Of a definite error (400, 404, 409, 422 …) a Status. */
  body: unknown;
  /** From Retry-After, at most five minutes. */
  retryAfterMs?: number;
  /** Size of the answer of a success. */
  bytes?: number;
  /** Of an error: what was asked for. */
  asked?: AskedFor;
};

/** A verb of the API and what it was meant for, as RBAC rules and people name it. */
export type AskedFor = {
  verb: 'get' | 'list' | 'create' | 'update' | 'patch' | 'delete';
  /** e.g. `trafficsplits.split.smi-spec.io` */
  resource: string;
  namespace: string | undefined;
  name: string | undefined;
};

export type UnreachableCode =
  | 'outbound.refused'
  | 'dns'
  | 'connect'
  | 'tls'
  | 'breaker.open'
  | 'busy'
  | 'aborted'
  | 'client.closed'
  | 'timeout'
  | 'reset'
  | 'answer.tooLarge'
  | 'answer.notJson'
  | 'answer.redirect'
  /** JSON that no Kubernetes API server answers: nothing follows from it. */
  | 'answer.notKubernetes';

export type Unreachable = {
  kind: 'unreachable';
  code: UnreachableCode;
  /** For the user; holds no credential and nothing that the server said. */
  reason: string;
  /** false: the cluster never saw the request. true: whether it acted on it is unknown. */
  sent: boolean;
};

export type Outcome = Answered | Unreachable;

/** Receives a watch. `onOpen` comes once, when the server answered 200; then bytes as they arrive. */
export type StreamSink = { onOpen(): void; onData(chunk: Buffer): void };

export function closedOutcome(): Unreachable {
  return {
    kind: 'unreachable',
    code: 'client.closed',
    reason: 'the cluster’s credentials were replaced or removed',
    sent: false,
  };
}

export type ExchangeOptions = {
  timeoutMs: number;
  answerBytes: number;
  signal: AbortSignal | undefined;
  secret: string | undefined;
};
/** Of the answer of an error: a Status is small, and nothing but a few of its words is shown. */
const errorBytes = 64 * 1024;

type StreamOptions = ExchangeOptions & { stream: StreamSink & { pauseMs(bytes: number): number } };

/**
 * One request and its answer. With `stream`, a 200's body goes to the sink and only its head is under the deadline.
 * Settles once; what arrives later from undici is dropped.
 */
export function exchange(pool: Pool, dispatch: Dispatcher.DispatchOptions, options: ExchangeOptions): Promise<Outcome>;
export function exchange(
  pool: Pool,
  dispatch: Dispatcher.DispatchOptions,
  options: StreamOptions,
): Promise<Outcome | { kind: 'ended' }>;
export function exchange(
  pool: Pool,
  dispatch: Dispatcher.DispatchOptions,
  options: ExchangeOptions & Partial<StreamOptions>,
): Promise<Outcome | { kind: 'ended' }> {
  const { timeoutMs, answerBytes, signal, secret, stream } = options;
  return new Promise((resolve) => {
    let controller: Dispatcher.DispatchController | undefined;
    let settled = false;
    let status = 0;
    let retryAfterMs: number | undefined;
    let streaming = false;
    let size = 0;
    const chunks: Buffer[] = [];

    const finish = (outcome: Outcome | { kind: 'ended' }) => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      resolve(outcome);
    };
    // A request that still waits for a connection has no controller yet; onRequestStart ends it before it is written.
    const stop = (code: UnreachableCode, reason: string) => {
      if (settled) return;
      finish({ kind: 'unreachable', code, reason, sent: controller !== undefined });
      controller?.abort(new Error(reason));
    };
    const onAbort = () => stop('aborted', 'the request was withdrawn');
    const timer = setTimeout(() => {
      const did = controller === undefined ? 'accept a connection' : 'answer';
      stop(
        'timeout',
        `the cluster did not ${did} within ${timeoutMs < 1000 ? `${timeoutMs} ms` : `${Math.round(timeoutMs / 1000)} s`}`,
      );
    }, timeoutMs);
    if (signal?.aborted) return onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });

    const handler: Dispatcher.DispatchHandler = {
      onRequestStart(started) {
        // undici may start a request again after a lost connection; a write that may have been sent is never repeated.
        if (settled || controller !== undefined) {
          started.abort(new Error('the request is over'));
          finish({ kind: 'unreachable', code: 'reset', reason: resetReason, sent: true });
          return;
        }
        controller = started;
      },
      onResponseStart(_controller, statusCode, responseHeaders) {
        if (statusCode < 200) return;
        status = statusCode;
        retryAfterMs = readRetryAfter(responseHeaders['retry-after']);
        if (stream && status === 200) {
          streaming = true;
          clearTimeout(timer);
          stream.onOpen();
        }
      },
      onResponseData(active, chunk) {
        if (settled) return;
        if (streaming && stream) {
          stream.onData(chunk);
          const pauseMs = stream.pauseMs(chunk.length);
          if (pauseMs > 0) {
            active.pause();
            setTimeout(() => active.resume(), pauseMs).unref();
          }
          return;
        }
        size += chunk.length;
        if (status >= 300 && size > errorBytes) {
          // Its status says enough; the rest is not worth waiting for.
          finish(readAnswer(status, Buffer.alloc(0), retryAfterMs, secret));
          active.abort(new Error('the answer of an error is too long'));
          return;
        }
        if (size > answerBytes) {
          return stop('answer.tooLarge', `the cluster’s answer is larger than ${answerBytes / (1024 * 1024)} MiB`);
        }
        chunks.push(chunk);
      },
      onResponseEnd() {
        if (streaming) return finish({ kind: 'ended' });
        if (settled) return;
        const body = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
        finish(readAnswer(status, body, retryAfterMs, secret));
      },
      onResponseError(_controller, error) {
        finish({ kind: 'unreachable', ...explain(error, controller !== undefined), sent: controller !== undefined });
      },
    };
    try {
      pool.dispatch(dispatch, handler);
    } catch {
      finish(closedOutcome());
    }
  });
}

const resetReason = 'the connection to the cluster was lost';

function readAnswer(
  status: number,
  body: Buffer,
  retryAfterMs: number | undefined,
  secret: string | undefined,
): Outcome {
  const unusable = (code: UnreachableCode, reason: string): Unreachable => ({
    kind: 'unreachable',
    code,
    reason,
    sent: true,
  });
  if (status >= 300 && status < 400) {
    return unusable('answer.redirect', `the server answered with a redirect (${status}), which is not followed`);
  }
  if (!isModestJson(body)) {
    return unusable('answer.tooLarge', 'the cluster’s answer is nested too deep or made of too many parts');
  }
  if (status >= 400) {
    const parsed = readError(status, body, secret);
    // A proxy or another program at this address: its "not found" does not mean that an object is gone.
    if (isDefinite(status) && !isStatus(parsed)) {
      return unusable('answer.notKubernetes', `the server answered ${status}, ${notKubernetes}`);
    }
    return { kind: 'answered', status, body: parsed, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
  }
  try {
    const parsed: unknown = JSON.parse(body.toString());
    return { kind: 'answered', status, body: parsed, bytes: body.length };
  } catch {
    return unusable('answer.notJson', `the server answered ${status} with something that is not JSON, ${doubt}`);
  }
}

const doubt = 'as no API server does: is it a Kubernetes API server?';
const notKubernetes = `not in the words of Kubernetes, ${doubt}`;

/** Errors from which it follows that something is so. What else there is (401, 403, 429, 5xx) is tried again anyway. */
function isDefinite(status: number): boolean {
  return status < 500 && status !== 401 && status !== 403 && status !== 429;
}

/** `Status` of meta/v1. */
function isStatus(body: unknown): boolean {
  return typeof body === 'object' && body !== null && 'kind' in body && body.kind === 'Status';
}

function readError(status: number, body: Buffer, secret: string | undefined): unknown {
  const text = body.toString();
  // What API servers answer where a path is not served, in Go's own words.
  if (status === 404 && text.trim() === '404 page not found') {
    return { kind: 'Status', status: 'Failure', reason: 'NotFound', message: '404 page not found', code: 404 };
  }
  // A server could write the credential that it was shown into its error text, which people get to read.
  const redact = (_key: string, value: unknown) =>
    typeof value === 'string' && secret !== undefined ? value.replaceAll(secret, '[redacted]') : value;
  try {
    return JSON.parse(text, redact);
  } catch {
    return undefined;
  }
}

/** Nobody waits longer before it asks again, whatever the server says: half a minute is no load to any. */
const longestRetryMs = 30_000;

/** Retry-After in seconds or as a date (RFC 9110 section 10.2.3). */
function readRetryAfter(header: string | string[] | undefined): number | undefined {
  const text = Array.isArray(header) ? header[0] : header;
  if (text === undefined) return undefined;
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), longestRetryMs);
}

/** Words for a failed connection; only codes are taken from the error, whose text may hold what the server sent. */
function explain(error: unknown, sent: boolean): { code: UnreachableCode; reason: string } {
  if (error instanceof OutboundError) {
    return { code: error.code === 'outbound.refused' ? 'outbound.refused' : 'dns', reason: error.message };
  }
  const raw = error instanceof Error && 'code' in error ? error.code : undefined;
  const code = typeof raw === 'string' && /^[A-Z0-9_]{1,60}$/.test(raw) ? raw : 'unknown';
  if (code === 'UND_ERR_DESTROYED' || code === 'UND_ERR_CLOSED') return closedOutcome();
  if (sent)
    return {
      code: 'reset',
      reason: code.startsWith('HPE_') ? `the server does not speak HTTP (${code})` : resetReason,
    };
  if (code === 'CERT_HAS_EXPIRED') return { code: 'tls', reason: 'the server’s certificate has expired' };
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return {
      code: 'tls',
      reason: 'the server’s certificate is for other names than the address it was registered with',
    };
  }
  if (/CERT|ISSUER|SIGNATURE|_CA\b/.test(code)) {
    return { code: 'tls', reason: `the server’s certificate was not issued by the registered CA (${code})` };
  }
  if (/SSL|TLS|EPROTO/.test(code))
    return { code: 'tls', reason: `no TLS connection with the server came about (${code})` };
  if (code === 'ECONNREFUSED') return { code: 'connect', reason: 'the cluster refuses connections (ECONNREFUSED)' };
  return { code: 'connect', reason: `no connection to the cluster came about (${code})` };
}
