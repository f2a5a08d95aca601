import { connectionForm, type NodeField, type NodeSection } from '@flowpost/node-adapter';
import { connectionType } from './connection-node.ts';
import { sendSections, sourcesOf, usualSource } from './send-fields.ts';
import { sendType } from './send-node.ts';

const escaped = (text: string): string =>
  text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);

/** Within a script, where `</` would end it. */
const literal = (value: unknown): string => JSON.stringify(value).replaceAll('<', '\\u003c');

/** Fields in which an author chooses where the value is from, as is usual in Node-RED. */
const isTyped = ({ widget }: NodeField): boolean => !['select', 'checkbox', 'number'].includes(widget);

const isLong = ({ widget }: NodeField): boolean => widget === 'multiline' || widget === 'html';

const optionsOf = (options: readonly { readonly value: string; readonly label: string }[]): string =>
  options.map(({ value, label }) => `<option value="${escaped(value)}">${escaped(label)}</option>`).join('');

/** Long texts have a box of their own, because an input takes one line; where a value is from stands above it. */
function longText(field: NodeField, id: string): string {
  const sources = sourcesOf(field).map((type) => ({ value: type, label: labels[type] ?? type }));
  return `<select id="${id}Type">${optionsOf(sources)}</select><textarea id="${id}" rows="5" style="width:100%"></textarea>`;
}

function control(field: NodeField, id: string): string {
  if (field.widget === 'select') {
    const none = field.default === undefined ? [{ value: '', label: '' }] : [];
    return `<select id="${id}">${optionsOf([...none, ...(field.options ?? [])])}</select>`;
  }
  if (field.widget === 'checkbox') return `<input type="checkbox" id="${id}" style="width:auto">`;
  // Also for numbers, which may be written as ${NAME}.
  return `<input type="${field.secret ? 'password' : 'text'}" id="${id}">`;
}

function row(field: NodeField, prefix: string, typed: boolean): string {
  const id = `${prefix}-${field.name}`;
  const source = typed && isTyped(field) && !isLong(field) ? `<input type="hidden" id="${id}Type">` : '';
  const input = typed && isLong(field) ? longText(field, id) : control(field, id);
  const help = field.help === undefined ? '' : `<div class="form-tips">${escaped(field.help)}</div>`;
  return `<div class="form-row" data-field="${field.name}"><label for="${id}">${escaped(field.label)}</label>${input}${source}${help}</div>`;
}

const template = (
  type: string,
  sections: readonly NodeSection[],
  prefix: string,
  typed: boolean,
  first: string,
): string => {
  const parts = sections.map(
    ({ title, fields }) =>
      `<h4>${escaped(title)}</h4>\n${fields.map((field) => row(field, prefix, typed)).join('\n')}`,
  );
  return `<script type="text/html" data-template-name="${type}">\n${first}\n${parts.join('\n')}\n</script>`;
};

const named = (prefix: string): string =>
  `<div class="form-row"><label for="${prefix}-name">Name</label><input type="text" id="${prefix}-name"></div>`;

const empty = ({ widget, default: given }: NodeField): unknown =>
  given ?? (widget === 'checkbox' ? false : '');

/** What each source is called where it is chosen from a list. */
const labels: Readonly<Record<string, string>> = {
  ...{ str: 'text', msg: 'msg.', flow: 'flow.', global: 'global.', json: 'JSON', jsonata: 'JSONata' },
  env: 'environment variable',
};

/** What a flow made by hand, or for an older version, does not say is as in a new node. */
const fillIn = `const defaults = this._def.defaults;
    for (const name of Object.keys(defaults)) {
      const of = name.replace(/Type$/, '');
      if (this[name] !== undefined || defaults[name].value === '' || this[of] !== undefined) continue;
      const input = $(PREFIX + name);
      if (input.is(':checkbox')) input.prop('checked', defaults[name].value);
      else input.val(defaults[name].value);
    }`;

/** What the editor checks as an author types, by the name of a field, as a function of the editor's. */
type Checks = Readonly<Record<string, string>>;

/** Nothing, a number, or the name of an environment variable that has one. */
const isNumber = String.raw`function (value) {
      return /^(?:\s*|\s*[+-]?\d+(?:\.\d+)?\s*|\$\{[^}]*\})$/.test(value ?? '');
    }`;
const isJson = String.raw`function (value) {
      const isObject = (one) => typeof one === 'object' && !Array.isArray(one);
      if (isObject(value) || /^\s*(?:\$\{[^}]*\}\s*)?$/.test(value ?? '')) return true;
      if (($('#node-config-input-kind').val() || this.kind) === 'other') return true;
      try { return isObject(JSON.parse(value)); } catch { return false; }
    }`;
/** A dialog that is open has a kind that the node does not have yet. */
const hasHost = `function (value) {
      const kind = $('#node-config-input-kind').val() || this.kind || 'smtp';
      return kind !== 'smtp' || String(value ?? '').trim() !== '';
    }`;

const numbersOf = (sections: readonly NodeSection[]): Checks =>
  Object.fromEntries(
    sections.flatMap(({ fields }) =>
      fields.flatMap(({ name, widget }) => (widget === 'number' ? [[name, isNumber]] : [])),
    ),
  );

