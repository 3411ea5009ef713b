import { Anchor, Card, Group, Title } from '@mantine/core';
import { Link, useParams } from 'react-router';

import type { At, BlockRow } from '../api';
import { useWords } from '../language';
import { orNothing, useLoaded } from '../load';
import { Facts } from '../parts/facts';
import { Hash } from '../parts/marks';
import { TransactionTable } from '../parts/rows';
import { Empty, Shown } from '../parts/states';
import { Trail } from '../parts/trail';
import { blockPath, useAt } from '../place';
import { useSession } from '../session';
import { useTitle } from '../title';

export function BlockPage() {
    const at = useAt();
    const { number: text = '' } = useParams();
    const { t } = useWords();
    const { api } = useSession();
    const number = /^\d{1,15}$/.test(text) ? Number(text) : undefined;
    const loaded = useLoaded(async () => {
        const found = number === undefined ? undefined : await orNothing(api.search(at, text));
        if (found?.kind !== 'block') {
            return undefined;
        }
        const [transactions, { count }] = await Promise.all([
            api.blockTransactions(at, found.block.block_number),
            api.blocks(at, 0, 1),
        ]);
        return { block: found.block, transactions, count };
    }, [api, at.instance, at.channel, text]);
    useTitle(t('block', { number: text }), at.channel);
    return (
        <>
            <Trail at={at} here={t('block', { number: text })} />
            <Shown of={loaded}>
                {(value) =>
                    value ? (
                        <>
                            <Head at={at} block={value.block} height={value.count} />
                            <Card withBorder mt="md" padding="sm">
                                <TransactionTable at={at} rows={value.transactions.map((x) => x.transaction_summary)} withBlock={false} />
                            </Card>
                        </>
                    ) : (
                        <Empty>{t('noBlock', { number: text })}</Empty>
                    )
                }
            </Shown>
        </>
    );
}

function Head({ at, block, height }: { at: At; block: BlockRow; height: number }) {
    const { t, time } = useWords();
    const { block_number: number } = block;
    return (
        <Card withBorder>
            <Group justify="space-between" mb="sm">
                <Title order={1} size="h4">
                    {t('block', { number })}
                </Title>
                <Group gap="md">
                    {number > 0 && (
                        <Anchor component={Link} to={blockPath(at, number - 1)} size="sm" aria-label={t('block', { number: number - 1 })}>
                            ← {number - 1}
                        </Anchor>
                    )}
                    {number + 1 < height && (
                        <Anchor component={Link} to={blockPath(at, number + 1)} size="sm" aria-label={t('block', { number: number + 1 })}>
                            {number + 1} →
                        </Anchor>
                    )}
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
    );
}

/** BCS writes hashes in base64; Fabric's tools print them in hexadecimal, which is what people compare. */
export function hexOf(base64: string): string {
    return Array.from(atob(base64), (c) => c.charCodeAt(0).toString(16).padStart(2, '0')).join('');
}
