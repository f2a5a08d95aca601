// What a scope holds, by a name that whoever imports only this package can write.
export type { DuplicateStore } from '@flowpost/core';
export { connectionForm, connectionOfForm } from './connection-form.ts';
export { cognigyNode } from './dialects/cognigy/cognigy.ts';
export { type CognigySettings, cognigySettingsSchema } from './dialects/cognigy/settings.ts';
export { cortexMicrosoft365Node } from './dialects/cortex-m365/cortex-m365.ts';
export {
  type CortexMicrosoft365Settings,
  cortexMicrosoft365SettingsSchema,
} from './dialects/cortex-m365/settings.ts';
export { cortexSmtpNode } from './dialects/cortex-smtp/cortex-smtp.ts';
export { type CortexSmtpSettings, cortexSmtpSettingsSchema } from './dialects/cortex-smtp/settings.ts';
export { diaflowNode } from './dialects/diaflow/diaflow.ts';
export { type DiaflowSettings, diaflowSettingsSchema } from './dialects/diaflow/settings.ts';
export { sendEmailNode } from './dialects/send-email/send-email.ts';
export { type SendEmailSettings, sendEmailSettingsSchema } from './dialects/send-email/settings.ts';
export {
  assertDynamicFields,
  type Dynamic,
  resolveDynamicFields,
} from './dynamic-fields.ts';
export { type DeliveryContext, deliver, withMessageId } from './flow/deliver.ts';
export { type FlowData, type FlowDataInput, flowDataSchema, parseFlowData } from './flow/flow-data.ts';
export { createFlowScope, type FlowScope, type FlowScopeOptions } from './flow/flow-scope.ts';
export { storeResult } from './flow/result-storage.ts';
export { readJsonField } from './json-field.ts';
export type { FieldKind } from './liquid.ts';
export { findNode, listNodes, type NodeDescription } from './list-nodes.ts';
export type {
  FailurePolicy,
  FieldWidget,
  NodeDefinition,
  NodeError,
  NodeField,
  NodeOutcome,
  NodeRequest,
  NodeSection,
  NodeWarning,
  PlatformError,
} from './node.ts';
export { type PreparedRun, type PrepareOptions, prepareRun } from './prepare-run.ts';
export { previewNode, previewRequest } from './preview-node.ts';
export { type BatchHost, type BatchRow, runBatch } from './run-batch.ts';
export { type NodeHost, NodeRun, runNode } from './run-node.ts';
export type { WrittenSettings } from './written-settings.ts';
