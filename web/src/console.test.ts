import { describe, expect, test } from 'vitest';

import { blockOf, type LiveBlock } from './api';
import { added } from './live';
import { hexOf } from './pages/block';
import { readable } from './pages/transaction';
import { chinese } from './words/zh';
import { english } from './words/en';
import { outcome } from './words/outcomes';

function live(number: number): LiveBlock {
    return { block: { block_number: number } as LiveBlock['block'], transactions: [] };
}

describe('server-sent events', () => {
    test('a block event carries a block', () => {
        expect(blockOf('event: block\ndata: {"block":{"block_number":7},"transactions":[]}')).toEqual(live(7));
    });
    test('comments and other events are passed over', () => {
        expect(blockOf(': keep alive')).toBeUndefined();
        expect(blockOf('event: other\ndata: {}')).toBeUndefined();
        expect(blockOf('data: {"x":"event: block"}')).toBeUndefined();
    });
});

test('blocks that come in twice or out of order stand once, newest first', () => {
    const numbers = [3, 5, 4, 5].reduce<LiveBlock[]>((all, n) => added(all, live(n)), []);
    expect(numbers.map((b) => b.block.block_number)).toEqual([5, 4, 3]);
});

test('base64 without padding becomes hexadecimal', () => {
    expect(hexOf('AAH/')).toBe('0001ff');
    expect(hexOf('/w')).toBe('ff');
});

test('JSON values are laid out, others left alone', () => {
    expect(readable('{"a":1}')).toBe('{\n  "a": 1\n}');
    expect(readable('plain')).toBe('plain');
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
