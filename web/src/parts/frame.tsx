import {
    ActionIcon,
    AppShell,
    Button,
    Container,
    Group,
    SegmentedControl,
    Text,
    useComputedColorScheme,
    useMantineColorScheme,
} from '@mantine/core';
import type { ReactNode } from 'react';
import { Link } from 'react-router';

import { type Language, useWords } from '../language';
import { useSession } from '../session';

/** What stands around every page. */
export function Frame({ children }: { children: ReactNode }) {
    const { t } = useWords();
    const { session, signOut } = useSession();
    return (
        <AppShell header={{ height: 56 }} padding="md">
            <AppShell.Header>
                <Container size="lg" h="100%">
                    <Group h="100%" justify="space-between" wrap="nowrap">
                        <Text component={Link} to="/" fw={700} size="lg" c="inherit" td="none">
                            Selvage
                            <Text span c="dimmed" size="sm" ml="xs" visibleFrom="sm">
                                {t('title')}
                            </Text>
                        </Text>
                        <Group gap="xs" wrap="nowrap">
                            <LanguageChoice />
                            <SchemeChoice />
                            <Button variant="subtle" size="compact-sm" onClick={signOut} title={session.user}>
                                {t('signOut')}
                            </Button>
                        </Group>
                    </Group>
                </Container>
            </AppShell.Header>
            <AppShell.Main>
                <Container size="lg">{children}</Container>
            </AppShell.Main>
        </AppShell>
    );
}

export function LanguageChoice() {
    const { t, language, choose } = useWords();
    return (
        <SegmentedControl
            size="xs"
            aria-label={t('language')}
            value={language}
            onChange={(chosen) => choose(chosen as Language)}
            data={[
                { value: 'zh', label: '中文' },
                { value: 'en', label: 'English' },
            ]}
        />
    );
}

function SchemeChoice() {
    const { t } = useWords();
    const { setColorScheme } = useMantineColorScheme();
    const shown = useComputedColorScheme('light');
    const other = shown === 'dark' ? 'light' : 'dark';
    return (
        <ActionIcon variant="default" aria-label={t(other)} title={t(other)} onClick={() => setColorScheme(other)}>
            <SchemeIcon name={other} />
        </ActionIcon>
    );
}

/** Drawn rather than written: not every font has the signs. */
function SchemeIcon({ name }: { name: 'dark' | 'light' }) {
    return (
        <svg width="16" height="16" viewBox="0 0 16 16" fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinecap="round" aria-hidden>
            {name === 'dark' ? (
                <path d="M13 9.5A5.5 5.5 0 0 1 6.5 3a5.5 5.5 0 1 0 6.5 6.5z" />
            ) : (
                <path d="M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6zM8 1.2v1.4M8 13.4v1.4M1.2 8h1.4M13.4 8h1.4M3.2 3.2l1 1M11.8 11.8l1 1M3.2 12.8l1-1M11.8 4.2l1-1" />
            )}
        </svg>
    );
}
