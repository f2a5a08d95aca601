import { connectionForm } from '@flowpost/node-adapter';
import type { ICredentialType } from 'n8n-workflow';
import { propertyOf } from './form.ts';

export const mailServer = 'flowpostMailServer';

/** A mail server and who logs in, which n8n keeps encrypted and apart from workflows. */
export class FlowpostMailServer implements ICredentialType {
  readonly name = mailServer;
  readonly displayName = 'Flowpost Mail Server';
  readonly icon = 'file:flowpost.svg';
  readonly properties = connectionForm.flatMap(({ fields }) => fields.map(propertyOf));
}
