import { calendarMethod, type EmailMessage } from '@flowpost/core';
import type { ResolvedAttachment } from '../resolve-attachments.ts';
import { attachmentPart, type MimePart, multipart, textPart } from './mime-part.ts';
import { normalizeLineEnds } from './transfer-encoding.ts';

const invitationName = 'invite.ics';

/** A calendar that says what it is for: where the header of a part does, it has to (RFC 5545 section 3.7.2). */
function withMethod({ method, content }: NonNullable<EmailMessage['calendar']>): string {
  return calendarMethod(content) === undefined
    ? content.replace(/^BEGIN:VCALENDAR[ \t]*(\r\n?|\n)/, `$&METHOD:${method}$1`)
    : content;
}

/** The invitation as a file too, for the programs that show no other (RFC 6047 leaves both ways open). */
function invitationFile(method: string, content: string): MimePart {
  return attachmentPart({
    content: Buffer.from(normalizeLineEnds(content), 'utf8'),
    filename: invitationName,
    contentType: `application/ics; charset=utf-8; method=${method}`,
  });
}

const writes = (part: MimePart, text: string): boolean =>
  part.body.some((segment) =>
    typeof segment === 'string' || Buffer.isBuffer(segment) ? segment.includes(text) : false,
  );

/**
 * What all boundaries of a message begin with: made from its Message-ID, so that the same message has the same bytes
 * each time it is composed, and found in none of its parts. Neither base64 nor quoted-printable can contain `=_`.
 */
function boundaryPrefix(messageId: string, leaves: readonly MimePart[]): string {
  const id = messageId.replace(/[^A-Za-z0-9]+/g, '').slice(0, 48);
  for (let attempt = 0; ; attempt++) {
    const prefix = attempt === 0 ? `=_${id}` : `=_${attempt}_${id}`;
    if (!leaves.some((leaf) => writes(leaf, prefix))) return prefix;
  }
}

/** The tree of RFC 2046: alternative in related in mixed, each only where there is something to hold together. */
export function contentPart(
  { text, html, calendar }: EmailMessage,
  attachments: readonly ResolvedAttachment[],
  messageId: string,
): MimePart {
  const isInline = ({ contentId }: ResolvedAttachment): boolean =>
    html !== undefined && contentId !== undefined;
  const plain =
    text !== undefined || (html === undefined && !calendar) ? [textPart('text/plain', text ?? '')] : [];
  const rich = html === undefined ? [] : [textPart('text/html', html)];
  const inline = attachments.filter(isInline).map((one) => attachmentPart(one, true));
  const object = calendar && withMethod(calendar);
  const invitation =
    calendar && object ? [textPart('text/calendar', object, [`method=${calendar.method}`])] : [];
  const attached = [
    ...attachments.filter((one) => !isInline(one)).map((one) => attachmentPart(one)),
    ...(calendar && object ? [invitationFile(calendar.method, object)] : []),
  ];

  const prefix = boundaryPrefix(messageId, [...plain, ...rich, ...inline, ...invitation, ...attached]);
  const related = rich.length > 0 ? [multipart('related', [...rich, ...inline], `${prefix}_r`)] : [];
  const body = multipart('alternative', [...plain, ...related, ...invitation], `${prefix}_a`);
  return multipart('mixed', [body, ...attached], `${prefix}_m`);
}
