import type { CommandSpec } from './command-line.ts';

const connection = {
  type: 'string',
  value: 'URL|FILE|@NAME',
  about:
    'the server; else that of FILE or template, else FLOWPOST_CONNECTION, else the default of the configuration',
} as const;
const text = (about: string, value = 'TEXT') => ({ type: 'string', value, about }) as const;
const list = (about: string, value = 'ADDRESS') =>
  ({ type: 'string', multiple: true, value, about }) as const;

/** Nothing a URL leads to is private, but for these. */
const allowHost = list(
  'a private host that attachment URLs may lead to; with a port, which need not be 80 or 443, there alone',
  'HOST[:PORT]',
);

/** Nothing a file says is read from anywhere on this machine. */
const files = list('where attachments may come from, besides the folder of FILE and this one', 'FOLDER');

const message = {
  connection,
  from: text('who it is from; else the From address of the connection', 'ADDRESS'),
  to: list('recipients; several with commas'),
  cc: list('recipients of a copy'),
  bcc: list('recipients nobody else sees'),
  'reply-to': list('where answers go'),
  subject: text('the subject'),
  text: text('the text; @FILE reads a file, @- standard input', 'TEXT|@FILE|@-'),
  html: text('the text as HTML', 'HTML|@FILE|@-'),
  attach: list('a path, an https:// URL or a data: URL', 'SOURCE'),
  inline: list('a picture that HTML shows as cid:CID', 'CID=SOURCE'),
  priority: { type: 'string', choices: ['high', 'normal', 'low'], about: 'how urgent it is' },
  'allow-host': allowHost,
  header: list('a header of your own', "'NAME: VALUE'"),
  set: list(
    'any other setting of the send-email node, such as retry.attempts=5 or timeoutMs=20000',
    'SETTING=VALUE',
  ),
} as const;

export const sendSpec = {
  about: 'sends one message, and says what became of it',
  options: message,
  notes: `The outcome is the exit code: 0 sent, 75 try again later, 76 in doubt (the server may have the message), see flowpost --help.
Ctrl-C stops it, and says whether the message may have left.`,
  examples: [
    [
      'through a server with TLS and a login',
      'flowpost send --connection smtps://me%40example.com:PASSWORD@smtp.example.com --from me@example.com --to ann@example.com --subject Hi --text Hello',
    ],
    [
      'a report from a pipe, with a file, over a connection of the configuration',
      'make report | flowpost send --connection @work --to team@example.com --subject Report --text @- --attach report.pdf',
    ],
    [
      'a picture in HTML',
      'flowpost send --connection @work --to ann@example.com --subject Logo --html \'<img src="cid:logo">\' --inline logo=logo.png',
    ],
  ],
} as const satisfies CommandSpec;

export const runSpec = {
  about: 'runs one node of a workflow, and prints its outcome and the data of the flow',
  operands: 'FILE',
  options: {
    connection,
    flow: text('the data of the flow; else what FILE holds', 'FILE'),
    files,
    'allow-host': allowHost,
    watch: { type: 'boolean', about: 'whenever a file changes, show what would be sent; nothing is sent' },
  },
  notes:
    'FILE holds { "node": TYPE, "settings": {...}, "flow": { "input", "context", "variables", "trigger" } }.',
  examples: [
    ['the step of an example', 'flowpost run examples/hello.json'],
    ['the same step with other data', 'flowpost run step.json --flow customer.json --json'],
    ['while you write it', 'flowpost run step.json --watch'],
  ],
} as const satisfies CommandSpec;

export const batchSpec = {
  about: 'sends one message for each row of a table',
  options: {
    connection,
    template: text(
      'the message: YAML settings between --- lines, then its text, both with {{ row.COLUMN }}',
      'FILE',
    ),
    rows: text('CSV with a header line, or NDJSON; - is standard input', 'FILE|-'),
    format: {
      type: 'string',
      choices: ['csv', 'ndjson'],
      about: 'of the rows, when the name does not say it; else csv',
    },
    results: text(
      'where each row is written down as it ends (default ROWS.results.ndjson; to be given where ROWS is no file)',
      'FILE',
    ),
    resume: { type: 'boolean', about: 'go on where an earlier run ended; no row is sent twice' },
    'retry-failed': { type: 'boolean', about: 'with --resume: try rows again that were refused for good' },
    'retry-in-doubt': {
      type: 'boolean',
      about: 'with --resume: send rows again that may have been sent; whoever got one gets another',
    },
    files: list('where attachments may come from, besides the folder of the template and this one', 'FOLDER'),
    'allow-host': allowHost,
    concurrency: { ...text('messages under way at once', 'N'), default: '20' },
    rate: text('at most so many messages: 100/s, 1000/min or 5000/h', 'N/UNIT'),
    limit: text('only so many rows, from where it starts', 'N'),
    'dry-run': { type: 'boolean', about: 'compose every message and send none' },
  },
  notes: `The template's settings are those of the send-email node; a file whose name ends in .html or .htm has an HTML text.
RESULTS.journal says what was about to be sent. After a crash --resume needs both: rows that may have been sent are listed as in
doubt and not sent again, rows that were not sent are, those that were not tried yet first. When a server cannot be reached, or five
rows one after another are lost on the way, the batch stops. Ctrl-C finishes what is leaving, and leaves the rest for --resume.`,
  examples: [
    ['see what would be sent', 'flowpost batch --template letter.html --rows people.csv --dry-run'],
    ['send it', 'flowpost batch --connection @work --template letter.html --rows people.csv --rate 30/min'],
    [
      'go on after a crash',
      'flowpost batch --connection @work --template letter.html --rows people.csv --rate 30/min --resume',
    ],
  ],
} as const satisfies CommandSpec;

