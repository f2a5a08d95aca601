import { cognigyNode, type NodeField, readJsonField } from '@flowpost/node-adapter';
import { connectionKeys, keyOf } from './form.ts';

type Config = Readonly<Record<string, unknown>>;

const fields = cognigyNode.sections.flatMap((section) => section.fields);

/** A field that the form hides keeps what was in it before. */
const isShown = ({ showWhen }: NodeField, config: Config): boolean =>
  showWhen === undefined || showWhen.anyOf.includes(config[keyOf(showWhen.field)]);

function valueIn({ name, widget }: NodeField, config: Config): unknown {
  const value = config[keyOf(name)];
  if (widget === 'object') return readJsonField(value);
  if (widget !== 'attachments') return value;
  const list = readJsonField(value);
  return typeof list === 'object' && list !== null ? [list].flat() : list;
}

/** The settings of the node out of the flat values of the form. */
export function settingsOf(config: Config): Record<string, unknown> {
  const settings: Record<string, unknown> = {};
  for (const field of fields) {
    const value = isShown(field, config) ? valueIn(field, config) : undefined;
    if (value === undefined) continue;
    const [first = '', second] = field.name.split('.');
    if (second === undefined) settings[first] = value;
    else settings[first] = { ...(settings[first] as object | undefined), [second]: value };
  }
  const type = String(config[keyOf('authentication.type')]);
  const connection = config[connectionKeys[type] ?? ''];
  settings.authentication =
    typeof connection === 'object' && connection !== null ? { ...connection, type } : undefined;
  return settings;
}
