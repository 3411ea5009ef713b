import { useEffect, useState } from 'react';

import type { At, LiveBlock } from './api';
import { useSession } from './session';

/** The most blocks kept while a page stays open. */
const KEPT = 50;
const RETRY_MS = 2_000;

/** Follows a channel while the page is open. `recent` has the newest block first. */
export function useLive(at: At): { connected: boolean; recent: LiveBlock[] } {
    const { api } = useSession();
    const [connected, setConnected] = useState(false);
    const [recent, setRecent] = useState<LiveBlock[]>([]);
    useEffect(() => {
        const stop = new AbortController();
        const keep = (block: LiveBlock) => setRecent((before) => added(before, block));
        const follow = async () => {
            while (!stop.signal.aborted) {
                // A stream that ends or fails is opened again; the lists reload what was missed.
                await api.live(at, keep, () => setConnected(true), stop.signal).catch(() => undefined);
                setConnected(false);
                await new Promise((wake) => setTimeout(wake, RETRY_MS));
            }
        };
        void follow();
        return () => {
            stop.abort();
            setRecent([]);
        };
    }, [api, at.instance, at.channel]);
    return { connected, recent };
}

/** `before` with one more block, each once, newest first. */
export function added(before: LiveBlock[], fresh: LiveBlock): LiveBlock[] {
    const others = before.filter((b) => b.block.block_number !== fresh.block.block_number);
    return [fresh, ...others].sort((a, b) => b.block.block_number - a.block.block_number).slice(0, KEPT);
}
