import { type AddressObject, simpleParser } from 'mailparser';

/** A mailbox as a parser understands it; the name is empty where there is none. */
export interface ParsedAddress {
  readonly name: string;
  readonly address: string;
}

/** A part of a message that is a file, decoded. */
export interface ParsedAttachment {
  readonly filename: string | undefined;
  readonly contentType: string;
  readonly contentId: string | undefined;
  /** `inline` or `attachment`. */
  readonly disposition: string | undefined;
  readonly size: number;
  readonly content: Buffer;
}

/** A message as an independent parser understands it. */
export interface ParsedMail {
  readonly from: readonly ParsedAddress[];
  readonly sender: readonly ParsedAddress[];
  readonly replyTo: readonly ParsedAddress[];
  readonly to: readonly ParsedAddress[];
  readonly cc: readonly ParsedAddress[];
  readonly bcc: readonly ParsedAddress[];
  readonly subject: string;
  readonly messageId: string;
  readonly date: Date | undefined;
  readonly text: string | undefined;
  readonly html: string | undefined;
  readonly attachments: readonly ParsedAttachment[];
  /** Every header line as it stands, in lower case by name; a header may have several. */
  readonly headers: ReadonlyMap<string, readonly string[]>;
}

function addresses(value: AddressObject | AddressObject[] | undefined): ParsedAddress[] {
  return [value ?? []]
    .flat()
    .flatMap((object) => object.value)
    .flatMap((mailbox) => mailbox.group ?? [mailbox])
    .map(({ name, address }) => ({ name, address: address ?? '' }));
}

/** Parses a whole message with mailparser. */
export async function parseMail(raw: Buffer): Promise<ParsedMail> {
  const mail = await simpleParser(raw, {
    skipHtmlToText: true,
    skipTextToHtml: true,
    skipImageLinks: true,
    skipTextLinks: true,
  });
  const headers = new Map<string, string[]>();
  for (const { key, line } of mail.headerLines) {
    headers.set(key, [...(headers.get(key) ?? []), line]);
  }
  const address = (name: string) => addresses(mail.headers.get(name) as AddressObject | undefined);
  return {
    from: address('from'),
    sender: address('sender'),
    replyTo: address('reply-to'),
    to: address('to'),
    cc: address('cc'),
    bcc: address('bcc'),
    subject: mail.subject ?? '',
    messageId: mail.messageId ?? '',
    date: mail.date,
    text: mail.text,
    html: mail.html === false ? undefined : mail.html,
    attachments: mail.attachments.map((attachment) => ({
      filename: attachment.filename,
      contentType: attachment.contentType,
      contentId: attachment.cid,
      disposition: attachment.contentDisposition,
      size: attachment.size,
      content: attachment.content,
    })),
    headers,
  };
}
