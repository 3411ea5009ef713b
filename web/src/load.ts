import { useCallback, useEffect, useState } from 'react';

import { ApiError } from './api';
import { useSession } from './session';

export type Loaded<Value> =
    | { state: 'loading' }
    | { state: 'failed'; error: Error; again(): void }
    | { state: 'ready'; value: Value; again(): void };

/** Loads a value, again whenever one of `inputs` changes. A session that has ended signs out. */
export function useLoaded<Value>(load: () => Promise<Value>, inputs: unknown[]): Loaded<Value> {
    const { signOut } = useSession();
    const [result, setResult] = useState<Loaded<Value>>({ state: 'loading' });
    const [round, setRound] = useState(0);
    const again = useCallback(() => setRound((r) => r + 1), []);
    useEffect(() => {
        let current = true;
        load().then(
            (value) => current && setResult({ state: 'ready', value, again }),
            (error: Error) => {
                if (!current) {
                    return;
                }
                if (error instanceof ApiError && error.status === 401) {
                    signOut();
                } else {
                    setResult({ state: 'failed', error, again });
                }
            },
        );
        return () => {
            current = false;
        };
    }, [...inputs, round]);
    return result;
}
