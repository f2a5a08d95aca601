import { config } from 'zod';

// Compiling a schema pays when it is used often, and costs more than checking one message without. It holds for schemas made
// after it, so a command that sends one message loads this file before anything that makes one.
config({ jitless: true });
