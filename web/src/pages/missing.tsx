import { Anchor } from '@mantine/core';
import { Link } from 'react-router';

import { useWords } from '../language';
import { Empty } from '../parts/states';
import { useTitle } from '../title';

export function Missing() {
    const { t } = useWords();
    useTitle(t('notFound'));
    return (
        <Empty>
            {t('notFound')}{' '}
            <Anchor component={Link} to="/" underline="always">
                {t('goToInstances')}
            </Anchor>
        </Empty>
    );
}
