import type { NodeSection } from '../../node.ts';
import { formDefaults } from './settings.ts';

const other = { field: 'emailService', anyOf: ['other'] };
const auth = (...types: string[]) => ({ showWhen: { field: 'authentication.type', anyOf: types } });
const clientCredentials = auth('oauth2-client-credentials');
const refresh = auth('oauth2');
const oauth2 = auth('oauth2-client-credentials', 'oauth2');
const basic = auth('basic');

/** The form of Cognigy's "Send SMTP Email" node. */
export const cognigySections: readonly NodeSection[] = [
  {
    title: 'Email service',
    fields: [
      {
        name: 'emailService',
        label: 'Email service',
        widget: 'service',
        required: true,
        help: 'A known service by name, or "other" for any SMTP server.',
      },
      { name: 'smtpSettings.host', label: 'Host', widget: 'text', required: true, showWhen: other },
      { name: 'smtpSettings.port', label: 'Port', widget: 'number', default: 587, showWhen: other },
      {
        name: 'smtpSettings.secure',
        label: 'TLS from the first byte',
        widget: 'checkbox',
        showWhen: other,
        help: 'On for port 465. Off for STARTTLS.',
      },
      {
        name: 'tlsOptions',
        label: 'TLS options',
        widget: 'object',
        help: 'A private authority, or a pinned certificate.',
      },
      {
        name: 'allowPlaintextAuth',
        label: 'Send credentials in clear',
        widget: 'checkbox',
        default: false,
        help: 'Only for a server that offers no TLS in a network that is safe.',
      },
      { name: 'to', label: 'Recipients', widget: 'addresses', help: 'Separated by commas.' },
      { name: 'subject', label: 'Subject', widget: 'text' },
      { name: 'content', label: 'Content', widget: 'html' },
    ],
  },
  {
    title: 'Authentication',
    fields: [
      {
        name: 'authentication.type',
        label: 'Authentication method',
        widget: 'select',
        default: 'oauth2-client-credentials',
        options: [
          { value: 'oauth2-client-credentials', label: 'OAuth2 Client Credentials (recommended)' },
          { value: 'oauth2', label: 'OAuth2 (deprecated)' },
          { value: 'basic', label: 'Basic Auth' },
        ],
      },
      { name: 'authentication.connectionName', label: 'Connection name', widget: 'text' },
      {
        name: 'authentication.tokenEndpointUrl',
        label: 'Token endpoint URL',
        widget: 'text',
        required: true,
        ...clientCredentials,
      },
      {
        name: 'authentication.user',
        label: 'User',
        widget: 'text',
        required: true,
        help: 'The address the mail comes from.',
        ...oauth2,
      },
      { name: 'authentication.clientId', label: 'Client ID', widget: 'text', ...oauth2 },
      {
        name: 'authentication.clientSecret',
        label: 'Client secret',
        widget: 'text',
        secret: true,
        ...oauth2,
      },
      {
        name: 'authentication.scope',
        label: 'Scope',
        widget: 'text',
        help: 'For Microsoft 365 https://outlook.office365.com/.default',
        ...clientCredentials,
      },
      {
        name: 'authentication.accessToken',
        label: 'Access token',
        widget: 'text',
        secret: true,
        help: 'Needed without a refresh token.',
        ...refresh,
      },
      {
        name: 'authentication.refreshToken',
        label: 'Refresh token',
        widget: 'text',
        secret: true,
        ...refresh,
      },
      {
        name: 'authentication.expiryDate',
        label: 'Expiry of the access token',
        widget: 'number',
        help: 'Unix time in milliseconds.',
        ...refresh,
      },
      {
        name: 'authentication.accessUrl',
        label: 'Access URL',
        widget: 'text',
        default: formDefaults.accessUrl,
        ...refresh,
      },
      {
        name: 'authentication.tlsOption',
        label: 'TLS',
        widget: 'select',
        default: formDefaults.tlsOption,
        options: [
          { value: 'tls', label: 'TLS from the first byte (port 465)' },
          { value: 'starttls', label: 'STARTTLS (port 587 or 25)' },
          { value: 'none', label: 'None' },
        ],
        ...refresh,
      },
      { name: 'authentication.username', label: 'User name', widget: 'text', required: true, ...basic },
      {
        name: 'authentication.password',
        label: 'Password',
        widget: 'text',
        required: true,
        secret: true,
        ...basic,
      },
    ],
  },
  {
    title: 'Attachments',
    fields: [
      {
        name: 'attachments',
        label: 'Attachments',
        widget: 'attachments',
        help: 'From a URL, text, Base64, custom content with a media type of its own, or a MIME node given whole.',
      },
    ],
  },
  {
    title: 'Result storage and errors',
    fields: [
      {
        name: 'storeResult',
        label: 'Store the result',
        widget: 'select',
        default: 'none',
        options: [
          { value: 'none', label: "Don't store the result" },
          { value: 'input', label: 'Input' },
          { value: 'context', label: 'Context' },
        ],
      },
      {
        name: 'inputKey',
        label: 'Input key',
        widget: 'text',
        showWhen: { field: 'storeResult', anyOf: ['input'] },
      },
      {
        name: 'contextKey',
        label: 'Context key',
        widget: 'text',
        showWhen: { field: 'storeResult', anyOf: ['context'] },
      },
      { name: 'stopOnError', label: 'Stop on error', widget: 'checkbox', default: false },
    ],
  },
  {
    title: 'Advanced',
    fields: [
      {
        name: 'customFrom',
        label: 'Custom From address',
        widget: 'addresses',
        help: 'Left empty, the user who logs in.',
      },
      { name: 'cc', label: 'Cc', widget: 'addresses' },
      { name: 'bcc', label: 'Bcc', widget: 'addresses' },
      { name: 'replyTo', label: 'Reply to', widget: 'addresses' },
      {
        name: 'customText',
        label: 'Custom plain text',
        widget: 'multiline',
        help: 'Left empty, made from the content.',
      },
      {
        name: 'priority',
        label: 'Priority',
        widget: 'select',
        default: 'normal',
        options: [
          { value: 'high', label: 'High' },
          { value: 'normal', label: 'Normal' },
          { value: 'low', label: 'Low' },
        ],
      },
      {
        name: 'async',
        label: 'Execute asynchronously',
        widget: 'checkbox',
        default: false,
        help: 'The flow goes on at once.',
      },
    ],
  },
];
