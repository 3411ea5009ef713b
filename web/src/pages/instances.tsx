import { Anchor, Button, Card, Group, SimpleGrid, Stack, Text, Title } from '@mantine/core';
import { Link } from 'react-router';

import type { Instance, InstanceRow } from '../api';
import { useWords } from '../language';
import { useLoaded } from '../load';
import { Figure, Status } from '../parts/marks';
import { Prose } from '../parts/prose';
import { Empty, Shown } from '../parts/states';
import { channelPath } from '../place';
import { useSession } from '../session';
import { useTitle } from '../title';

export function Instances() {
    const { t } = useWords();
    const { api } = useSession();
    const instances = useLoaded(() => api.instances(), [api]);
    useTitle(t('instances'));
    return (
        <>
            <Title order={1} size="h3" mb="md">
                {t('instances')}
            </Title>
            <Shown of={instances}>
                {({ blockchains }) =>
                    blockchains?.length ? (
                        <Stack>
                            {blockchains.map((row) => (
                                <InstanceCard key={row.id} row={row} />
                            ))}
                        </Stack>
                    ) : (
                        <Empty>
                            <Prose>{t('noInstances')}</Prose>
                        </Empty>
                    )
                }
            </Shown>
        </>
    );
}

function InstanceCard({ row }: { row: InstanceRow }) {
    const { api } = useSession();
    const instance = useLoaded(() => api.instance(row.id), [api, row.id]);
    return (
        <Card withBorder padding="lg">
            <Shown of={instance}>{(value) => <InstanceFacts instance={value} />}</Shown>
        </Card>
    );
}

function InstanceFacts({ instance }: { instance: Instance }) {
    const { t, time } = useWords();
    const { basic_info: basic, channels, peer_info: orgs } = instance;
    const groups = orgs ?? [];
    return (
        <Stack>
            <Group justify="space-between">
                <Title order={2} size="h4">
                    {basic.name}
                </Title>
                <Status value={basic.process_status || basic.status} />
            </Group>
            <SimpleGrid cols={{ base: 2, sm: 5 }}>
                <Figure label={t('consensus')}>{basic.consensus}</Figure>
                <Figure label={t('signature')}>{basic.sign_algorithm}</Figure>
                <Figure label={t('version')}>{basic.version}</Figure>
                <Figure label={t('peers')}>{groups.map((g) => `${g.name} ${g.status_detail}`).join(' · ') || '–'}</Figure>
                <Figure label={t('created')}>{time(basic.created_time)}</Figure>
            </SimpleGrid>
            {channels?.length ? (
                channels.map((channel) => {
                    const path = channelPath({ instance: basic.id, channel: channel.name });
                    return (
                        <Group key={channel.name} justify="space-between">
                            <Text size="sm">
                                {t('channels')}{' '}
                                <Anchor component={Link} to={path} fw={600}>
                                    {channel.name}
                                </Anchor>{' '}
                                <Text span c="dimmed">
                                    {channel.org_names.join(', ')}
                                </Text>
                            </Text>
                            <Button component={Link} to={path} variant="light" size="compact-md">
                                {t('openExplorer')}
                            </Button>
                        </Group>
                    );
                })
            ) : (
                <Empty>{t('noChannels')}</Empty>
            )}
        </Stack>
    );
}
