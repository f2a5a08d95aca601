import { type Connection, type ConnectionInput, type EmailMessage, parseConnection } from '@flowpost/core';
import type { z } from 'zod';
import type { NodeDefinition } from '../../node.ts';
import { cortexHtmlFields, toEmailMessage } from '../cortex/email-message.ts';
import { describeCortexError } from '../cortex/exceptions.ts';
import { messageField, tlsOptionsField } from '../cortex/sections.ts';
import { platformPolicy } from '../fields.ts';
import { cortexMicrosoft365SettingsSchema } from './settings.ts';

type Settings = z.output<typeof cortexMicrosoft365SettingsSchema>;
type Auth = Extract<ConnectionInput, { kind: 'microsoft365' }>['auth'];

function authOf({ Credentials, TokenEndpointUrl }: Settings, user: string): Auth {
  const common = { user, clientId: Credentials.ClientId, tokenEndpoint: TokenEndpointUrl };
  if ('ClientSecret' in Credentials) {
    return { kind: 'oauth2-client-credentials', ...common, clientSecret: Credentials.ClientSecret };
  }
  const { CertificatePath, CertificatePassword } = Credentials;
  return {
    kind: 'oauth2-certificate',
    ...common,
    assertion: 'entra',
    certificateFile: CertificatePath,
    certificatePassword: CertificatePassword,
  };
}

function connectionOf(settings: Settings, { from }: EmailMessage): Connection {
  const { Credentials, Delivery, GraphBaseUrl, SmtpHost, SmtpPort, TlsOptions } = settings;
  const { TenantId, ObjectId } = Credentials;
  return parseConnection({
    kind: 'microsoft365',
    delivery: Delivery,
    tenantId: TenantId,
    objectId: ObjectId,
    // Over SMTP the login is that of the mailbox the message comes from.
    auth: authOf(settings, from.address),
    graphBaseUrl: GraphBaseUrl,
    host: SmtpHost,
    port: SmtpPort,
    tlsOptions: TlsOptions,
  });
}

/** Cortex's block "Send Email Using Microsoft 365". */
export const cortexMicrosoft365Node: NodeDefinition<typeof cortexMicrosoft365SettingsSchema> = {
  type: 'cortex.send-email-using-microsoft-365',
  title: 'Send Email Using Microsoft 365',
  summary:
    'Sends an e-mail from a mailbox of Microsoft 365, with a token that the variable with the credentials holds.',
  settings: cortexMicrosoft365SettingsSchema,
  sections: [
    {
      title: 'Properties',
      fields: [
        messageField,
        {
          name: 'Credentials',
          label: 'Credentials',
          widget: 'object',
          required: true,
          secret: true,
          default: { ClientId: '', ClientSecret: '', TenantId: '', ObjectId: '' },
          help: 'ClientId, TenantId, ObjectId, and either ClientSecret or CertificatePath and CertificatePassword. Secret and password are encrypted text.',
        },
      ],
    },
    {
      title: 'Delivery',
      fields: [
        {
          name: 'Delivery',
          label: 'Delivery',
          widget: 'select',
          default: 'graph',
          options: [
            { value: 'graph', label: 'Microsoft Graph' },
            { value: 'smtp', label: 'SMTP' },
          ],
        },
        {
          name: 'TokenEndpointUrl',
          label: 'Token endpoint URL',
          widget: 'text',
          help: 'For national clouds.',
        },
        { name: 'GraphBaseUrl', label: 'Graph base URL', widget: 'text', help: 'For national clouds.' },
        { name: 'SmtpHost', label: 'SMTP host', widget: 'text', help: 'Left empty, smtp.office365.com.' },
        { name: 'SmtpPort', label: 'SMTP port', widget: 'number', help: 'Left empty, 587.' },
        tlsOptionsField,
      ],
    },
  ],

  htmlFields: cortexHtmlFields,

  toSendRequest(settings, { variables }) {
    const variable = variables.get('Credentials');
    const message = toEmailMessage(settings.EmailMessage);
    return {
      connection: connectionOf(settings, message),
      message,
      // The platform closes the connection after each message; only the token is kept.
      policy: platformPolicy({ closeSession: true }),
      session: variable === undefined ? 'unshared' : { variable },
    };
  },

  describeError: (error) => describeCortexError(error, 'microsoft365'),
};
