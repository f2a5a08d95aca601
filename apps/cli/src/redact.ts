/** What stands before the last @ of something that has a colon there: a user name with a password. */
const login = /^.*:.*@/s;

/** What stands behind the first colon of what was given as a connection. */
const afterColon = /(?<=^[^:]*:).*/s;

/** Arguments that may hold a password: mistyped ones as well, which nothing else would take for a connection. */
function suspects(argv: readonly string[], environment: NodeJS.ProcessEnv): string[] {
  const values = [...argv, environment.FLOWPOST_CONNECTION ?? ''].flatMap((one) => [
    one,
    one.replace(/^--[\w-]+=/, ''),
    one.replace(/^@/, ''),
  ]);
  return [...new Set(values)].filter((one) => login.test(one)).toSorted((a, b) => b.length - a.length);
}

/** What was given as a connection and is neither a URL nor has a login. */
function connections(argv: readonly string[], environment: NodeJS.ProcessEnv): string[] {
  const given = argv.flatMap((one, index) =>
    one === '--connection' ? (argv[index + 1] ?? []) : one.startsWith('--connection=') ? one.slice(13) : [],
  );
  return [...given, environment.FLOWPOST_CONNECTION ?? ''].filter((one) => /^[^:/\\]{2,}:(?!\/\/)/.test(one));
}

/** What stands before the first = of a mistyped option that has a login: no more of it is named, so it is looked for apart. */
const optionNames = (argv: readonly string[]): string[] =>
  argv.filter((one) => one.startsWith('-') && login.test(one)).map((one) => one.replace(/=.*/s, ''));

/** Takes the logins out of a text that were given on the command line, however an error came by them. */
export function redact(text: string, argv: readonly string[], environment: NodeJS.ProcessEnv): string {
  let redacted = text;
  const hide = [
    ...suspects(argv, environment).map((one) => [one, one.replace(login, '***@')] as const),
    ...connections(argv, environment).map((one) => [one, one.replace(afterColon, '***')] as const),
    ...optionNames(argv).map((one) => [one, one.replace(afterColon, '***')] as const),
  ];
  for (const [one, hidden] of hide) {
    // Some errors quote what they name.
    for (const quote of [(value: string) => value, (value: string) => JSON.stringify(value).slice(1, -1)])
      redacted = redacted.replaceAll(quote(one), quote(hidden));
  }
  return redacted;
}
