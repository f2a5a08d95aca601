/** What stands before the last @ of something that has a colon there: a user name with a password. */
const login = /^.*:.*@/s;

/** Arguments that may hold a password: mistyped ones as well, which nothing else would take for a connection. */
function suspects(argv: readonly string[], environment: NodeJS.ProcessEnv): string[] {
  const values = [...argv, environment.FLOWPOST_CONNECTION ?? ''].flatMap((one) => [
    one,
    one.replace(/^--[\w-]+=/, ''),
    one.replace(/^@/, ''),
  ]);
  return [...new Set(values)].filter((one) => login.test(one)).toSorted((a, b) => b.length - a.length);
}

/** Takes the logins out of a text that were given on the command line, however an error came by them. */
export function redact(text: string, argv: readonly string[], environment: NodeJS.ProcessEnv): string {
  let redacted = text;
  for (const one of suspects(argv, environment)) {
    const hidden = one.replace(login, '***@');
    // Some errors quote what they name.
    for (const quote of [(value: string) => value, (value: string) => JSON.stringify(value).slice(1, -1)])
      redacted = redacted.replaceAll(quote(one), quote(hidden));
  }
  return redacted;
}
