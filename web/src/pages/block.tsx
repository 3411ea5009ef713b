import { Anchor, Card, Group, Title } from '@mantine/core';
import { Link, useParams } from 'react-router';

import { useWords } from '../language';
import { useLoaded } from '../load';
import { Facts } from '../parts/facts';
import { Hash } from '../parts/marks';
import { TransactionTable } from '../parts/rows';
import { Empty, Shown } from '../parts/states';
import { Trail } from '../parts/trail';
import { blockPath, useAt } from '../place';
import { useSession } from '../session';

const NONE: ReadonlySet<number> = new Set();

export function BlockPage() {
    const at = useAt();
    const { number: text = '' } = useParams();
    const { t, time } = useWords();
    const { api } = useSession();
    const loaded = useLoaded(async () => {
        const found = await api.search(at, text);
        if (found.kind !== 'block') {
            throw new Error(t('searchNothing', { text }));
        }
        return { block: found.block, transactions: await api.blockTransactions(at, found.block.block_number) };
    }, [api, at.instance, at.channel, text]);
    return (
        <>
            <Trail at={at} here={t('block', { number: text })} />
            <Shown of={loaded}>
                {({ block, transactions }) => (
                    <>
                        <Card withBorder>
                            <Group justify="space-between">
                                <Title order={4}>{t('block', { number: block.block_number })}</Title>
                                <Group gap="md">
                                    {block.block_number > 0 && (
                                        <Anchor component={Link} to={blockPath(at, block.block_number - 1)} size="sm">
                                            ← {block.block_number - 1}
                                        </Anchor>
                                    )}
                                    <Anchor component={Link} to={blockPath(at, block.block_number + 1)} size="sm">
                                        {block.block_number + 1} →
                                    </Anchor>
                                </Group>
                            </Group>
                            <Facts
                                of={[
                                    [t('time'), time(block.timestamp)],
                                    [t('hash'), <Hash key="h" value={block.block_hash_hex} />],
                                    [t('previousHash'), <Hash key="p" value={hexOf(block.previous_hash)} />],
                                    [t('dataHash'), <Hash key="d" value={hexOf(block.data_hash)} />],
                                    [t('transactionCount'), block.transaction_count],
                                ]}
                            />
                        </Card>
                        <Card withBorder mt="md" padding="sm">
                            {transactions.length ? (
                                <TransactionTable at={at} rows={transactions.map((x) => x.transaction_summary)} fresh={NONE} />
                            ) : (
                                <Empty>{t('emptyBlocks')}</Empty>
                            )}
                        </Card>
                    </>
                )}
            </Shown>
        </>
    );
}

/** BCS writes hashes in base64; Fabric's tools print them in hexadecimal, which is what people compare. */
export function hexOf(base64: string): string {
    return Array.from(atob(base64), (c) => c.charCodeAt(0).toString(16).padStart(2, '0')).join('');
}
