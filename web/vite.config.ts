import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

// `npm run dev` serves the sources and passes every other request to a running manager.
const manager = process.env.SELVAGE_MANAGER ?? 'http://127.0.0.1:8620';

export default defineConfig({
    plugins: [react()],
    build: { outDir: 'dist', emptyOutDir: true, target: 'es2022', chunkSizeWarningLimit: 700 },
    server: { proxy: { '/v2': manager, '/selvage': manager } },
});
