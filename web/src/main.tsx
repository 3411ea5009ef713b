import '@mantine/core/styles.css';
import './style.css';

import { createTheme, MantineProvider } from '@mantine/core';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { BrowserRouter } from 'react-router';

import { App } from './app';
import { LanguageProvider } from './language';

const theme = createTheme({
    primaryColor: 'cyan',
    primaryShade: { light: 8, dark: 6 },
    defaultRadius: 'md',
    fontFamily: "system-ui, -apple-system, 'Segoe UI', 'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', sans-serif",
    fontFamilyMonospace: "ui-monospace, 'SF Mono', 'Cascadia Mono', Menlo, monospace",
});

const root = document.getElementById('root');
if (root) {
    createRoot(root).render(
        <StrictMode>
            <MantineProvider theme={theme} defaultColorScheme="auto">
                <LanguageProvider>
                    <BrowserRouter>
                        <App />
                    </BrowserRouter>
                </LanguageProvider>
            </MantineProvider>
        </StrictMode>,
    );
}
