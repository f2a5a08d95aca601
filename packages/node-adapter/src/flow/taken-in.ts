import { parseMessage } from '@flowpost/core';
import { pinAttachments } from '@flowpost/transport';
import type { PreparedRun } from '../prepare-run.ts';
import type { FlowScope } from './flow-scope.ts';

/** How much of files asynchronous sends may hold in this process, all together, in bytes. */
const mostBytes = 64 * 1024 * 1024;
let heldBytes = 0;

/** A run that is to be sent later, with what it holds in memory until then. */
export interface TakenIn {
  readonly prepared: PreparedRun;
  /** Gives up what it holds. */
  release(): void;
}

/**
 * Attached files as they are when the flow goes on, which may change them or take them away: as much as goes into one message
 * usually, and as there is room for. Others are read when the message is sent.
 *
 * @throws MailError of category `attachment`.
 */
export async function takeIn(
  prepared: PreparedRun,
  { options }: FlowScope,
  signal: AbortSignal | undefined,
): Promise<TakenIn> {
  const { request } = prepared;
  let own = 0;
  const release = (): void => {
    heldBytes -= own;
    own = 0;
  };
  try {
    const attachments = await pinAttachments(request.message.attachments, {
      ...{ attachments: options.attachments, signal, kinds: ['file'] },
      hasRoom: (sizeBytes) => heldBytes + sizeBytes <= mostBytes,
      onRead(sizeBytes) {
        own += sizeBytes;
        heldBytes += sizeBytes;
      },
    });
    if (attachments === request.message.attachments) return { prepared, release };
    const message = parseMessage({ ...request.message, attachments });
    return { prepared: { ...prepared, request: { ...request, message } }, release };
  } catch (error) {
    release();
    throw error;
  }
}
