import { Alert, Button, Card, Center, Group, PasswordInput, Stack, Text, TextInput, Title } from '@mantine/core';
import { type SubmitEvent, useState } from 'react';

import { Api, ApiError, type Session } from '../api';
import { useWords } from '../language';
import { LanguageChoice } from '../parts/frame';
import { Prose } from '../parts/prose';
import { Failure } from '../parts/states';
import { useTitle } from '../title';

/** `hasExpired` says that there was a session, and that the service no longer takes it. */
export function SignIn({ enter, hasExpired }: { enter: (session: Session) => void; hasExpired: boolean }) {
    const { t } = useWords();
    const [user, setUser] = useState('admin');
    const [password, setPassword] = useState('');
    const [error, setError] = useState<Error>();
    const [busy, setBusy] = useState(false);
    useTitle(t('signIn'));
    const submit = (event: SubmitEvent) => {
        event.preventDefault();
        setBusy(true);
        setError(undefined);
        Api.login(user, password)
            .then(enter, setError)
            .finally(() => setBusy(false));
    };
    return (
        <Center component="main" mih="100vh" p="md">
            <Card withBorder shadow="sm" padding="xl" w={380} maw="100%">
                <form onSubmit={submit}>
                    <Stack>
                        <Group justify="space-between" align="start">
                            <div>
                                <Title order={1} size="h2">
                                    Selvage
                                </Title>
                                <Text c="dimmed" size="sm">
                                    {t('title')}
                                </Text>
                            </div>
                            <LanguageChoice />
                        </Group>
                        <TextInput
                            label={t('user')}
                            name="username"
                            autoComplete="username"
                            value={user}
                            onChange={(event) => setUser(event.currentTarget.value)}
                        />
                        <PasswordInput
                            label={t('password')}
                            description={<Prose>{t('passwordHint')}</Prose>}
                            name="password"
                            autoComplete="current-password"
                            autoFocus
                            value={password}
                            onChange={(event) => setPassword(event.currentTarget.value)}
                        />
                        {hasExpired && !error && <Alert color="yellow">{t('sessionEnded')}</Alert>}
                        {error && <Refused error={error} />}
                        <Button type="submit" loading={busy} disabled={!user || !password}>
                            {t('signIn')}
                        </Button>
                    </Stack>
                </form>
            </Card>
        </Center>
    );
}

function Refused({ error }: { error: Error }) {
    const { t } = useWords();
    return error instanceof ApiError && error.status === 401 ? (
        <Alert color="red">{t('wrongPassword')}</Alert>
    ) : (
        <Failure error={error} />
    );
}
