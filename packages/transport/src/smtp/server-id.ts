/** The id a server gave the message, in the forms of Postfix, Exim, Exchange, Gmail and their like. */
export function serverId(response: string): string | undefined {
  const [, postfix, exim, angle, gmail] =
    /queued as ([\w.-]+)|\bOK id=([\w.-]+)|(<[^<>\s@]+@[^<>\s@]+>)|^250[ -]2\.0\.0 OK\s+(\d+ [\w.-]+)/im.exec(
      response,
    ) ?? [];
  return postfix ?? exim ?? angle ?? gmail;
}
