import { Navigate, useSearchParams } from 'react-router';

import { useWords } from '../language';
import { orNothing, useLoaded } from '../load';
import { Empty, Shown } from '../parts/states';
import { Trail } from '../parts/trail';
import { blockPath, transactionPath, useAt } from '../place';
import { useSession } from '../session';
import { useTitle } from '../title';

/** Goes to the one thing that the text names, or says that nothing has it. */
export function Search() {
    const at = useAt();
    const [query] = useSearchParams();
    const text = query.get('q')?.trim() ?? '';
    const { t } = useWords();
    const { api } = useSession();
    const found = useLoaded(
        async () => (couldBeFound(text) ? await orNothing(api.search(at, text)) : undefined),
        [api, at.instance, at.channel, text],
    );
    useTitle(text, at.channel);
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
                            return <Empty>{t(couldBeFound(text) ? 'searchNothing' : 'searchOdd', { text })}</Empty>;
                    }
                }}
            </Shown>
        </>
    );
}

/** Whether text has the form of a block number, of a hash in hexadecimal or base64, or of a transaction id. */
export function couldBeFound(text: string): boolean {
    return /^\d{1,19}$/.test(text) || /^[0-9a-f]{64}$/i.test(text) || /^[A-Za-z0-9+/]{43}=?$/.test(text);
}
