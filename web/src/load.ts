import { useCallback, useEffect, useRef, useState } from 'react';

import { ApiError, Unreachable } from './api';
import { useSession } from './session';

export type Loaded<Value> =
    | { state: 'loading' }
    | { state: 'failed'; error: Error; again(): void }
    | { state: 'ready'; value: Value; again(): void };

const RETRY_MS = 1_000;

/**
 * Loads the value that `inputs` name, again whenever `news` changes, and again by itself while the service cannot be reached: what
 * is shown of the same inputs stays meanwhile. A session that has ended signs out.
 */
export function useLoaded<Value>(load: () => Promise<Value>, inputs: unknown[], news?: unknown): Loaded<Value> {
    const { expired } = useSession();
    const [result, setResult] = useState<Loaded<Value>>({ state: 'loading' });
    const [round, setRound] = useState(0);
    const shown = useRef<unknown[]>(undefined);
    const again = useCallback(() => setRound((r) => r + 1), []);
    useEffect(() => {
        let current = true;
        let retry: ReturnType<typeof setTimeout> | undefined;
        load().then(
            (value) => {
                if (current) {
                    shown.current = inputs;
                    setResult({ state: 'ready', value, again });
                }
            },
            (error: Error) => {
                if (!current) {
                    return;
                }
                if (error instanceof ApiError && error.status === 401) {
                    expired();
                    return;
                }
                if (error instanceof Unreachable) {
                    retry = setTimeout(again, RETRY_MS);
                    if (inputs.every((input, index) => input === shown.current?.[index])) {
                        return;
                    }
                }
                setResult({ state: 'failed', error, again });
            },
        );
        return () => {
            current = false;
            clearTimeout(retry);
        };
    }, [...inputs, news, round]);
    return result;
}

/** `undefined` where the service says that there is no such thing. */
export async function orNothing<Value>(load: Promise<Value>): Promise<Value | undefined> {
    try {
        return await load;
    } catch (error) {
        if (error instanceof ApiError && error.status === 404) {
            return undefined;
        }
        throw error;
    }
}
