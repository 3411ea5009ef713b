import { Anchor, Table, Text } from '@mantine/core';
import { Link } from 'react-router';

import type { At, BlockRow, TransactionRow } from '../api';
import { useWords } from '../language';
import { blockPath, transactionPath } from '../place';
import { kind } from '../words/states';
import { Hash, Outcome } from './marks';

/** Blocks, newest first. Those whose number is in `fresh` have just come in. */
export function BlockTable({ at, rows, fresh }: { at: At; rows: BlockRow[]; fresh: ReadonlySet<number> }) {
    const { t, time } = useWords();
    return (
        <Table.ScrollContainer minWidth={560} type="native">
            <Table highlightOnHover verticalSpacing="xs">
                <Table.Thead>
                    <Table.Tr>
                        <Table.Th>{t('blockNumber')}</Table.Th>
                        <Table.Th>{t('hash')}</Table.Th>
                        <Table.Th ta="right">{t('transactionCount')}</Table.Th>
                        <Table.Th>{t('time')}</Table.Th>
                    </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                    {rows.map((block) => (
                        <Table.Tr key={block.block_number} className={fresh.has(block.block_number) ? 'arrived' : undefined}>
                            <Table.Td>
                                <Anchor component={Link} to={blockPath(at, block.block_number)} size="sm" fw={600} className="number">
                                    {block.block_number}
                                </Anchor>
                            </Table.Td>
                            <Table.Td>
                                <Hash value={block.block_hash_hex} short />
                            </Table.Td>
                            <Table.Td ta="right" className="number">
                                {block.transaction_count}
                            </Table.Td>
                            <Table.Td>
                                <Text size="sm" c="dimmed" className="number">
                                    {time(block.timestamp)}
                                </Text>
                            </Table.Td>
                        </Table.Tr>
                    ))}
                </Table.Tbody>
            </Table>
        </Table.ScrollContainer>
    );
}

interface TransactionTableProps {
    at: At;
    rows: TransactionRow[];
    /** Blocks that have just come in. */
    fresh?: ReadonlySet<number>;
    /** Whether the block stands in every row: not where the page is about one. */
    withBlock?: boolean;
}

/** Transactions in the order they are given. */
export function TransactionTable({ at, rows, fresh, withBlock = true }: TransactionTableProps) {
    const { t, time, language } = useWords();
    return (
        <Table.ScrollContainer minWidth={720} type="native">
            <Table highlightOnHover verticalSpacing="xs">
                <Table.Thead>
                    <Table.Tr>
                        <Table.Th>{t('transaction')}</Table.Th>
                        <Table.Th>{t('outcome')}</Table.Th>
                        <Table.Th>{t('chaincode')}</Table.Th>
                        <Table.Th>{t('creator')}</Table.Th>
                        {withBlock && <Table.Th>{t('blockNumber')}</Table.Th>}
                        <Table.Th>{t('time')}</Table.Th>
                    </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                    {rows.map((row, index) => (
                        <Table.Tr
                            key={row.transaction_id || `${row.block_number}-${index}`}
                            className={fresh?.has(row.block_number) ? 'arrived' : undefined}
                        >
                            <Table.Td>
                                {row.transaction_id ? (
                                    <Hash value={row.transaction_id} to={transactionPath(at, row.transaction_id)} short />
                                ) : (
                                    kind(row.type, language)
                                )}
                            </Table.Td>
                            <Table.Td>
                                <Outcome code={row.validation_code} />
                            </Table.Td>
                            <Table.Td>{row.chaincode_name || kind(row.type, language)}</Table.Td>
                            <Table.Td>
                                <Text size="sm" title={row.creator_msp}>
                                    {row.organization_name || row.creator_msp || '–'}
                                </Text>
                            </Table.Td>
                            {withBlock && (
                                <Table.Td>
                                    <Anchor component={Link} to={blockPath(at, row.block_number)} size="sm" className="number">
                                        {row.block_number}
                                    </Anchor>
                                </Table.Td>
                            )}
                            <Table.Td>
                                <Text size="sm" c="dimmed" className="number">
                                    {time(row.timestamp)}
                                </Text>
                            </Table.Td>
                        </Table.Tr>
                    ))}
                </Table.Tbody>
            </Table>
        </Table.ScrollContainer>
    );
}
