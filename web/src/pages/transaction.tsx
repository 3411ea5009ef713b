import { Anchor, Badge, Card, Code, Group, Stack, Table, Text, Title } from '@mantine/core';
import { Link, useParams } from 'react-router';

import type { Signer, TransactionDetail } from '../api';
import { useWords } from '../language';
import { useLoaded } from '../load';
import { Facts } from '../parts/facts';
import { Hash, Outcome } from '../parts/marks';
import { Empty, Shown } from '../parts/states';
import { Trail } from '../parts/trail';
import { blockPath, useAt } from '../place';
import { useSession } from '../session';
import { outcome } from '../words/outcomes';
import { hexOf } from './block';

export function TransactionPage() {
    const at = useAt();
    const { id = '' } = useParams();
    const { t } = useWords();
    const { api } = useSession();
    const loaded = useLoaded(() => api.transaction(at, id), [api, at.instance, at.channel, id]);
    return (
        <>
            <Trail at={at} here={`${t('transaction')} ${id.slice(0, 8)}…`} />
            <Shown of={loaded}>
                {(transaction) => (
                    <Stack>
                        <Head transaction={transaction} />
                        <Reads transaction={transaction} />
                        <Writes transaction={transaction} />
                    </Stack>
                )}
            </Shown>
        </>
    );
}

function Head({ transaction }: { transaction: TransactionDetail }) {
    const at = useAt();
    const { t, time, language } = useWords();
    const row = transaction.transaction_summary;
    const called = [row.chaincode_name, transaction.arguments.map((a) => JSON.stringify(a)).join(', ')];
    return (
        <Card withBorder>
            <Group justify="space-between" mb="xs">
                <Title order={4}>{t('transaction')}</Title>
                <Outcome code={transaction.validation_code} />
            </Group>
            <Text size="sm" mb="xs">
                {outcome(transaction.validation_code, language)}
            </Text>
            <Facts
                of={[
                    ['ID', <Hash key="i" value={row.transaction_id} />],
                    [
                        t('blockNumber'),
                        <Anchor key="b" component={Link} to={blockPath(at, row.block_number)} className="number">
                            {row.block_number} · {transaction.transaction_index}
                        </Anchor>,
                    ],
                    [t('time'), time(row.timestamp)],
                    [t('type'), row.type],
                    [t('creator'), <Who key="c" of={[transaction.creator]} />],
                    [t('endorsers'), <Who key="e" of={transaction.endorsers} />],
                    [t('chaincode'), row.chaincode_name ? <Code key="f">{`${called[0]} (${called[1]})`}</Code> : '–'],
                    [t('proposalHash'), <Hash key="p" value={hexOf(transaction.proposal_hash)} />],
                    [
                        t('event'),
                        transaction.event ? (
                            <Code key="v" block>
                                {`${transaction.event.name}\n${transaction.event.payload}`}
                            </Code>
                        ) : (
                            '–'
                        ),
                    ],
                ]}
            />
        </Card>
    );
}

function Who({ of }: { of: Signer[] }) {
    if (of.length === 0) {
        return '–';
    }
    return (
        <Group gap="xs">
            {of.map((signer, index) => (
                <Badge key={`${signer.msp_id}-${signer.name}-${index}`} variant="light" tt="none" title={signer.msp_id}>
                    {signer.name ? `${signer.name} · ${shortMsp(signer.msp_id)}` : shortMsp(signer.msp_id)}
                </Badge>
            ))}
        </Group>
    );
}

/** MSP ids of instances are a 40-digit hash and `MSP`; the first digits tell organisations apart. */
function shortMsp(id: string): string {
    return id.length > 24 ? `${id.slice(0, 8)}…MSP` : id;
}

function Reads({ transaction }: { transaction: TransactionDetail }) {
    const { t } = useWords();
    const spaces = Object.entries(transaction.read_set).filter(([, reads]) => reads.length > 0);
    return (
        <Card withBorder>
            <Title order={5}>{t('reads')}</Title>
            {spaces.length === 0 && <Empty>{t('nothingRead')}</Empty>}
            {spaces.map(([space, reads]) => (
                <Table key={space} mt="xs">
                    <Table.Thead>
                        <Table.Tr>
                            <Table.Th>
                                {space} · {t('key')}
                            </Table.Th>
                            <Table.Th w={220}>{t('readVersion')}</Table.Th>
                        </Table.Tr>
                    </Table.Thead>
                    <Table.Tbody>
                        {reads.map((read) => (
                            <Table.Tr key={read.key}>
                                <Table.Td className="mono">{read.key}</Table.Td>
                                <Table.Td className="number">
                                    {read.version ? `${read.version.block_num}, ${read.version.tx_num}` : t('absent')}
                                </Table.Td>
                            </Table.Tr>
                        ))}
                    </Table.Tbody>
                </Table>
            ))}
        </Card>
    );
}

function Writes({ transaction }: { transaction: TransactionDetail }) {
    const { t } = useWords();
    const spaces = Object.entries(transaction.write_set).filter(([, writes]) => writes.length > 0);
    return (
        <Card withBorder>
            <Title order={5}>{t('writes')}</Title>
            {spaces.length === 0 && <Empty>{t('nothingWritten')}</Empty>}
            {spaces.map(([space, writes]) => (
                <Table key={space} mt="xs">
                    <Table.Thead>
                        <Table.Tr>
                            <Table.Th w="35%">
                                {space} · {t('key')}
                            </Table.Th>
                            <Table.Th>{t('value')}</Table.Th>
                        </Table.Tr>
                    </Table.Thead>
                    <Table.Tbody>
                        {writes.map((write) => (
                            <Table.Tr key={write.key}>
                                <Table.Td className="mono" style={{ verticalAlign: 'top' }}>
                                    {write.key}
                                </Table.Td>
                                <Table.Td>
                                    {write.is_delete ? (
                                        <Badge color="gray" variant="light" tt="none">
                                            {t('deleted')}
                                        </Badge>
                                    ) : (
                                        <pre className="value">{write.is_base64 ? write.value : readable(write.value)}</pre>
                                    )}
                                </Table.Td>
                            </Table.Tr>
                        ))}
                    </Table.Tbody>
                </Table>
            ))}
        </Card>
    );
}

/** JSON with line breaks; any other text as it stands. */
export function readable(value: string): string {
    try {
        return JSON.stringify(JSON.parse(value), null, 2);
    } catch {
        return value;
    }
}
