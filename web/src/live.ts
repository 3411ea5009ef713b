import { useEffect, useState } from 'react';

import { ApiError, type At, type LiveBlock } from './api';
import { useSession } from './session';

/** The most blocks kept while a page stays open. */
const KEPT = 50;
const RETRY_MS = 1_000;

/** Whether blocks are being told: not yet, yes, or not any more. */
export type Connection = 'opening' | 'live' | 'lost';

export interface Live {
    connection: Connection;
    /** Blocks that came in while the page was open, newest first. */
    recent: LiveBlock[];
    /** Grows when blocks may have been missed: lists load again with it. */
    round: number;
}

/** Follows a channel while the page is open, and opens the stream again whenever it ends. */
export function useLive(at: At): Live {
    const { api, expired } = useSession();
    const [connection, setConnection] = useState<Connection>('opening');
    const [recent, setRecent] = useState<LiveBlock[]>([]);
    const [round, setRound] = useState(0);
    useEffect(() => {
        const stop = new AbortController();
        const onMissed = () => setRound((r) => r + 1);
        const onOpen = () => {
            setConnection('live');
            onMissed();
        };
        const onBlock = (block: LiveBlock) => setRecent((before) => added(before, block));
        const follow = async () => {
            while (!stop.signal.aborted) {
                const end = await api.live(at, { onOpen, onBlock, onMissed }, stop.signal).catch((e: unknown) => e);
                if (stop.signal.aborted) {
                    return;
                }
                if (end instanceof ApiError && end.status === 401) {
                    return expired();
                }
                setConnection('lost');
                await new Promise((wake) => setTimeout(wake, RETRY_MS));
            }
        };
        void follow();
        return () => {
            stop.abort();
            setConnection('opening');
            setRecent([]);
        };
    }, [api, at.instance, at.channel]);
    return { connection, recent, round };
}

/** `before` with one more block, each once, newest first. */
export function added(before: LiveBlock[], fresh: LiveBlock): LiveBlock[] {
    const others = before.filter((b) => b.block.block_number !== fresh.block.block_number);
    return [fresh, ...others].sort((a, b) => b.block.block_number - a.block.block_number).slice(0, KEPT);
}

/** What came in since a list was loaded: only what is newer than all of it, so that nothing stands twice or out of order. */
export function since<Row extends { block_number: number }>(listed: Row[], live: Row[]): Row[] {
    const newest = listed[0]?.block_number ?? -1;
    return live.filter((row) => row.block_number > newest);
}
