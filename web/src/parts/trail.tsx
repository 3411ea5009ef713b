import { Anchor, Breadcrumbs, Group, Kbd, Text, TextInput } from '@mantine/core';
import { useHotkeys } from '@mantine/hooks';
import { type SubmitEvent, useRef, useState } from 'react';
import { Link, useNavigate } from 'react-router';

import type { At } from '../api';
import { useWords } from '../language';
import { channelPath, searchPath } from '../place';

/** Where the reader is in a channel, and the search box that goes anywhere in it. */
export function Trail({ at, here, text = '' }: { at: At; here?: string; text?: string }) {
    const { t } = useWords();
    return (
        <Group justify="space-between" mb="md">
            <Breadcrumbs>
                <Anchor component={Link} to="/" size="sm">
                    {t('instances')}
                </Anchor>
                <Anchor component={Link} to={channelPath(at)} size="sm">
                    {at.channel}
                </Anchor>
                {here && <Text size="sm">{here}</Text>}
            </Breadcrumbs>
            <SearchBox at={at} text={text} />
        </Group>
    );
}

function SearchBox({ at, text }: { at: At; text: string }) {
    const { t } = useWords();
    const navigate = useNavigate();
    const [asked, setAsked] = useState(text);
    const box = useRef<HTMLInputElement>(null);
    useHotkeys([['/', () => box.current?.focus()]]);
    const submit = (event: SubmitEvent) => {
        event.preventDefault();
        if (asked.trim()) {
            navigate(searchPath(at, asked.trim()));
        }
    };
    return (
        <form onSubmit={submit} role="search" style={{ flex: '0 1 26rem' }}>
            <TextInput
                ref={box}
                rightSection={<Kbd aria-hidden>/</Kbd>}
                rightSectionPointerEvents="none"
                type="search"
                value={asked}
                onChange={(event) => setAsked(event.currentTarget.value)}
                placeholder={t('searchHint')}
                aria-label={t('searchHint')}
            />
        </form>
    );
}
