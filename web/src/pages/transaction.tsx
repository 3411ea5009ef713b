import { Anchor, Badge, Card, Group, Stack, Table, Text, Title } from '@mantine/core';
import type { ReactNode } from 'react';
import { Link, useParams } from 'react-router';

import type { At, Signer, TransactionDetail } from '../api';
import { useWords, type Words } from '../language';
import { orNothing, useLoaded } from '../load';
import { Facts } from '../parts/facts';
import { Hash, Outcome } from '../parts/marks';
import { Empty, Shown } from '../parts/states';
import { Trail } from '../parts/trail';
import { Value } from '../parts/value';
import { blockPath, useAt } from '../place';
import { useSession } from '../session';
import { useTitle } from '../title';
import { outcome } from '../words/outcomes';
import { kind } from '../words/states';
import { hexOf } from './block';

export function TransactionPage() {
    const at = useAt();
    const { id = '' } = useParams();
    const { t } = useWords();
    const { api } = useSession();
    const loaded = useLoaded(
        async () => (/^[0-9A-Za-z._-]{1,128}$/.test(id) ? await orNothing(api.transaction(at, id)) : undefined),
        [api, at.instance, at.channel, id],
    );
    const name = `${t('transaction')} ${shortened(id)}`;
    useTitle(name, at.channel);
    return (
        <>
            <Trail at={at} here={name} />
            <Shown of={loaded}>
                {(transaction) =>
                    transaction ? (
                        <Stack>
                            <Head at={at} transaction={transaction} />
                            <Reads of={transaction.read_set} />
                            <Writes of={transaction.write_set} isValid={transaction.validation_code === 'VALID'} />
                        </Stack>
                    ) : (
                        <Empty>{t('noTransaction', { id })}</Empty>
                    )
                }
            </Shown>
        </>
    );
}

function shortened(id: string): string {
    return id.length > 16 ? `${id.slice(0, 8)}…` : id;
}

function Head({ at, transaction }: { at: At; transaction: TransactionDetail }) {
    const { t, time, language } = useWords();
    const row = transaction.transaction_summary;
    const isValid = transaction.validation_code === 'VALID';
    return (
        <Card withBorder>
            <Title order={1} size="h4" mb="xs">
                {t('transaction')}
            </Title>
            <Group gap="xs" mb="md">
                <Outcome code={transaction.validation_code} />
                <Text size="sm" fw={isValid ? undefined : 600}>
                    {outcome(transaction.validation_code, language)}
                </Text>
            </Group>
            <Facts
                of={[
                    ['ID', <Hash key="i" value={row.transaction_id} />],
                    [
                        t('blockNumber'),
                        <Anchor key="b" component={Link} to={blockPath(at, row.block_number)} size="sm" className="number">
                            {t('position', { block: row.block_number, index: transaction.transaction_index })}
                        </Anchor>,
                    ],
                    [t('time'), time(row.timestamp)],
                    [t('type'), kind(row.type, language)],
                    [t('creator'), <Who key="c" of={[transaction.creator]} />],
                    [t('endorsers'), <Who key="e" of={transaction.endorsers} />],
                    ...(row.chaincode_name ? called(transaction, t) : []),
                    [t('proposalHash'), <Hash key="p" value={hexOf(transaction.proposal_hash)} />],
                ]}
            />
        </Card>
    );
}

/** What was called, and what it answered. */
function called(transaction: TransactionDetail, t: Words['t']): [string, ReactNode][] {
    const { event, response_payload: payload } = transaction;
    const given = transaction.arguments.map((argument, index) => <Value key={index} of={argument} />);
    return [
        [t('chaincode'), transaction.transaction_summary.chaincode_name],
        [t('function'), <span key="f" className="mono">{transaction.function}</span>],
        [t('arguments'), given.length ? <Stack key="a" gap={4} children={given} /> : '–'],
        [
            t('response'),
            <Stack key="r" gap={4}>
                <span className="number">{transaction.response_status}</span>
                {payload.length > 0 && <Value of={payload} />}
            </Stack>,
        ],
        [
            t('event'),
            event ? (
                <Stack key="v" gap={4}>
                    <Text size="sm" fw={600}>
                        {event.name}
                    </Text>
                    <Value of={event.payload} />
                </Stack>
            ) : (
                '–'
            ),
        ],
    ];
}

