export { sendEmailNode } from './dialects/send-email/send-email.ts';
export { type SendEmailSettings, sendEmailSettingsSchema } from './dialects/send-email/settings.ts';
export { type FlowData, type FlowDataInput, flowDataSchema, parseFlowData } from './flow/flow-data.ts';
export { createFlowScope, type FlowScope } from './flow/flow-scope.ts';
export { storeResult } from './flow/result-storage.ts';
export { findNode, listNodes, type NodeDescription } from './list-nodes.ts';
export type {
  FailurePolicy,
  FieldWidget,
  NodeDefinition,
  NodeField,
  NodeOutcome,
  NodeSection,
} from './node.ts';
export { previewNode } from './preview-node.ts';
export { type NodeHost, runNode } from './run-node.ts';