export const previewSpec = {
  about: 'prints the exact bytes that send or run would send; nothing is sent',
  operands: '[FILE]',
  options: {
    ...message,
    flow: text('with FILE: the data of the flow', 'FILE'),
    files: { ...files, about: `with FILE: ${files.about}` },
    summary: { type: 'boolean', about: 'structure, sizes and headers instead, and what limits say' },
    'html-out': text('write the HTML text to a file, pictures included, for a browser', 'FILE'),
  },
  examples: [
    [
      'what a send would send',
      'flowpost preview --from a@example.com --to b@example.com --subject Hi --text Hello',
    ],
    ['what a step would send', 'flowpost preview step.json --summary'],
    ['how it looks', 'flowpost preview step.json --html-out out.html'],
  ],
} as const satisfies CommandSpec;

export const verifySpec = {
  about: 'walks the way to a server step by step: what is wrong, and how to mend it; nothing is sent',
  options: { connection },
  examples: [
    ['a connection of the configuration', 'flowpost verify --connection @work'],
    ['a URL, for a script', 'flowpost verify --connection smtp://smtp.example.com:587 --json'],
  ],
} as const satisfies CommandSpec;

export const servicesSpec = {
  about: 'lists known mail services, and what they allow',
  operands: '[NAME]',
  options: {},
  examples: [
    ['all of them', 'flowpost services'],
    ['one', "flowpost services 'Microsoft 365'"],
  ],
} as const satisfies CommandSpec;

export const catchSpec = {
  about: 'a mail server on this machine that keeps what it gets, for trying things out',
  options: {
    port: { ...text('where it listens; 0 is any free port', 'N'), default: '2525' },
    dir: text('keep each message as a file in this folder', 'FOLDER'),
    tls: { type: 'string', choices: ['starttls', 'implicit'], about: 'with a certificate made for this run' },
    'ca-out': text(
      'with --tls: write the authority that signed it to a file, for ?caFile=FILE in a URL, tlsOptions.caFile in a file',
      'FILE',
    ),
    user: list('who may log in; without it nobody has to', 'NAME:PASSWORD'),
    refuse: list('refuse at connect, auth, mail, rcpt or message', 'STAGE:CODE[:TEXT]'),
    fault: text(
      'break off at greeting, ehlo, starttls, handshake, auth, mail, rcpt, data, body or dot: fin, rst, silence, garbage, endless, multiline, early, 421, 4yz or 5yz; TIMES times, then work',
      'STAGE:FAULT[:TIMES]',
    ),
  },
  examples: [
    ['catch everything', 'flowpost catch --port 2525 --dir caught'],
    ['as a server with TLS and a login', 'flowpost catch --tls starttls --ca-out ca.pem --user ann:secret'],
    ['what becomes of a send that loses its answer', 'flowpost catch --fault dot:fin:1'],
    ['a mailbox that is full', "flowpost catch --refuse 'rcpt:452:4.2.2 Mailbox full'"],
  ],
} as const satisfies CommandSpec;

export const secretSpec = {
  about: 'keys, and text encrypted with them',
  operands: 'keygen [ID] | encrypt | rotate [FILE]',
  words: ['keygen', 'encrypt', 'rotate'],
  options: {},
  notes: `encrypt asks without showing what is typed, or reads standard input. rotate encrypts anew, with the first key of
FLOWPOST_KEYS, every encrypted text in FILE, which is replaced as a whole or not at all; without FILE, the one on standard input.`,
  examples: [
    ['a key', 'export FLOWPOST_KEYS=$(flowpost secret keygen)'],
    ['a password for a configuration', 'flowpost secret encrypt'],
    [
      'a new key for a configuration',
      'FLOWPOST_KEYS=$NEW,$OLD flowpost secret rotate ~/.config/flowpost/config.yaml',
    ],
  ],
} as const satisfies CommandSpec;

export const completionSpec = {
  about: 'prints what a shell needs to complete flowpost',
  operands: 'bash|zsh|fish',
  words: ['bash', 'zsh', 'fish'],
  options: {},
  examples: [
    ['bash', 'flowpost completion bash > ~/.local/share/bash-completion/completions/flowpost'],
    ['zsh', 'flowpost completion zsh > ~/.zfunc/_flowpost'],
    ['fish', 'flowpost completion fish > ~/.config/fish/completions/flowpost.fish'],
  ],
} as const satisfies CommandSpec;

export const specs = {
  send: sendSpec,
  run: runSpec,
  batch: batchSpec,
  preview: previewSpec,
  verify: verifySpec,
  services: servicesSpec,
  catch: catchSpec,
  secret: secretSpec,
  completion: completionSpec,
} as const;
