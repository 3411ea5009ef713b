import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

import react from '@vitejs/plugin-react';
import { defineConfig, type Plugin } from 'vite';

// `npm run dev` serves the sources and passes every other request to a running manager.
const manager = process.env.SELVAGE_MANAGER ?? 'http://127.0.0.1:30603';

/** Leaves a packed copy beside every file, so that the manager need not pack it for each reader. */
function packed(): Plugin {
    return {
        name: 'packed',
        apply: 'build',
        async writeBundle({ dir = 'dist' }, bundle) {
            for (const name of Object.keys(bundle)) {
                const file = join(dir, name);
                await writeFile(`${file}.gz`, gzipSync(await readFile(file), { level: 9 }));
            }
        },
    };
}

export default defineConfig({
    plugins: [react(), packed()],
    build: {
        outDir: 'dist',
        emptyOutDir: true,
        target: 'es2022',
        // The first browsers with `light-dark()`: taken apart for older ones, it follows the system rather than the reader's choice.
        cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
        chunkSizeWarningLimit: 700,
    },
    server: { proxy: { '/v2': manager, '/selvage': manager } },
});
