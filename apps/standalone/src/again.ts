/** The command that starts standalone once more with other settings, all else as it was given this time. */
export type Again = (change: { env?: Record<string, string>; account?: string }) => string;

/** What is repeated. Neither PUBLIC_URL, which goes with its port, nor what holds a password. */
const repeated = ['HOST', 'OUTBOUND_ALLOW', 'ENCRYPTION_KEY_FILE', 'DRAIN_SECONDS', 'CDAAS_DATA_DIR', 'PORT'] as const;

/**
 * @param environment as this start found it
 * @param args the words after `npm start --`
 */
export function createAgain(environment: Readonly<Record<string, string | undefined>>, args: readonly string[]): Again {
  return ({ env = {}, account }) => {
    const kept = repeated.flatMap((name) => {
      const value = env[name] ?? environment[name];
      return value ? [`${name}=${quoted(value)}`] : [];
    });
    const more = Object.entries(env).flatMap(([name, value]) =>
      repeated.some((each) => each === name) ? [] : [`${name}=${quoted(value)}`],
    );
    const words = account === undefined ? args : [...withoutAccount(args), '--account', account];
    return [...kept, ...more, 'npm start', ...(words.length === 0 ? [] : ['--', ...words.map(quoted)])].join(' ');
  };
}

function withoutAccount(args: readonly string[]): string[] {
  return args.filter((word, at) => !word.startsWith('--account') && args[at - 1] !== '--account');
}

/** As a POSIX shell reads it. */
function quoted(word: string): string {
  return /^[\w./:@%+,=*-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** The next name in a row: `own`, `own-2`, `own-3`. */
export function nextName(name: string): string {
  const [, stem = name, number = '1'] = /^(.*)-(\d{1,6})$/.exec(name) ?? [];
  return `${stem}-${Number(number) + 1}`;
}