/** The properties of a node, as a script. */
const defaultsScript = (defaults: object, checks: Checks): string =>
  `{\n${Object.entries(defaults)
    .map(([name, one]) => {
      const check = checks[name];
      const checked = check === undefined ? literal(one) : `{ ...${literal(one)}, validate: ${check} }`;
      return `    ${literal(name)}: ${checked}`;
    })
    .join(',\n')}\n  }`;

function sendDefaults(): object {
  const all = sendSections.flatMap(({ fields }) => fields);
  return Object.fromEntries(
    all.flatMap((field) => {
      const usual = usualSource(field.name);
      // Otherwise the editor would not have a field that was left empty.
      const value = [field.name, { value: usual?.value ?? empty(field), required: false }] as const;
      return isTyped(field)
        ? [value, [`${field.name}Type`, { value: usual?.type ?? sourcesOf(field)[0] }] as const]
        : [value];
    }),
  );
}

function connectionScript(): string {
  const all = connectionForm.flatMap(({ fields }) => fields);
  const plain = all.filter(({ secret }) => !secret);
  const defaults = {
    name: { value: '' },
    ...Object.fromEntries(plain.map((field) => [field.name, { value: empty(field) }])),
  };
  const credentials = Object.fromEntries(
    all.filter(({ secret }) => secret).map(({ name }) => [name, { type: 'password' }]),
  );
  const shown = Object.fromEntries(
    all.flatMap(({ name, showWhen }) => (showWhen ? [[name, showWhen.anyOf]] : [])),
  );
  return `RED.nodes.registerType(${literal(connectionType)}, {
  category: 'config',
  defaults: ${defaultsScript(defaults, { ...numbersOf(connectionForm), host: hasHost, tlsOptions: isJson })},
  credentials: ${literal(credentials)},
  label: function () {
    const isSmtp = (this.kind || 'smtp') === 'smtp';
    return this.name || (isSmtp && this.host) || (this.kind === 'microsoft365' ? 'Microsoft 365' : 'mail server');
  },
  oneditprepare: function () {
    ${fillIn.replace('PREFIX', "'#node-config-input-'")}
    const shown = ${literal(shown)};
    const kind = $('#node-config-input-kind');
    const show = function () {
      for (const [name, kinds] of Object.entries(shown))
        $('#node-config-input-' + name).closest('.form-row').toggle(kinds.includes(kind.val()));
    };
    kind.on('change', show);
    show();
  },
});`;
}

function sendScript(): string {
  const all = sendSections.flatMap(({ fields }) => fields).filter(isTyped);
  const typed = all.filter((field) => !isLong(field));
  const long = all.filter(isLong);
  const sources = Object.fromEntries(typed.map((field) => [field.name, sourcesOf(field)]));
  const defaults = {
    name: { value: '' },
    connection: { value: '', type: connectionType, required: true },
    ...sendDefaults(),
  };
  return `RED.nodes.registerType(${literal(sendType)}, {
  category: 'network',
  color: '#87A980',
  icon: 'envelope.svg',
  defaults: ${defaultsScript(defaults, numbersOf(sendSections))},
  inputs: 1,
  outputs: 1,
  align: 'right',
  paletteLabel: 'send email',
  label: function () { return this.name || 'send email'; },
  labelStyle: function () { return this.name ? 'node_label_italic' : ''; },
  oneditprepare: function () {
    ${fillIn.replace('PREFIX', "'#node-input-'")}
    for (const [name, type] of Object.entries(${literal(Object.fromEntries(long.map((field) => [field.name, sourcesOf(field)[0]])))})) {
      const source = $('#node-input-' + name + 'Type');
      if (!source.val()) source.val(type);
    }
    for (const [name, types] of Object.entries(${literal(sources)})) {
      const source = $('#node-input-' + name + 'Type');
      if (source.val() === '') source.val(types[0]);
      $('#node-input-' + name).typedInput({ types, typeField: source });
    }
  },
});`;
}

const help = `<script type="text/markdown" data-help-name="${sendType}">
Sends an e-mail for each message.

### Input
Each field is a text, a property of the message or the flow, JSON, JSONata or an environment variable. A text may hold
[Liquid](https://liquidjs.com) expressions over the message: \`Order {{ msg.payload.id }}\`. As they are, fields take what other
nodes set: \`msg.to\`, \`msg.topic\` as the subject, \`msg.payload\` as the text, \`msg.html\`, \`msg.attachments\`.

### Output
The message, with the receipt in \`msg.email\`: its \`status\` is \`sent\`, \`partial\` (some recipients were refused, each with the
server's reply) or \`duplicate\`.

### Errors
A Catch node gets them. \`msg.error.code\` is stable; \`msg.email.error\` tells more: \`retryable\` when the same message may be sent again
without danger, \`inDoubt\` when the server may have it already, and \`hint\`, which says what to do.
</script>`;

/** The page that the editor loads: the forms of both nodes, made from the same description as every other host's. */
export function editorPage(): string {
  const mailServer = `<div class="form-row"><label for="node-input-connection">Mail server</label><input type="text" id="node-input-connection"></div>`;
  return [
    template(connectionType, connectionForm, 'node-config-input', false, named('node-config-input')),
    template(sendType, sendSections, 'node-input', true, `${named('node-input')}\n${mailServer}`),
    help,
    `<script type="text/javascript">\n${connectionScript()}\n${sendScript()}\n</script>`,
    '',
  ].join('\n');
}
