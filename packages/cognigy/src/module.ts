import './older-node.ts';
import { connectionSchemas } from './form.ts';
import { nodes } from './send-node.ts';

/** The extension, as Cognigy loads it. */
export default { nodes, connections: connectionSchemas, options: { label: 'Flowpost' } };
