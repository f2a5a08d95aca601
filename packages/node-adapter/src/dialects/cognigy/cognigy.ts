import {
  type AttachmentInput,
  type Connection,
  type ConnectionInput,
  EncryptedText,
  MailError,
  parseConnection,
  parseMessage,
  type StoreResult,
  storeResultSchema,
  type TlsMode,
} from '@flowpost/core';
import { findService, tokenEndpointAt } from '@flowpost/transport';
import type { z } from 'zod';
import type { NodeDefinition, NodeWarning } from '../../node.ts';
import { asFlag, platformPolicy } from '../fields.ts';
import { cognigySections } from './sections.ts';
import { cognigySettingsSchema, formDefaults, storeTarget } from './settings.ts';
import { diagnose } from './troubleshooting.ts';

type Settings = z.output<typeof cognigySettingsSchema>;
type Authentication = NonNullable<Settings['authentication']>;

const isOther = (service: string): boolean =>
  /^other(?:smtpservice)?$/.test(service.toLowerCase().replace(/[^a-z]/g, ''));

const startTlsPorts: readonly number[] = [25, 587, 2525];

/** Where the connection form of "OAuth2" says how to encrypt, it counts; elsewhere the SMTP settings do. */
function tlsMode({ smtpSettings, authentication }: Settings): TlsMode {
  const { secure, port } = smtpSettings ?? {};
  if (authentication?.type === 'oauth2' && authentication.tlsOption !== undefined) {
    return ({ tls: 'implicit', starttls: 'starttls', none: 'none' } as const)[authentication.tlsOption];
  }
  if (secure !== undefined) return secure ? 'implicit' : 'starttls-if-offered';
  // The form's default is TLS; the ports that speak STARTTLS are known.
  return authentication?.type === 'oauth2' && !startTlsPorts.includes(port ?? 0) ? 'implicit' : 'auto';
}

/** @param host of the mail server, which says who issued a refresh token unless its connection does. */
function authOf(
  authentication: Authentication | undefined,
  host: string,
): Extract<ConnectionInput, object>['auth'] {
  switch (authentication?.type) {
    case undefined:
      return undefined;
    case 'basic':
      return { kind: 'basic', username: authentication.username, password: authentication.password };
    case 'oauth2-client-credentials': {
      const { user, clientId, clientSecret, scope, tokenEndpointUrl } = authentication;
      return {
        kind: 'oauth2-client-credentials',
        user,
        clientId,
        clientSecret,
        scope,
        tokenEndpoint: tokenEndpointUrl,
      };
    }
    case 'oauth2': {
      const { user, clientId, clientSecret, accessToken, refreshToken, expiryDate, accessUrl } =
        authentication;
      return {
        kind: 'oauth2-refresh',
        ...{ user, clientId, clientSecret, accessToken, refreshToken },
        expiresAt: expiryDate,
        tokenEndpoint: accessUrl ?? tokenEndpointAt(host) ?? formDefaults.accessUrl,
      };
    }
  }
}

function connectionOf(settings: Settings): Connection {
  const { emailService, smtpSettings, tlsOptions, allowPlaintextAuth } = settings;
  const fixed = { kind: 'smtp', tlsOptions, allowPlaintextAuth } as const;
  if (!isOther(emailService)) {
    const auth = authOf(settings.authentication, findService(emailService).host);
    return parseConnection({ ...fixed, auth, service: emailService });
  }
  if (!smtpSettings) {
    throw new MailError('INPUT_INVALID', 'smtpSettings: host and port are needed for "Other SMTP Service".', {
      details: { issues: [{ path: 'smtpSettings', message: 'it is missing' }] },
    });
  }
  const { host, port } = smtpSettings;
  const auth = authOf(settings.authentication, host);
  return parseConnection({ ...fixed, auth, host, port, tls: tlsMode(settings) });
}

/** The custom From, or whoever logs in. */
function fromOf({ customFrom, authentication }: Settings): string | { name?: string; address: string } {
  if (customFrom) return customFrom;
  const user = authentication?.type === 'basic' ? authentication.username : authentication?.user;
  if (typeof user === 'string' && user.includes('@')) return user;
  if (!authentication) {
    const path = 'authentication';
    const message = 'choose a connection to log in with; for a server without a login, set customFrom';
    throw new MailError('INPUT_INVALID', `${path}: ${message}.`, {
      details: { issues: [{ path, message }] },
    });
  }
  const why = user instanceof EncryptedText ? 'the user is encrypted' : 'the user who logs in is no address';
  throw new MailError('INPUT_INVALID', `customFrom: it is needed, because ${why}.`, {
    details: { issues: [{ path: 'customFrom', message: `it is needed, because ${why}` }] },
  });
}

function attachmentsOf({ attachments = [] }: Settings): AttachmentInput[] {
  return attachments.flatMap((attachment): AttachmentInput[] => {
    if (attachment.type === 'none') return [];
    const { type: kind, ...rest } = attachment;
    return [{ kind, ...rest } as AttachmentInput];
  });
}

function storeOf({ storeResult, inputKey, contextKey }: Record<string, unknown>): StoreResult | undefined {
  const target = storeTarget.safeParse(storeResult).data;
  const key = target === 'input' ? inputKey : contextKey;
  const place = storeResultSchema.safeParse({ target, key });
  return place.success ? place.data : undefined;
}

const deprecated: NodeWarning = {
  code: 'DEPRECATED_OAUTH2',
  message:
    'The authentication method "oauth2" (refresh token) is deprecated. Use "oauth2-client-credentials" instead: it needs no refresh token and no person to sign in again.',
};

/** Cognigy's "Send SMTP Email" node. */
export const cognigyNode: NodeDefinition<typeof cognigySettingsSchema> = {
  type: 'cognigy.send-smtp-email',
  title: 'Send SMTP Email',
  summary: 'Sends an e-mail over SMTP, as the node of this name in Cognigy.AI does.',
  settings: cognigySettingsSchema,
  sections: cognigySections,

  toSendRequest(settings) {
    const { to, cc, bcc, replyTo, subject, content, customText, priority } = settings;
    return {
      connection: connectionOf(settings),
      message: parseMessage({
        ...{ from: fromOf(settings), to, cc, bcc, replyTo, subject, priority },
        ...(content !== '' && { html: content }),
        ...(customText !== undefined && { text: customText }),
        attachments: attachmentsOf(settings),
      }),
      policy: platformPolicy({
        stopOnError: settings.stopOnError,
        async: settings.async,
        store: storeOf(settings),
      }),
    };
  },

  failurePolicy: {
    reads: ['stopOnError', 'storeResult', 'inputKey', 'contextKey'],
    of: (settings) => ({ stopOnError: asFlag(settings.stopOnError) === true, store: storeOf(settings) }),
  },

  describeError: (error, settings) => ({ ...error.toJSON(), ...diagnose(error, settings) }),

  warnings: ({ authentication }) => (authentication?.type === 'oauth2' ? [deprecated] : []),
};
