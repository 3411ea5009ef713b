import { Alert, Button, Center, Group, Loader, Text } from '@mantine/core';
import type { ReactNode } from 'react';

import { ApiError } from '../api';
import { useWords } from '../language';
import type { Loaded } from '../load';

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

export function Failure({ error, again }: { error: Error; again?: () => void }) {
    const { t } = useWords();
    const title = error instanceof ApiError ? `${t('failed')} · ${error.code}` : t('failed');
    return (
        <Alert color="red" title={title} my="md">
            <Text size="sm">{error.message}</Text>
            {error instanceof ApiError && error.requestId && (
                <Text size="xs" c="dimmed" mt={4}>
                    {t('requestId', { id: error.requestId })}
                </Text>
            )}
            {again && (
                <Group mt="sm">
                    <Button size="compact-sm" variant="light" color="red" onClick={again}>
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
        <Center mih={120}>
            <Text c="dimmed" size="sm" ta="center">
                {children}
            </Text>
        </Center>
    );
}
