import { Navigate, useSearchParams } from 'react-router';

import { ApiError } from '../api';
import { useWords } from '../language';
import { useLoaded } from '../load';
import { Empty, Shown } from '../parts/states';
import { Trail } from '../parts/trail';
import { blockPath, transactionPath, useAt } from '../place';
import { useSession } from '../session';

/** Goes to the one thing that the text names, or says that nothing has it. */
export function Search() {
    const at = useAt();
    const [query] = useSearchParams();
    const text = query.get('q') ?? '';
    const { t } = useWords();
    const { api } = useSession();
    const found = useLoaded(async () => {
        try {
            return await api.search(at, text);
        } catch (error) {
            if (error instanceof ApiError && error.status === 404) {
                return undefined;
            }
            throw error;
        }
    }, [api, at.instance, at.channel, text]);
    return (
        <>
            <Trail key={text} at={at} text={text} />
            <Shown of={found}>
                {(value) => {
                    switch (value?.kind) {
                        case 'block':
                            return <Navigate replace to={blockPath(at, value.block.block_number)} />;
                        case 'transaction':
                            return <Navigate replace to={transactionPath(at, value.transaction.transaction_summary.transaction_id)} />;
                        default:
                            return <Empty>{t('searchNothing', { text })}</Empty>;
                    }
                }}
            </Shown>
        </>
    );
}
