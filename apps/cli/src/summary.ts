import { buffer } from 'node:stream/consumers';
import { listServices, type previewMessage } from '@flowpost/transport';
import { type MimePart, readMimeTree } from './mime-tree.ts';
import { size } from './size.ts';

type Preview = Awaited<ReturnType<typeof previewMessage>>;

/** The bytes of a preview, whether they stream or not. */
export const bytesOf = async ({ body }: Preview): Promise<Buffer> =>
  Buffer.isBuffer(body) ? body : buffer(body);

function* treeLines(part: MimePart, indent: string, branch: string): Generator<string> {
  const { contentType, filename, contentId, disposition, encoding, bytes, parts } = part;
  const more = [
    ...(parts.length > 0 ? [] : [encoding ?? '7bit']),
    ...(disposition ? [disposition] : []),
    ...(filename ? [filename] : []),
    ...(contentId ? [`cid:${contentId.replace(/^<|>$/g, '')}`] : []),
  ];
  yield `${indent}${branch}${contentType}  ${size(bytes)}${more.length > 0 ? `  ${more.join(', ')}` : ''}`;
  const inner = branch === '' ? indent : `${indent}${branch.startsWith('└') ? '   ' : '│  '}`;
  for (const [index, one] of parts.entries()) {
    yield* treeLines(one, inner, index === parts.length - 1 ? '└─ ' : '├─ ');
  }
}

/** Who would not take it, as far as is known. */
function refusingServices(bytes: number, recipients: number): { service: string; why: string }[] {
  return listServices().flatMap(({ name, profile }) => {
    const { messageBytes, recipientsPerMessage } = profile;
    const why = [
      ...(messageBytes !== undefined && bytes > messageBytes
        ? [`takes ${size(messageBytes)} a message`]
        : []),
      ...(recipientsPerMessage !== undefined && recipients > recipientsPerMessage
        ? [`takes ${recipientsPerMessage} recipients a message`]
        : []),
    ];
    return why.length > 0 ? [{ service: name, why: why.join(' and ') }] : [];
  });
}

/** What a preview is made of, for programs. */
export async function summaryOf(preview: Preview) {
  const bytes = await bytesOf(preview);
  const { headers, ...structure } = readMimeTree(bytes);
  const { from, to } = preview.envelope;
  return {
    envelope: { from, to },
    messageId: preview.messageId,
    sizeBytes: bytes.length,
    headers,
    structure,
    refusedBy: refusingServices(bytes.length, to.length),
  };
}

/** What a preview is made of, for people. */
export async function summarize(preview: Preview): Promise<string> {
  const { envelope, headers, structure, sizeBytes, refusedBy } = await summaryOf(preview);
  const width = Math.max(...headers.map(([name]) => name.length));
  const recipients = envelope.to.length;
  return [
    `Envelope   from ${envelope.from || '<>'} to ${envelope.to.slice(0, 10).join(', ')}${recipients > 10 ? ` and ${recipients - 10} more` : ''}`,
    `Size       ${size(sizeBytes)} (${sizeBytes} bytes)`,
    '',
    ...headers.map(([name, value]) => `${name.padEnd(width)}  ${value}`),
    '',
    ...treeLines({ ...structure, bytes: sizeBytes }, '', ''),
    '',
    ...(refusedBy.length === 0
      ? ['Every known service takes a message of this size with so many recipients.']
      : refusedBy.map(({ service, why }) => `Too much for ${service}: it ${why}.`)),
    '',
  ].join('\n');
}
