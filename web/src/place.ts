import { useParams } from 'react-router';

import type { At } from './api';

/** The channel that the address names. */
export function useAt(): At {
    const { instance = '', channel = '' } = useParams();
    return { instance, channel };
}

export function channelPath(at: At): string {
    return `/instances/${encodeURIComponent(at.instance)}/channels/${encodeURIComponent(at.channel)}`;
}

export function blockPath(at: At, number: number): string {
    return `${channelPath(at)}/blocks/${number}`;
}

export function transactionPath(at: At, id: string): string {
    return `${channelPath(at)}/transactions/${encodeURIComponent(id)}`;
}

export function searchPath(at: At, text: string): string {
    return `${channelPath(at)}/search?q=${encodeURIComponent(text)}`;
}
