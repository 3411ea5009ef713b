import { Alert, Button, Center, Group, Loader, Text } from '@mantine/core';
import type { ReactNode } from 'react';

import { ApiError, Unreachable } from '../api';
import { useWords } from '../language';
import type { Loaded } from '../load';
import { refusal } from '../words/refusals';
import { Prose } from './prose';

/** Shows that a value loads, why it did not come, or the value. */
export function Shown<Value>({ of, children }: { of: Loaded<Value>; children: (value: Value) => ReactNode }) {
    const { t } = useWords();
    switch (of.state) {
        case 'loading':
            return (
                <Center mih={160}>
                    <Loader size="sm" aria-label={t('loading')} />
                </Center>
            );
        case 'failed':
            return <Failure error={of.error} again={of.again} />;
        case 'ready':
            return children(of.value);
    }
}

/** Why something did not come, in the reader's language, and in the service's own words where those are others. */
export function Failure({ error, again }: { error: Error; again?: () => void }) {
    const { t, language } = useWords();
    if (error instanceof Unreachable) {
        return (
            <Alert color="yellow" title={t('unreachable')} my="md">
                <Text size="sm">
                    <Prose>{t(again ? 'unreachableRetry' : 'unreachableHint')}</Prose>
                </Text>
            </Alert>
        );
    }
    const refused = error instanceof ApiError ? error : undefined;
    const translated = refused && refusal(refused.code, language);
    return (
        <Alert color="red" title={refused ? `${t('failed')} · ${refused.code}` : t('failed')} my="md">
            {translated && <Text size="sm">{translated}</Text>}
            <Text size={translated ? 'xs' : 'sm'} className={translated ? 'aside' : undefined}>
                {error.message}
            </Text>
            {refused?.requestId && (
                <Text size="xs" mt={4} className="aside">
                    {t('requestId', { id: refused.requestId })}
                </Text>
            )}
            {again && (
                <Group mt="sm">
                    <Button size="compact-sm" variant="outline" color="red" onClick={again}>
                        {t('tryAgain')}
                    </Button>
                </Group>
            )}
        </Alert>
    );
}

/** Says that there is nothing yet, and what to do about it. */
export function Empty({ children }: { children: ReactNode }) {
    return (
        <Center mih={120} role="status">
            <Text c="dimmed" size="sm" ta="center" className="anywhere">
                {children}
            </Text>
        </Center>
    );
}
