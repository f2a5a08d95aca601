import type { MailError, MailErrorJson, SendPolicy, SendReceipt, SendRequest } from '@flowpost/core';
import type { z } from 'zod';
import type { FlowData } from './flow/flow-data.ts';
import type { WrittenSettings } from './written-settings.ts';

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
  | 'service'
  | 'attachments'
  | 'headers'
  | 'object';

/** One field of the form a node's settings are edited with. */
export interface NodeField {
  /** The key in the settings; a path with dots for one inside an object. */
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
  /** Shown only while another field has one of these values. */
  readonly showWhen?: { readonly field: string; readonly anyOf: readonly unknown[] };
}

/** A part of the form of a node: fields under one heading. */
export interface NodeSection {
  readonly title: string;
  readonly fields: readonly NodeField[];
}

/** What decides how a failure ends, readable even from settings that are otherwise wrong. */
export type FailurePolicy = Pick<SendPolicy, 'stopOnError' | 'store'>;

/** A request, and whom its session belongs to: everybody who uses the connection, a variable of the flow, or it alone. */
export interface NodeRequest extends SendRequest {
  readonly session?: 'unshared' | { readonly variable: string } | undefined;
}

/** An error under the name the platform has for it. */
export interface PlatformError {
  /** The exception's or the problem's name. */
  readonly name: string;
  readonly category?: string;
  /** The number within the category, such as 300, and its name. */
  readonly number?: number;
  readonly numberName?: string;
  /** Which property of the settings, where it is about one. */
  readonly property?: string;
  readonly message: string;
  readonly cause?: string;
  readonly solution?: string;
  readonly helpLink?: string;
}

/** A failure as the flow sees it: ours, and under the platform's name where it has one. */
export interface NodeError extends MailErrorJson {
  readonly platform?: PlatformError;
}

/** What works and should be changed all the same. */
export interface NodeWarning {
  readonly code: string;
  readonly message: string;
}

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
  /**
   * @param written the settings before expressions were worked out.
   * @throws MailError when settings and flow data do not make a request.
   */
  toSendRequest(settings: z.output<Settings>, written: WrittenSettings): NodeRequest;
  /**
   * Paths of settings that hold HTML, beside those whose widget says so.
   *
   * @param written the settings before expressions were worked out.
   * @param workOut works out those of some settings on which that depends.
   */
  htmlFields?(written: unknown, workOut: <Some>(some: Some) => Some): readonly string[];
  /** How a failure ends. Default: the flow stops. */
  readonly failurePolicy?: {
    /** The settings that decide; whatever else is wrong, these are worked out. */
    readonly reads: readonly string[];
    /** For these settings, checked or not. */
    of(settings: Readonly<Record<string, unknown>>): FailurePolicy;
  };
  /** The error in the words of the platform. */
  describeError(error: MailError, settings?: unknown): NodeError;
  /** What to change about settings that work. */
  warnings?(settings: z.output<Settings>): readonly NodeWarning[];
}

interface Ended {
  /** The flow's data with the result where it was to be stored. */
  readonly flow: FlowData;
  readonly warnings?: readonly NodeWarning[];
}

/** How a node ended. `halt` stops the flow; an error with `continue` is for the flow to look at. */
export type NodeOutcome =
  | (Ended & { readonly kind: 'continue'; readonly receipt: SendReceipt })
  | (Ended & { readonly kind: 'continue' | 'halt'; readonly error: NodeError });
