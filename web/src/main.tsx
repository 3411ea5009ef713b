import '@mantine/core/styles.css';
import './style.css';

import { createTheme, type CSSVariablesResolver, MantineProvider } from '@mantine/core';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { BrowserRouter } from 'react-router';

import { App } from './app';
import { LanguageProvider } from './language';

const theme = createTheme({
    primaryColor: 'cyan',
    primaryShade: 9,
    defaultRadius: 'md',
    fontFamily: "system-ui, -apple-system, 'Segoe UI', 'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', sans-serif",
    fontFamilyMonospace: "ui-monospace, 'SF Mono', 'Cascadia Mono', Menlo, monospace",
});

/** Darker on light and lighter on dark than the library's own, so that small text can be read by everybody. */
const colors: CSSVariablesResolver = () => ({
    variables: {},
    light: {
        '--mantine-color-dimmed': '#5c636a',
        '--mantine-color-placeholder': '#6b7178',
        '--mantine-color-teal-light-color': '#066649',
        '--mantine-color-red-light-color': '#b02020',
        '--mantine-color-yellow-light-color': '#7a4100',
    },
    dark: { '--mantine-color-dimmed': '#a8a8a8', '--mantine-color-placeholder': '#9a9a9a' },
});

const root = document.getElementById('root');
if (root) {
    createRoot(root).render(
        <StrictMode>
            <MantineProvider theme={theme} defaultColorScheme="auto" cssVariablesResolver={colors}>
                <LanguageProvider>
                    <BrowserRouter>
                        <App />
                    </BrowserRouter>
                </LanguageProvider>
            </MantineProvider>
        </StrictMode>,
    );
}
