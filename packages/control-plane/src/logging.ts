import { type Logger, pino } from 'pino';

/** Fields that hold a credential wherever they turn up; the messages themselves are constant and hold none. */
const secretFields = [
  'authorization',
  'cookie',
  'token',
  'access_token',
  'client_secret',
  'clientSecret',
  'secret',
  'password',
  'kubeconfig',
  'clientKeyData',
  'credential',
  'config',
  'plan',
];

/**
 * JSON logs. Fields of known names are replaced at the top and two levels down.
 *
 * @param destination where lines go; standard output unless given
 */
export function createLogger(level: string, destination?: { write(line: string): void }): Logger {
  const paths = secretFields.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]);
  const options = {
    level,
    base: {},
    redact: { paths, censor: '[redacted]' },
    timestamp: pino.stdTimeFunctions.isoTime,
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}
