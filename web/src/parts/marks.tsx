import { Anchor, Badge, CopyButton, Group, Text, Tooltip, UnstyledButton } from '@mantine/core';
import type { ReactNode } from 'react';
import { Link } from 'react-router';

import { useWords } from '../language';
import { outcome } from '../words/outcomes';
import { status } from '../words/states';

/** A hash or an id: shortened where space is short, whole in the tooltip, copied by one click. */
export function Hash({ value, to, short = false }: { value: string; to?: string; short?: boolean }) {
    const { t } = useWords();
    if (!value) {
        return <Text span>–</Text>;
    }
    const shown = short && value.length > 20 ? `${value.slice(0, 10)}…${value.slice(-6)}` : value;
    return (
        <Group gap={4} wrap="nowrap" component="span" display="inline-flex" maw="100%">
            <Tooltip label={value} disabled={!short} openDelay={400} multiline maw={520}>
                {to ? (
                    <Anchor component={Link} to={to} className="mono" size="sm">
                        {shown}
                    </Anchor>
                ) : (
                    <Text span className="mono" size="sm">
                        {shown}
                    </Text>
                )}
            </Tooltip>
            <CopyButton value={value}>
                {({ copied, copy }) => (
                    <UnstyledButton onClick={copy} className="copy" aria-label={t('copy')} title={t(copied ? 'copied' : 'copy')}>
                        <CopyIcon done={copied} />
                    </UnstyledButton>
                )}
            </CopyButton>
        </Group>
    );
}

/** Drawn rather than written: not every font has the signs. */
function CopyIcon({ done }: { done: boolean }) {
    return (
        <svg width="12" height="12" viewBox="0 0 16 16" fill="none" stroke="currentColor" strokeWidth="1.5" aria-hidden>
            {done ? <path d="M3 8.5l3.5 3.5L13 4.5" /> : <path d="M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3" />}
        </svg>
    );
}

/** Fabric's code for what became of a transaction, with its meaning on hover. */
export function Outcome({ code }: { code: string }) {
    const { language } = useWords();
    return (
        <Tooltip label={outcome(code, language)} multiline maw={320}>
            <Badge color={code === 'VALID' ? 'teal' : 'red'} variant="light" tt="none">
                {code}
            </Badge>
        </Tooltip>
    );
}

const BUSY = new Set(['IsCreating', 'IsUpgrading', 'IsScaling', 'IsDeleting', 'IsAdding', 'Hibernation']);

/** What an instance is doing, in words. */
export function Status({ value }: { value: string }) {
    const { language } = useWords();
    const color = value === 'Normal' ? 'teal.6' : BUSY.has(value) ? 'yellow.6' : 'red.6';
    return (
        <Badge color={color} variant="dot" tt="none">
            {status(value, language)}
        </Badge>
    );
}

/** A small labelled figure. */
export function Figure({ label, children }: { label: string; children: ReactNode }) {
    return (
        <div>
            <Text size="xs" c="dimmed">
                {label}
            </Text>
            <Text fw={600} className="number">
                {children}
            </Text>
        </div>
    );
}
