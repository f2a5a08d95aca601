import { type Connection, parseConnection } from '@flowpost/core';
import type { z } from 'zod';
import type { NodeDefinition } from '../../node.ts';
import { cortexHtmlFields, toEmailMessage } from '../cortex/email-message.ts';
import { describeCortexError } from '../cortex/exceptions.ts';
import { messageField, tlsOptionsField } from '../cortex/sections.ts';
import { platformPolicy } from '../fields.ts';
import { cortexSmtpSettingsSchema } from './settings.ts';

function connectionOf(settings: z.output<typeof cortexSmtpSettingsSchema>): Connection {
  const { ServerDetails, Credentials } = settings.BasicEmailSessionDetails;
  const { Host, Port, UseSsl } = ServerDetails;
  const auth = Credentials && {
    kind: 'basic' as const,
    username: Credentials.Username,
    password: Credentials.Password,
  };
  const tls = UseSsl ? 'implicit' : 'starttls-if-offered';
  const { TlsOptions: tlsOptions, AllowPlaintextAuth: allowPlaintextAuth } = settings;
  return parseConnection({ kind: 'smtp', host: Host, port: Port, tls, auth, tlsOptions, allowPlaintextAuth });
}

/** Cortex's block "Send Email Using SMTP Server". */
export const cortexSmtpNode: NodeDefinition<typeof cortexSmtpSettingsSchema> = {
  type: 'cortex.send-email-using-smtp-server',
  title: 'Send Email Using SMTP Server',
  summary:
    'Sends an e-mail using the given SMTP server, over a session that the variable with its details holds.',
  settings: cortexSmtpSettingsSchema,
  sections: [
    {
      title: 'Properties',
      fields: [
        messageField,
        {
          name: 'BasicEmailSessionDetails',
          label: 'Basic Email Session Details',
          widget: 'object',
          required: true,
          secret: true,
          help: 'A variable with ServerDetails (Host, Port, UseSsl) and Credentials (Username, Password). The password is encrypted text.',
        },
        {
          name: 'CloseSession',
          label: 'Close Session',
          widget: 'checkbox',
          default: true,
          help: 'Left blank, the session stays open for later blocks with the same variable.',
        },
        tlsOptionsField,
        {
          name: 'AllowPlaintextAuth',
          label: 'Send credentials in clear',
          widget: 'checkbox',
          default: false,
          help: 'Only for a server that offers no TLS in a network that is safe.',
        },
      ],
    },
  ],

  htmlFields: cortexHtmlFields,

  toSendRequest(settings, { variables }) {
    const variable = variables.get('BasicEmailSessionDetails');
    return {
      connection: connectionOf(settings),
      message: toEmailMessage(settings.EmailMessage),
      policy: platformPolicy({ closeSession: settings.CloseSession }),
      session: variable === undefined ? 'unshared' : { variable },
    };
  },

  // An exception stops a flow of this platform, unless the flow itself catches it.
  describeError: (error) => describeCortexError(error, 'smtp'),
};
