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
    const { language, choose } = useWords();
    return (
        <SegmentedControl
            size="xs"
            aria-label="Language"
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
            {shown === 'dark' ? '☀' : '☾'}
        </ActionIcon>
    );
}
