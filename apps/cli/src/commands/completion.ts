import { type Command, type CommandSpec, commonOptions, type Option, UsageError } from '../command-line.ts';
import { exitCodes } from '../exit-codes.ts';
import { printJson } from '../output.ts';
import { type completionSpec, specs } from '../specs.ts';

const commands: readonly (readonly [string, CommandSpec])[] = Object.entries<CommandSpec>(specs);
const commandNames = commands.map(([name]) => name).join(' ');
const aboutHelp = 'how a command is used';
const optionsOf = ({ options }: CommandSpec): readonly (readonly [string, Option])[] =>
  Object.entries<Option>({ ...options, ...commonOptions });
/** For the shells, in single quotes. */
const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
const takesFile = ({ value = '' }: Option): boolean => /FILE|FOLDER|SOURCE/.test(value);

const takesFiles = ({ operands = '' }: CommandSpec): boolean => operands.includes('FILE');

function bash(): string {
  const cases = commands.map(([name, spec]) => {
    const options = optionsOf(spec).map(([option]) => `--${option}`);
    return `    ${name}) options=${quote(options.join(' '))} words=${quote((spec.words ?? []).join(' '))} takes=${quote(spec.operands ?? '')} ;;`;
  });
  // What follows those is a file's name, or nobody knows; the shell's own completion does what it can.
  const values = commands.flatMap(([name, spec]) =>
    optionsOf(spec).flatMap(([option, { type, choices: known }]) =>
      type === 'string' && !known ? [`    ${quote(`${name} --${option}`)}) return ;;`] : [],
    ),
  );
  const choices = commands.flatMap(([name, spec]) =>
    optionsOf(spec).flatMap(([option, { choices: known }]) =>
      known ? [`    ${quote(`${name} --${option}`)}) words=${quote(known.join(' '))} ;;`] : [],
    ),
  );
  return `# bash completion for flowpost
_flowpost() {
  local current=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]} command=\${COMP_WORDS[1]} word words= options= takes=
  if [ "$COMP_CWORD" -eq 1 ]; then
    words=${quote(`${commandNames} help --version --help`)}
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    return
  fi
  case "$command $before" in
${[...choices, ...values].join('\n')}
    *) case "$command" in
    help) words=${quote(commandNames)} ;;
${cases.join('\n')}
    esac
    # The first of them is there already.
    for word in $words; do
      case " \${COMP_WORDS[*]:2:COMP_CWORD-2} " in *" $word "*) words= ;; esac
    done ;;
  esac
  # A word that is no option is what the command takes; without words of its own that is a file.
  case "$current" in
    -*) words=$options ;;
    '') [ -n "$takes$words" ] || words=$options ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _flowpost flowpost
`;
}

function zsh(): string {
  const item = (text: string): string => quote(text.replace(/[[\]:\\]/g, '\\$&'));
  const cases = commands.map(([name, spec]) => {
    const lines = optionsOf(spec).map(([option, one]) => {
      const action = one.choices ? `(${one.choices.join(' ')})` : takesFile(one) ? '_files' : ' ';
      const value =
        one.type === 'boolean' ? '' : `:${(one.value ?? option).replaceAll(':', '\\:')}:${action}`;
      const again = one.multiple ? '*' : '';
      return `      ${quote(`${again}--${option}[${one.about.replace(/[[\]:]/g, '\\$&')}]`)}${value === '' ? '' : quote(value)}`;
    });
    const files = "'*:file:_files'";
    const first = spec.words ? [`'1:what:(${spec.words.join(' ')})'`] : [];
    const operands = takesFiles(spec) || !spec.words ? [...first, files] : first;
    return `    ${name}) _arguments \\\n${[...lines, ...operands.map((one) => `      ${one}`)].join(' \\\n')} ;;`;
  });
  return `#compdef flowpost
_flowpost() {
  if (( CURRENT == 2 )); then
    local -a commands
    commands=(
${[...commands, ['help', { about: aboutHelp }] as const].map(([name, { about }]) => `      ${item(name).slice(0, -1)}:${item(about).slice(1)}`).join('\n')}
    )
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
    help) _arguments '1:command:(${commandNames})' ;;
${cases.join('\n')}
  esac
}
_flowpost "$@"
`;
}

function fish(): string {
  const first = (name: string, about: string): string =>
    `complete -c flowpost -n __fish_use_subcommand -f -a ${name} -d ${quote(about)}`;
  const of = (name: string): string => `complete -c flowpost -n '__flowpost_is ${name}'`;
  const lines = commands.flatMap(([name, spec]) => [
    first(name, spec.about),
    ...(spec.words ?? []).map((word) => `${of(name)}${takesFiles(spec) ? '' : ' -f'} -a ${word}`),
    ...optionsOf(spec).map(([option, one]) => {
      const value =
        one.type === 'boolean'
          ? ''
          : one.choices
            ? ` -x -a ${quote(one.choices.join(' '))}`
            : takesFile(one)
              ? ' -r'
              : ' -x';
      return `${of(name)} -l ${option}${value} -d ${quote(one.about)}`;
    }),
  ]);
  lines.push(first('help', aboutHelp), `${of('help')} -x -a ${quote(commandNames)}`);
  return `# fish completion for flowpost
# Which command it is. The names of commands may stand in what others are given, too.
function __flowpost_is
  set -l words (commandline -opc)
  test (count $words) -gt 1; and test $words[2] = $argv[1]
end
${lines.join('\n')}
`;
}

const shells: Readonly<Record<string, () => string>> = { bash, zsh, fish };

/** `flowpost completion`: what a shell needs, made from the same table as the help. */
export const completion: Command<typeof completionSpec> = async ({ json }, [shell = '', ...rest]) => {
  const write = Object.hasOwn(shells, shell) && rest.length === 0 ? shells[shell] : undefined;
  if (!write) throw new UsageError('flowpost completion takes bash, zsh or fish.');
  if (json) printJson({ [shell]: write() });
  else process.stdout.write(write());
  return exitCodes.sent;
};
