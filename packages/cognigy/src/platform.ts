/** What of Cognigy's extension interface this uses (`@cognigy/extension-tools`, whose functions only fill in defaults). */
export interface ExtensionField {
  readonly key: string;
  readonly label: string;
  readonly type: 'cognigyText' | 'connection' | 'json' | 'number' | 'select' | 'text' | 'toggle';
  readonly description?: string;
  readonly defaultValue?: unknown;
  readonly params?: Readonly<Record<string, unknown>>;
  readonly condition?: Condition;
}

export type Condition =
  | { readonly key: string; readonly value: unknown }
  | { readonly or: readonly Condition[] }
  | { readonly and: readonly Condition[] };

/** A kind of connection: fields of text, which Cognigy keeps encrypted. */
export interface ConnectionSchema {
  readonly type: string;
  readonly label: string;
  readonly fields: readonly { readonly fieldName: string; readonly required: boolean }[];
}

export interface NodeDescriptor {
  readonly type: string;
  readonly parentType?: string;
  readonly defaultLabel: string;
  readonly summary?: string;
  readonly fields?: readonly ExtensionField[];
  readonly sections?: readonly {
    readonly key: string;
    readonly label: string;
    readonly fields: readonly string[];
    readonly defaultCollapsed: boolean;
  }[];
  readonly form?: readonly { readonly type: 'field' | 'section'; readonly key: string }[];
  readonly appearance?: Readonly<Record<string, unknown>>;
  readonly constraints?: Readonly<Record<string, unknown>>;
  readonly dependencies?: { readonly children: readonly string[] };
  readonly preview?: { readonly type: 'text'; readonly key: string };
  readonly function?: (call: NodeCall) => Promise<void>;
}

/** One execution of a node. */
export interface NodeCall {
  readonly cognigy: {
    readonly api: {
      addToInput(key: string, value: unknown): void;
      addToContext(key: string, value: unknown, mode: 'simple' | 'array'): void;
      setNextNode(id: string): void;
      resetNextNodes?(): void;
      stopExecution?(): void;
      log(level: 'error' | 'warn' | 'info' | 'debug', text: string): void;
    };
    readonly input?: unknown;
    readonly context?: unknown;
  };
  /** The values of the form; connections as flat objects of text. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly childConfigs?: readonly { readonly id: string; readonly type: string }[];
  readonly nodeId?: string;
}