/** Who signed: the organisation, and the name in the certificate. */
function Who({ of }: { of: Signer[] }) {
    const signed = of.filter((signer) => signer.msp_id || signer.name);
    if (signed.length === 0) {
        return '–';
    }
    return (
        <Stack gap={6}>
            {signed.map((signer, index) => (
                <Group key={`${signer.msp_id}-${signer.name}-${index}`} gap="xs">
                    <Badge variant="light" tt="none" title={signer.msp_id}>
                        {withoutHash(signer.organization_name)}
                    </Badge>
                    <Text span className="mono" title={signer.name}>
                        {withoutHash(signer.name)}
                    </Text>
                </Group>
            ))}
        </Stack>
    );
}

/** BCS puts a hash of 40 digits into names; the first digits tell them apart. */
export function withoutHash(name: string): string {
    return name.replace(/([0-9a-f]{8})[0-9a-f]{32}/g, '$1…');
}

function Sets<Item>({ title, nothing, note, of, columns, row }: SetsProps<Item>) {
    const { t } = useWords();
    const spaces = Object.entries(of).filter(([, items]) => items.length > 0);
    return (
        <Card withBorder>
            <Title order={2} size="h5">
                {title}
            </Title>
            {spaces.length === 0 && <Empty>{nothing}</Empty>}
            {spaces.length > 0 && note && (
                <Text size="sm" mt={4}>
                    {note}
                </Text>
            )}
            {spaces.map(([space, items]) => (
                <Table key={space} mt="xs" layout="fixed" aria-label={`${title} · ${space}`}>
                    <Table.Thead>
                        <Table.Tr>
                            <Table.Th w="40%">
                                {space} · {t('key')}
                            </Table.Th>
                            <Table.Th>{columns}</Table.Th>
                        </Table.Tr>
                    </Table.Thead>
                    <Table.Tbody>{items.map(row)}</Table.Tbody>
                </Table>
            ))}
        </Card>
    );
}

interface SetsProps<Item> {
    title: string;
    /** Said where there is none. */
    nothing: string;
    /** Said of all there is. */
    note?: string;
    /** By chaincode. */
    of: Record<string, Item[]>;
    /** What stands beside the key. */
    columns: string;
    row: (item: Item) => ReactNode;
}

function Key({ children }: { children: string }) {
    return (
        <Table.Td style={{ verticalAlign: 'top' }}>
            <span className="mono">{children}</span>
        </Table.Td>
    );
}

function Reads({ of }: { of: TransactionDetail['read_set'] }) {
    const { t } = useWords();
    return (
        <Sets
            title={t('reads')}
            nothing={t('nothingRead')}
            of={of}
            columns={t('readVersion')}
            row={(read) => (
                <Table.Tr key={read.key}>
                    <Key>{read.key}</Key>
                    <Table.Td className="number" style={{ verticalAlign: 'top' }}>
                        {read.version
                            ? t('position', { block: read.version.block_num, index: read.version.tx_num })
                            : t('absent')}
                    </Table.Td>
                </Table.Tr>
            )}
        />
    );
}

function Writes({ of, isValid }: { of: TransactionDetail['write_set']; isValid: boolean }) {
    const { t } = useWords();
    return (
        <Sets
            title={t('writes')}
            nothing={t('nothingWritten')}
            note={isValid ? undefined : t('notApplied')}
            of={of}
            columns={t('value')}
            row={(write) => (
                <Table.Tr key={write.key}>
                    <Key>{write.key}</Key>
                    <Table.Td style={{ verticalAlign: 'top' }}>
                        {write.is_delete ? (
                            <Badge color="gray" variant="light" tt="none">
                                {t('deleted')}
                            </Badge>
                        ) : (
                            <Value of={write} />
                        )}
                    </Table.Td>
                </Table.Tr>
            )}
        />
    );
}
