import { useWords } from '../language';
import { Empty } from '../parts/states';

export function Missing() {
    const { t } = useWords();
    return <Empty>{t('notFound')}</Empty>;
}
