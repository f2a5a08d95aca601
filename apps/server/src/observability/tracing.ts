import { isMailError } from '@flowpost/core';
import { type Attributes, SpanStatusCode, trace } from '@opentelemetry/api';

/** Runs work within a span. Without an OpenTelemetry SDK in the process there is no span, and no cost. */
export async function traced<Value>(
  name: string,
  attributes: Attributes,
  work: () => Promise<Value>,
): Promise<Value> {
  return trace.getTracer('flowpost').startActiveSpan(name, { attributes }, async (span) => {
    try {
      return await work();
    } catch (error) {
      if (isMailError(error)) {
        span.setAttributes({
          'flowpost.code': error.code,
          'flowpost.phase': error.phase,
          'flowpost.in_doubt': error.inDoubt,
        });
      }
      span.setStatus({ code: SpanStatusCode.ERROR });
      throw error;
    } finally {
      span.end();
    }
  });
}
