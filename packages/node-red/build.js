// The editor reads a node's forms from a page that lies beside its code under the same name.
import { writeFile } from 'node:fs/promises';
import { editorPage } from './dist/editor-page.js';

await writeFile(new URL('dist/flowpost.html', import.meta.url), editorPage());
