import { connectionForm } from '@flowpost/node-adapter';
import type { ICredentialType } from 'n8n-workflow';
import { propertyOf } from './form.ts';

/** A mail server and who logs in, which n8n keeps encrypted and apart from workflows. */
export class FlowpostMailServer implements ICredentialType {
  readonly name = 'flowpostMailServer';
  readonly displayName = 'Flowpost Mail Server';
  readonly properties = connectionForm.flatMap(({ fields }) => fields.map(propertyOf));
}
