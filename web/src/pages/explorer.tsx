import { Badge, Box, Button, Card, Group, SimpleGrid, Tabs, Title } from '@mantine/core';
import { useSearchParams } from 'react-router';

import type { At, BlockRow, TransactionRow } from '../api';
import { type Connection, since, useLive } from '../live';
import { useWords } from '../language';
import { useLoaded } from '../load';
import { Figure } from '../parts/marks';
import { BlockTable, TransactionTable } from '../parts/rows';
import { Empty, Shown } from '../parts/states';
import { Trail } from '../parts/trail';
import { useAt } from '../place';
import { useSession } from '../session';
import { useTitle } from '../title';

const PAGE = 20;

/** The first page of the block browser: what a channel holds, and what is being added to it. */
export function Explorer() {
    const at = useAt();
    const { t } = useWords();
    const [query, setQuery] = useSearchParams();
    const shown = query.get('show') === 'transactions' ? 'transactions' : 'blocks';
    const offset = Math.max(0, Number(query.get('offset')) || 0);
    const go = (next: { show?: string; offset?: number }) => {
        const show = next.show ?? shown;
        setQuery({ show, ...(next.offset ? { offset: String(next.offset) } : {}) });
    };
    const { connection, recent, round } = useLive(at);
    useTitle(at.channel, t('explorer'));
    return (
        <>
            <Trail at={at} />
            <Title order={1} className="unseen">
                {t('explorer')}
            </Title>
            <Counters at={at} connection={connection} news={`${round}:${recent[0]?.block.block_number}`} />
            <Card withBorder mt="md" padding="sm">
                <Tabs value={shown} onChange={(tab) => go({ show: tab ?? 'blocks', offset: 0 })} keepMounted={false}>
                    <Tabs.List>
                        <Tabs.Tab value="blocks">{t('blocks')}</Tabs.Tab>
                        <Tabs.Tab value="transactions">{t('transactions')}</Tabs.Tab>
                    </Tabs.List>
                    <Tabs.Panel value="blocks">
                        <Blocks
                            key={offset}
                            at={at}
                            offset={offset}
                            live={recent.map((r) => r.block)}
                            round={round}
                            go={(o) => go({ offset: o })}
                        />
                    </Tabs.Panel>
                    <Tabs.Panel value="transactions">
                        <Transactions
                            key={offset}
                            at={at}
                            offset={offset}
                            live={recent.flatMap((r) => [...r.transactions].reverse())}
                            round={round}
                            go={(o) => go({ offset: o })}
                        />
                    </Tabs.Panel>
                </Tabs>
            </Card>
        </>
    );
}

const CONNECTIONS = {
    opening: { color: 'gray', words: 'connecting' },
    live: { color: 'teal.6', words: 'live' },
    lost: { color: 'red.6', words: 'offline' },
} as const;

/** `news` changes with whatever may have changed the figures. */
function Counters({ at, connection, news }: { at: At; connection: Connection; news: string }) {
    const { t } = useWords();
    const { api } = useSession();
    const summary = useLoaded(() => api.summary(at), [api, at.instance, at.channel], news);
    const { color, words } = CONNECTIONS[connection];
    return (
        <Card withBorder padding="md">
            <Group justify="space-between" align="start" wrap="nowrap">
                <Box flex={1}>
                    <Shown of={summary}>
                        {(value) => (
                            <SimpleGrid cols={{ base: 2, sm: 4 }}>
                                <Figure label={t('height')}>{value.block_num}</Figure>
                                <Figure label={t('transactionCount')}>{value.transaction_num}</Figure>
                                <Figure label={t('chaincodes')}>{value.chaincodes}</Figure>
                                <Figure label={t('peers')}>{value.peer_num}</Figure>
                            </SimpleGrid>
                        )}
                    </Shown>
                </Box>
                <Badge role="status" variant="dot" color={color} tt="none">
                    {t(words)}
                </Badge>
            </Group>
        </Card>
    );
}

interface ListProps<Row> {
    at: At;
    offset: number;
    /** What came in since the page was opened, newest first. */
    live: Row[];
    /** Grows when something may have been missed. */
    round: number;
    go: (offset: number) => void;
}

function Blocks({ at, offset, live, round, go }: ListProps<BlockRow>) {
    const { t } = useWords();
    const { api } = useSession();
    const page = useLoaded(() => api.blocks(at, offset, PAGE), [api, at.instance, at.channel, offset], round);
    return (
        <Shown of={page}>
            {({ count, data }) => {
                const added = offset === 0 ? since(data, live) : [];
                const rows = [...added, ...data].slice(0, PAGE);
                const fresh = new Set(added.map((b) => b.block_number));
                return rows.length ? (
                    <>
                        <BlockTable at={at} rows={rows} fresh={fresh} />
                        <Pager offset={offset} count={count + added.length} go={go} />
                    </>
                ) : (
                    <Empty>{t('emptyBlocks')}</Empty>
                );
            }}
        </Shown>
    );
}

function Transactions({ at, offset, live, round, go }: ListProps<TransactionRow>) {
    const { t } = useWords();
    const { api } = useSession();
    const page = useLoaded(() => api.transactions(at, offset, PAGE), [api, at.instance, at.channel, offset], round);
    return (
        <Shown of={page}>
            {({ count, data }) => {
                const added = offset === 0 ? since(data, live) : [];
                const rows = [...added, ...data].slice(0, PAGE);
                const fresh = new Set(added.map((row) => row.block_number));
                return rows.length ? (
                    <>
                        <TransactionTable at={at} rows={rows} fresh={fresh} />
                        <Pager offset={offset} count={count + added.length} go={go} />
                    </>
                ) : (
                    <Empty>{t('emptyBlocks')}</Empty>
                );
            }}
        </Shown>
    );
}

function Pager({ offset, count, go }: { offset: number; count: number; go: (offset: number) => void }) {
    const { t } = useWords();
    if (count <= PAGE && offset === 0) {
        return null;
    }
    return (
        <Group justify="center" gap="xs" mt="sm">
            <Button variant="default" size="compact-sm" disabled={offset === 0} onClick={() => go(0)}>
                {t('first')}
            </Button>
            <Button variant="default" size="compact-sm" disabled={offset === 0} onClick={() => go(Math.max(0, offset - PAGE))}>
                {t('newer')}
            </Button>
            <Button variant="default" size="compact-sm" disabled={offset + PAGE >= count} onClick={() => go(offset + PAGE)}>
                {t('older')}
            </Button>
        </Group>
    );
}
