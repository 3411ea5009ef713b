import { Table } from '@mantine/core';
import type { ReactNode } from 'react';

/** What is known of one thing: a name and a value a line. */
export function Facts({ of }: { of: [string, ReactNode][] }) {
    return (
        <Table withRowBorders={false} verticalSpacing={6}>
            <Table.Tbody>
                {of.map(([name, value]) => (
                    <Table.Tr key={name}>
                        <Table.Th w={170} fw={500} c="dimmed" style={{ verticalAlign: 'top' }}>
                            {name}
                        </Table.Th>
                        <Table.Td>{value}</Table.Td>
                    </Table.Tr>
                ))}
            </Table.Tbody>
        </Table>
    );
}
