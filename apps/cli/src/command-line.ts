import { isUtf8 } from 'node:buffer';
import { existsSync, readFileSync } from 'node:fs';
import { type ParseArgsConfig, parseArgs, styleText } from 'node:util';

/** A command line that cannot be understood. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export interface Option {
  readonly type: 'string' | 'boolean';
  readonly multiple?: boolean;
  readonly default?: string | boolean;
  /** What its value is called in the help. */
  readonly value?: string;
  readonly about: string;
  /** What its value may be, for help and completion. */
  readonly choices?: readonly string[];
}
type Options = Readonly<Record<string, Option>>;

/** A command as its user sees it. Parsing, help and completion all come from here. */
export interface CommandSpec {
  readonly about: string;
  /** What stands in its line beside options, such as `FILE`. */
  readonly operands?: string;
  /** What may stand there, when it is one of a few words. */
  readonly words?: readonly string[];
  readonly options: Options;
  /** Further lines of its help. */
  readonly notes?: string;
  readonly examples: readonly (readonly [about: string, line: string])[];
}

/** What every command takes. */
export const commonOptions = {
  config: { type: 'string', value: 'FILE', about: 'take named connections from this file' },
  json: { type: 'boolean', about: 'one JSON document on standard output' },
  quiet: { type: 'boolean', about: 'say nothing but errors' },
  verbose: { type: 'boolean', about: 'show the dialogue with the server, without secrets' },
  help: { type: 'boolean', about: 'this text' },
} as const satisfies Options;

type WithCommon<Spec extends CommandSpec> = Spec['options'] & typeof commonOptions;
type Parsed<Spec extends CommandSpec> = ReturnType<
  typeof parseArgs<{ options: WithCommon<Spec>; allowPositionals: true }>
>;
export type Values<Spec extends CommandSpec> = Parsed<Spec>['values'];
/** Does a command with its options, and returns the exit code. */
export type Command<Spec extends CommandSpec> = (
  values: Values<Spec>,
  operands: readonly string[],
) => Promise<number>;

const ownCommandLine = '/proc/self/cmdline';

/** Node makes U+FFFD of what is not UTF-8, and it would go out so. Where the system tells what was given, that is looked at. */
function assertUtf8(argv: readonly string[]): void {
  const odd = argv.find((one) => one.includes('\ufffd'));
  if (odd === undefined || !existsSync(ownCommandLine) || isUtf8(readFileSync(ownCommandLine))) return;
  throw new UsageError(
    `${JSON.stringify(odd)} is not UTF-8. Set the locale of your terminal or script to UTF-8, or convert it with iconv.`,
  );
}

/** @throws UsageError */
export function parseCommandLine<Spec extends CommandSpec>(
  spec: Spec,
  argv: readonly string[],
): { readonly values: Values<Spec>; readonly operands: readonly string[] } {
  assertUtf8(argv);
  const options: ParseArgsConfig['options'] = { ...spec.options, ...commonOptions };
  const { values, positionals } = (() => {
    try {
      return parseArgs({ args: [...argv], options, allowPositionals: true });
    } catch (error) {
      throw new UsageError((error as Error).message);
    }
  })();
  if (positionals.length > 0 && spec.operands === undefined) {
    throw new UsageError(`Nothing is expected here: ${JSON.stringify(positionals[0])}.`);
  }
  return { values: values as Values<Spec>, operands: positionals };
}

/** @throws UsageError for anything but one of the choices. */
export function readChoice<Choice extends string>(
  name: string,
  text: string | undefined,
  choices: readonly Choice[],
): Choice | undefined {
  const found = choices.find((one) => one === text);
  if (found !== undefined || text === undefined) return found;
  throw new UsageError(`--${name} takes ${choices.join(' or ')}, not ${JSON.stringify(text)}.`);
}

/** @throws UsageError for anything but a whole number in a range. */
export function readNumber(
  name: string,
  text: string,
  [least, most]: readonly [number, number] = [1, Number.MAX_SAFE_INTEGER],
): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && number >= least && number <= most) return number;
  const range = most === Number.MAX_SAFE_INTEGER ? `from ${least} on` : `from ${least} to ${most}`;
  throw new UsageError(`--${name} takes a whole number ${range}, not ${JSON.stringify(text)}.`);
}

const flag = (name: string, { type, value = 'TEXT', choices }: Option): string =>
  `--${name}${type === 'boolean' ? '' : ` ${choices?.join('|') ?? value}`}`;

const titled = (title: string): string =>
  process.stdout.isTTY && process.env.NO_COLOR === undefined ? styleText('bold', title) : title;

/** The help of one command. */
export function helpOf(name: string, spec: CommandSpec): string {
  const { about, operands, options, notes, examples } = spec;
  const all = Object.entries<Option>({ ...options, ...commonOptions });
  const longest = 26;
  const table = all.map(([option, one]) => {
    const text = `  ${flag(option, one)}`;
    const more = `${one.multiple ? ' (may be given again)' : ''}${one.default === undefined ? '' : ` (default ${one.default})`}`;
    const gap = text.length < longest ? text.padEnd(longest) : `${text}\n${' '.repeat(longest)}`;
    return `${gap}${one.about}${more}`;
  });
  return [
    `flowpost ${name}: ${about}`,
    '',
    `${titled('Usage')}: flowpost ${name}${operands === undefined ? '' : ` ${operands}`} [options]`,
    '',
    titled('Options'),
    ...table,
    ...(notes === undefined ? [] : ['', notes]),
    '',
    titled('Examples'),
    ...examples.flatMap(([what, line]) => [`  # ${what}`, `  ${line}`]),
    '',
  ].join('\n');
}
