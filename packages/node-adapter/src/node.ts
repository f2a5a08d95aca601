import type { MailError, MailErrorJson, SendPolicy, SendReceipt, SendRequest } from '@flowpost/core';
import type { z } from 'zod';
import type { FlowData } from './flow/flow-data.ts';

/** How a field is edited. Hosts map these to the widgets they have. */
export type FieldWidget =
  | 'text'
  | 'multiline'
  | 'html'
  | 'number'
  | 'checkbox'
  | 'select'
  | 'addresses'
  | 'connection'
  | 'attachments'
  | 'headers'
  | 'object';

/** One field of the form a node's settings are edited with. */
export interface NodeField {
  /** The key in the settings. */
  readonly name: string;
  readonly label: string;
  readonly widget: FieldWidget;
  readonly help?: string;
  readonly required?: boolean;
  /** Shown as dots and never given back to a form. */
  readonly secret?: boolean;
  readonly default?: unknown;
  /** For `select`. */
  readonly options?: readonly { readonly value: string; readonly label: string }[];
  /** Shown only while another field has this value. */
  readonly showWhen?: { readonly field: string; readonly equals: unknown };
}

export interface NodeSection {
  readonly title: string;
  readonly fields: readonly NodeField[];
}

/** What decides how a failure ends, readable even from settings that are otherwise wrong. */
export type FailurePolicy = Pick<SendPolicy, 'stopOnError' | 'store'>;

/**
 * One kind of step: its settings, its form, and the pure mapping of settings and flow data onto a request. It
 * delivers nothing itself.
 */
export interface NodeDefinition<Settings extends z.ZodType = z.ZodType> {
  /** Unique, such as `send-email`. */
  readonly type: string;
  readonly title: string;
  /** One sentence. */
  readonly summary: string;
  readonly settings: Settings;
  readonly sections: readonly NodeSection[];
  /** @throws MailError when settings and flow data do not make a request. */
  toSendRequest(settings: z.output<Settings>, flow: FlowData): SendRequest;
  /** How a failure ends for these settings, checked or not. */
  failurePolicy(settings: unknown): FailurePolicy;
  /** The error in the words of the platform. */
  describeError(error: MailError): MailErrorJson;
}

/** How a node ended. `halt` stops the flow; an error with `continue` is for the flow to look at. */
export type NodeOutcome =
  | { readonly kind: 'continue'; readonly receipt: SendReceipt; readonly flow: FlowData }
  | { readonly kind: 'continue' | 'halt'; readonly error: MailErrorJson; readonly flow: FlowData };
