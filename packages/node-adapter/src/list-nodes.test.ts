import { expect, it } from 'vitest';
import { sendEmailNode } from './dialects/send-email/send-email.ts';
import { sendEmailSettingsSchema } from './dialects/send-email/settings.ts';
import { findNode, listNodes } from './list-nodes.ts';

it('finds nodes by type, and names the known ones otherwise', () => {
  expect(findNode('send-email')).toBe(sendEmailNode);
  expect(() => findNode('send-fax')).toThrowError(
    expect.objectContaining({
      code: 'NODE_TYPE_UNKNOWN',
      details: { type: 'send-fax', known: ['send-email'] },
    }),
  );
});

it('every setting has a field in the form, and every field is a setting', () => {
  const fields = sendEmailNode.sections.flatMap((section) => section.fields.map(({ name }) => name));
  expect(fields.toSorted()).toEqual(Object.keys(sendEmailSettingsSchema.shape).toSorted());
  expect(new Set(fields).size).toBe(fields.length);
});

it('describes every node with a JSON Schema that survives JSON', () => {
  const [node] = JSON.parse(JSON.stringify(listNodes()));
  expect(node).toMatchObject({
    type: 'send-email',
    settingsSchema: { type: 'object', additionalProperties: false },
  });
  expect(node.settingsSchema.properties.priority).toMatchObject({
    enum: ['high', 'normal', 'low'],
    default: 'normal',
  });
});
