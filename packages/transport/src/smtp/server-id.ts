/**
 * The id a server gave the message, in the forms of Postfix, Exim, Exchange, Gmail, Dovecot and their like.
 *
 * @param accepted the recipients, whom some servers repeat.
 */
export function serverId(response: string, accepted: readonly string[]): string | undefined {
  const [, dovecot, postfix, exim, angle, gmail] =
    /^250[ -]2\.\d\.\d <[^<>\s]+> (\S+) Saved|queued as ([\w.-]+)|\bOK id=([\w.-]+)|(<[^<>\s@]+@[^<>\s@]+>)|^250[ -]2\.0\.0 OK\s+(\d+ [\w.-]+)/im.exec(
      response,
    ) ?? [];
  const isRecipient = angle !== undefined && accepted.includes(angle.slice(1, -1));
  return dovecot ?? postfix ?? exim ?? (isRecipient ? undefined : angle) ?? gmail;
}
