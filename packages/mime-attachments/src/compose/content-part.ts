import type { EmailMessage } from '@flowpost/core';
import type { ResolvedAttachment } from '../resolve-attachments.ts';
import { attachmentPart, type MimePart, multipart, textPart } from './mime-part.ts';
import { normalizeLineEnds } from './transfer-encoding.ts';

const invitationName = 'invite.ics';

/** The invitation as a file too, for the programs that show no other (RFC 6047 leaves both ways open). */
function invitationFile({ method, content }: NonNullable<EmailMessage['calendar']>): MimePart {
  return attachmentPart({
    content: Buffer.from(normalizeLineEnds(content), 'utf8'),
    filename: invitationName,
    contentType: `application/ics; charset=utf-8; method=${method}`,
  });
}

/**
 * The tree of RFC 2046: alternative in related in mixed, each only where there is something to hold together.
 *
 * @param unique makes the boundaries.
 */
export function contentPart(
  { text, html, calendar }: EmailMessage,
  attachments: readonly ResolvedAttachment[],
  unique: string,
): MimePart {
  let count = 0;
  const boundary = (): string => `=_${unique}_${++count}`;
  const isInline = ({ contentId }: ResolvedAttachment): boolean =>
    html !== undefined && contentId !== undefined;
  const alternatives: MimePart[] = [];
  if (text !== undefined || (html === undefined && !calendar))
    alternatives.push(textPart('text/plain', text ?? ''));
  if (html !== undefined) {
    const parts = [textPart('text/html', html), ...attachments.filter(isInline).map(attachmentPart)];
    alternatives.push(multipart('related', parts, boundary()));
  }
  if (calendar) alternatives.push(textPart('text/calendar', calendar.content, [`method=${calendar.method}`]));

  const attached = attachments.filter((attachment) => !isInline(attachment)).map(attachmentPart);
  if (calendar) attached.push(invitationFile(calendar));
  return multipart('mixed', [multipart('alternative', alternatives, boundary()), ...attached], boundary());
}
