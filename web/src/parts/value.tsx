import { Badge, Button, CopyButton, Group, Text } from '@mantine/core';
import { useState } from 'react';

import type { Carried } from '../api';
import { useWords } from '../language';

/** Characters shown of a long text until the reader asks for all of it. */
const SHOWN = 4_000;
/** The longest text that is looked at for JSON. */
const JSON_MAX = 200_000;

/** What a transaction carries, as it stands: nothing in it is ever taken for more than text. */
export function Value({ of }: { of: Carried }) {
    const { t } = useWords();
    const [all, setAll] = useState(false);
    if (of.length === 0) {
        return (
            <Text span size="sm" c="dimmed">
                {t('empty')}
            </Text>
        );
    }
    const sent = bytesOf(of);
    const isWhole = sent === of.length;
    const text = of.is_base64 || !isWhole ? of.value : readable(of.value);
    const isLong = text.length > SHOWN;
    const size = { sent: sent.toLocaleString('en'), all: of.length.toLocaleString('en') };
    return (
        <>
            {of.is_base64 && (
                <Badge color="gray" variant="light" tt="none" mb={4}>
                    base64
                </Badge>
            )}
            {/* It scrolls, so the keyboard must reach it. */}
            <pre className="value" tabIndex={isLong ? 0 : undefined}>
                {isLong && !all ? `${text.slice(0, SHOWN)}…` : text}
            </pre>
            {isLong && (
                <Group gap="xs" mt={4}>
                    <Text span size="xs" c="dimmed">
                        {t(isWhole ? 'bytes' : 'bytesSent', size)}
                    </Text>
                    {!all && (
                        <Button size="compact-xs" variant="light" onClick={() => setAll(true)}>
                            {t('showMore')}
                        </Button>
                    )}
                    {isWhole && (
                        <CopyButton value={of.value}>
                            {({ copied, copy }) => (
                                <Button size="compact-xs" variant="light" onClick={copy}>
                                    {t(copied ? 'copied' : 'copy')}
                                </Button>
                            )}
                        </CopyButton>
                    )}
                </Group>
            )}
        </>
    );
}

/** How many bytes came over. */
export function bytesOf({ value, is_base64 }: Carried): number {
    return is_base64 ? Math.floor((value.length * 3) / 4) : new TextEncoder().encode(value).length;
}

/** JSON with line breaks; any other text as it stands. */
export function readable(value: string): string {
    if (value.length > JSON_MAX || !/^\s*[[{]/.test(value)) {
        return value;
    }
    try {
        return JSON.stringify(JSON.parse(value), null, 2);
    } catch {
        return value;
    }
}
