import { afterEach, describe, expect, test, vi } from 'vitest';

import { Api, type LiveBlock, tell, Unreachable } from './api';
import { added, since } from './live';
import { hexOf } from './pages/block';
import { couldBeFound } from './pages/search';
import { withoutHash } from './pages/transaction';
import { bytesOf, readable } from './parts/value';
import { chinese } from './words/zh';
import { english } from './words/en';
import { outcome } from './words/outcomes';
import { refusal } from './words/refusals';
import { kind, status } from './words/states';

const AT = { instance: 'i', channel: 'c' };
const api = new Api({ token: 't', expire_time: 0, user: 'u', project_id: 'p' });

function live(number: number): LiveBlock {
    return { block: { block_number: number } as LiveBlock['block'], transactions: [] };
}

afterEach(() => {
    vi.unstubAllGlobals();
    vi.useRealTimers();
});

describe('server-sent events', () => {
    function heard(event: string) {
        const listener = { onBlock: vi.fn(), onMissed: vi.fn() };
        tell(listener, event);
        return { blocks: listener.onBlock.mock.calls.map((call) => call[0]), missed: listener.onMissed.mock.calls.length };
    }
    test('a block event carries a block', () => {
        const event = 'event: block\ndata: {"block":{"block_number":7},"transactions":[]}';
        expect(heard(event)).toEqual({ blocks: [live(7)], missed: 0 });
    });
    test('a page that was too slow is told', () => {
        expect(heard('event: skipped\ndata: 3')).toEqual({ blocks: [], missed: 1 });
    });
    test('comments and other events are passed over', () => {
        const nothing = { blocks: [], missed: 0 };
        expect(heard(': keep alive')).toEqual(nothing);
        expect(heard('event: other\ndata: {}')).toEqual(nothing);
        expect(heard('data: {"x":"event: block"}')).toEqual(nothing);
    });
    test('an event may come in pieces', async () => {
        const text = 'event: block\ndata: {"block":{"block_number":1},"transactions":[]}\n\n: still here\n\n';
        const pieces = [text.slice(0, 9), text.slice(9, 40), text.slice(40)].map((piece) => new TextEncoder().encode(piece));
        const body = new ReadableStream<Uint8Array>({
            start(controller) {
                pieces.forEach((piece) => controller.enqueue(piece));
                controller.close();
            },
        });
        vi.stubGlobal('fetch', async () => new Response(body));
        const onBlock = vi.fn();
        const onOpen = vi.fn();
        await api.live(AT, { onOpen, onBlock, onMissed: vi.fn() }, new AbortController().signal);
        expect(onOpen).toHaveBeenCalledOnce();
        expect(onBlock.mock.calls).toEqual([[live(1)]]);
    });
    test('a stream on which nothing is heard for long is given up', async () => {
        vi.useFakeTimers();
        const never = (_: string, { signal }: { signal: AbortSignal }) =>
            new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
        vi.stubGlobal('fetch', never);
        const ended = vi.fn();
        const listener = { onOpen: vi.fn(), onBlock: vi.fn(), onMissed: vi.fn() };
        const following = api.live(AT, listener, new AbortController().signal).catch(ended);
        await vi.advanceTimersByTimeAsync(30_000);
        expect(ended).not.toHaveBeenCalled();
        await vi.advanceTimersByTimeAsync(30_000);
        await following;
        expect(ended).toHaveBeenCalledOnce();
    });
});

test('a service that is not there is told apart from one that refuses', async () => {
    vi.stubGlobal('fetch', () => Promise.reject(new TypeError('Failed to fetch')));
    await expect(api.instances()).rejects.toBeInstanceOf(Unreachable);
    vi.stubGlobal('fetch', async () => Response.json({ error_code: 'BCS.4010401', error_msg: 'no' }, { status: 401 }));
    await expect(api.instances()).rejects.toMatchObject({ status: 401, code: 'BCS.4010401', message: 'no' });
});

test('blocks that come in twice or out of order stand once, newest first', () => {
    const numbers = [3, 5, 4, 5].reduce<LiveBlock[]>((all, n) => added(all, live(n)), []);
    expect(numbers.map((b) => b.block.block_number)).toEqual([5, 4, 3]);
});

test('of what came in live, a list shows only what is newer than itself', () => {
    const rows = (...numbers: number[]) => numbers.map((n) => ({ block_number: n }));
    expect(since(rows(20, 19), rows(22, 21, 20, 3))).toEqual(rows(22, 21));
    expect(since([], rows(1, 0))).toEqual(rows(1, 0));
});

test('base64 without padding becomes hexadecimal', () => {
    expect(hexOf('AAH/')).toBe('0001ff');
    expect(hexOf('/w')).toBe('ff');
});

test('JSON values are laid out, others left alone', () => {
    expect(readable('{"a":1}')).toBe('{\n  "a": 1\n}');
    expect(readable('plain')).toBe('plain');
    expect(readable('1e3')).toBe('1e3');
    expect(readable('{broken')).toBe('{broken');
});

test('bytes are counted as they were written, not as they are shown', () => {
    expect(bytesOf({ value: '资产', is_base64: false, length: 6 })).toBe(6);
    for (const [value, length] of [['/w', 1], ['AAE', 2], ['AAH/', 3]] as const) {
        expect(bytesOf({ value, is_base64: true, length }), value).toBe(length);
    }
});

test('what has no form of a number, hash or id is not looked for', () => {
    for (const text of ['0', '12', 'ab'.repeat(32), 'AB'.repeat(32), `${'A'.repeat(43)}=`, 'A'.repeat(43)]) {
        expect(couldBeFound(text), text).toBe(true);
    }
    for (const text of ['', '-1', '1.5', 'abc', 'x'.repeat(64), '<script>', '9'.repeat(20)]) {
        expect(couldBeFound(text), text).toBe(false);
    }
});

test('hashes in names are shortened', () => {
    expect(withoutHash(`peer-${'0123456789'.repeat(4)}-0`)).toBe('peer-01234567…-0');
    expect(withoutHash('User1')).toBe('User1');
});

test('both languages have the same places in every sentence', () => {
    const places = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();
    for (const name of Object.keys(english) as (keyof typeof english)[]) {
        expect(places(chinese[name]), name).toEqual(places(english[name]));
    }
});

test('every validation code has words in both languages', () => {
    expect(outcome('MVCC_READ_CONFLICT', 'en')).toContain('submit it again');
    expect(outcome('MVCC_READ_CONFLICT', 'zh')).toContain('重新提交');
    expect(outcome('SOMETHING_NEW', 'en')).toBe('SOMETHING_NEW');
});

test('states, kinds and refusals have words', () => {
    expect(status('Normal', 'zh')).toBe('正常');
    expect(status('SomethingNew', 'zh')).toBe('未知');
    expect(kind('CONFIG', 'en')).toBe('Channel configuration');
    expect(kind('SOMETHING_NEW', 'en')).toBe('SOMETHING_NEW');
    expect(refusal('BCS.4040404', 'zh')).toContain('没有找到');
    expect(refusal('BCS.4040404', 'en')).toBeUndefined();
});
