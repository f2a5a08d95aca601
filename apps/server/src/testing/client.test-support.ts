import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { default as formats } from 'ajv-formats';

type Json = Record<string, unknown>;

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Json };
}
interface Operation {
  readonly operationId: string;
  readonly responses: Readonly<
    Record<string, { readonly content?: Readonly<Record<string, { readonly schema: Json }>> }>
  >;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: answers are looked at, and validated before
  readonly body: any;
}

/** Calls the API, and holds every answer against the API's own document. */
export class Client {
  readonly #url: string;
  readonly #key: string;
  readonly #document: Document;
  readonly #ajv = new Ajv2020({ strict: false, allErrors: true });
  readonly #validators = new Map<string, ValidateFunction>();
  /** Operations that were called. */
  called = new Set<string>();
  /** All that was answered, as it came. */
  answers: string[] = [];

  private constructor(url: string, key: string, document: Document) {
    this.#url = url;
    this.#key = key;
    this.#document = document;
    (formats as unknown as (ajv: Ajv2020) => void)(this.#ajv);
    this.#ajv.addSchema({ $id: 'https://api.example/', components: document.components });
  }

  static async connect(url: string, key: string): Promise<Client> {
    const response = await fetch(`${url}/openapi.json`);
    return new Client(url, key, (await response.json()) as Document);
  }

  get operations(): string[] {
    return Object.values(this.#document.paths).flatMap((one) =>
      Object.values(one).map(({ operationId }) => operationId),
    );
  }

  as(key: string): Client {
    const other = new Client(this.#url, key, this.#document);
    other.called = this.called;
    other.answers = this.answers;
    return other;
  }

  get(path: string): Promise<Answer> {
    return this.call('GET', path);
  }

  post(path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    return this.call('POST', path, body, headers);
  }

  async call(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const response = await fetch(`${this.#url}${path}`, {
      method,
      headers: { authorization: `Bearer ${this.#key}`, 'content-type': 'application/json', ...headers },
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    this.answers.push(`${JSON.stringify([...response.headers])}\n${text}`);
    const type = response.headers.get('content-type') ?? '';
    const parsed = type.includes('json') ? JSON.parse(text) : text;
    this.#validate(method, path, response.status, type, parsed);
    return { status: response.status, headers: response.headers, body: parsed };
  }

  #validate(method: string, path: string, status: number, type: string, body: unknown): void {
    const operation = this.#find(method, path.split('?')[0] ?? '');
    if (!operation) {
      if (status === 404 || status === 400) return;
      throw new Error(`${method} ${path} is not in the document, and answers ${status}`);
    }
    this.called.add(operation.operationId);
    const answer = operation.responses[status] ?? operation.responses.default;
    const media = type.split(';')[0] ?? '';
    const content = answer?.content?.[media];
    if (!content) {
      if (status === 204 && !answer?.content) return;
      throw new Error(
        `${operation.operationId} answers ${status} ${media}, which its document does not have`,
      );
    }
    const key = `${operation.operationId} ${status} ${media}`;
    let validate = this.#validators.get(key);
    if (!validate) {
      const schema = JSON.parse(
        JSON.stringify(content.schema).replaceAll('"#/components/', '"https://api.example/#/components/'),
      );
      validate = this.#ajv.compile(schema);
      this.#validators.set(key, validate);
    }
    if (!validate(body))
      throw new Error(`${key}: ${this.#ajv.errorsText(validate.errors)}\n${JSON.stringify(body)}`);
  }

  #find(method: string, path: string): Operation | undefined {
    for (const [template, operations] of Object.entries(this.#document.paths)) {
      const pattern = new RegExp(`^${template.replace(/\{\w+\}/g, '[^/]+')}$`);
      const operation = operations[method.toLowerCase()];
      if (operation && pattern.test(path)) return operation;
    }
    return undefined;
  }
}
