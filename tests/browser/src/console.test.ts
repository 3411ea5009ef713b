import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import type { Browser } from 'playwright-core';

import { facts, invoke, killService, startService } from './network.js';
import { type Language, openBrowser, Reader } from './reader.js';

/** The most bytes that the first page may take on the wire. */
const FIRST_PAGE_BYTES = 250_000;
/** A hash that nothing has. */
const NOTHING = 'ab'.repeat(32);

let browser: Browser;

before(async () => {
    browser = await openBrowser();
});
after(() => browser.close());

test('the first page is light', async () => {
    const reader = await Reader.arrive(browser, 'en');
    const wire = await reader.page.context().newCDPSession(reader.page);
    let bytes = 0;
    wire.on('Network.loadingFinished', (event) => (bytes += event.encodedDataLength));
    await wire.send('Network.enable');
    await reader.open('/');
    await reader.sees('Sign in');
    await reader.page.waitForLoadState('load');
    assert.ok(bytes > 20_000, `only ${bytes} bytes were counted`);
    assert.ok(bytes <= FIRST_PAGE_BYTES, `the first page takes ${bytes} bytes`);
    await reader.leave();
});

for (const language of ['zh', 'en'] as const) {
    describe(`the console in ${language === 'zh' ? 'Chinese' : 'English'}`, () => paths(language));
}

/** The paths a person takes, one after the other in one browser tab. */
function paths(language: Language): void {
    let reader: Reader;
    let channel: string;
    const page = () => reader.page;
    const reads = (zh: string, en: string) => reader.reads(zh, en);
    const row = (text: string | number) => page().locator('tbody tr', { hasText: String(text) });

    before(async () => {
        reader = await Reader.arrive(browser, language);
    });
    after(() => reader.leave());

    /** What follows a step that failed could only fail too, after a long wait. */
    let failed = '';
    function step(name: string, walk: () => Promise<void>): void {
        test(name, async () => {
            assert.equal(failed, '', 'an earlier step failed');
            failed = name;
            await walk();
            reader.expectNoComplaints();
            failed = '';
        });
    }

    async function search(text: string): Promise<void> {
        await page().locator('body').press('/');
        await page().locator(':focus').fill(text);
        await page().keyboard.press('Enter');
    }

    async function submitted(key: string): Promise<{ id: string; block: number }> {
        return invoke('Put', `${key}-${language}`, 'seen in the browser');
    }

    step('a wrong password is refused in words', async () => {
        await reader.open('/');
        await reader.sees(reads('首次密码见', 'printed the first password'));
        await reader.look('sign-in');
        await reader.signIn('not the password');
        await reader.sees(reads('用户名或密码错误。', 'User name or password is wrong.'));
        reader.expectComplaint(/status of 401/);
        await reader.look('sign-in-refused');
    });

    step('the first password opens the instances', async () => {
        await reader.signIn();
        await page().getByRole('heading', { name: reads('实例管理', 'Instances') }).waitFor();
        await page().getByRole('heading', { name: 'first-light' }).waitFor();
        await reader.sees(reads('正常', 'Normal'));
        await reader.sees('org1 1/1 · org2 1/1');
        await reader.look('instances');
    });

    step('the block browser shows blocks as they come', async () => {
        await page().getByRole('link', { name: reads('打开区块浏览器', 'Open block browser') }).click();
        await reader.sees(reads('实时', 'live'), page().getByRole('status'));
        channel = decodeURIComponent(new URL(page().url()).pathname);
        await row(facts.valid.block).first().waitFor();
        // What a reload would take away.
        await page().evaluate(() => Object.assign(window, { sameDocument: true }));
        const fresh = await submitted('live');
        await page().locator('tbody tr').first().getByRole('link', { name: String(fresh.block), exact: true }).waitFor();
        await reader.sees(String(fresh.block + 1), page().locator('main'));
        assert.equal(await page().evaluate(() => 'sameDocument' in window), true);
        await reader.look('blocks');
    });

    step('it shows transactions as they come', async () => {
        await page().getByRole('tab', { name: reads('交易', 'Transactions') }).click();
        await row('assets').first().waitFor();
        const fresh = await submitted('live-transaction');
        await page().locator('tbody tr').first().locator(`a[href$="${fresh.id}"]`).waitFor();
        assert.equal(await page().evaluate(() => 'sameDocument' in window), true);
        await reader.look('transactions');
    });

    step('older transactions are a page away', async () => {
        const older = page().getByRole('button', { name: reads('较早', 'Older') });
        const rows = page().locator('tbody');
        let seen = await rows.innerText();
        while (await older.isEnabled()) {
            const newest = await page().locator('tbody a').first().getAttribute('href');
            await older.click();
            await page().locator(`tbody a[href="${newest}"]`).waitFor({ state: 'detached' });
            seen += await rows.innerText();
        }
        assert.match(seen, language === 'zh' ? /通道配置/ : /Channel configuration/);
        assert.match(seen, /MVCC_READ_CONFLICT/);
        await page().getByRole('button', { name: reads('最新', 'First') }).click();
        await row('assets').first().waitFor();
    });

    step('a block has its hashes and its transactions', async () => {
        await page().getByRole('tab', { name: reads('区块', 'Blocks') }).click();
        await page().getByRole('link', { name: String(facts.valid.block), exact: true }).click();
        await page().getByRole('heading', { name: reads(`区块 ${facts.valid.block}`, `Block ${facts.valid.block}`) }).waitFor();
        assert.match(await hash('哈希', 'Hash'), /^[0-9a-f]{64}$/);
        assert.match(await hash('数据哈希', 'Data hash'), /^[0-9a-f]{64}$/);
        await reader.look('block');

        const previous = await hash('前一区块哈希', 'Previous hash');
        const before = facts.valid.block - 1;
        await page().getByRole('link', { name: reads(`区块 ${before}`, `Block ${before}`), exact: true }).click();
        await page().getByRole('heading', { name: reads(`区块 ${before}`, `Block ${before}`) }).waitFor();
        assert.equal(await hash('哈希', 'Hash'), previous, 'blocks are linked by their hashes');
        await page().goBack();
        await page().locator(`a[href$="${facts.valid.id}"]`).click();
        await reader.comesTo(`${channel}/transactions/${facts.valid.id}`);
    });

    async function hash(zh: string, en: string): Promise<string> {
        return (await reader.fact(zh, en).innerText()).trim();
    }

    step('a valid transaction has its endorsers, reads and writes', async () => {
        await reader.open(`${channel}/transactions/${facts.valid.id}`);
        await reader.sees(reads('有效：写入已生效', 'Valid: its writes are on the ledger'));
        const endorsers = await reader.fact('背书方', 'Endorsed by').innerText();
        assert.match(endorsers, /org1[^]*peer-[^]*org2[^]*peer-/);
        assert.match(await reader.fact('创建者', 'Creator').innerText(), /org1[^]*User1/);
        assert.equal((await reader.fact('函数', 'Function').innerText()).trim(), 'UpdateAsset');
        await page().getByRole('table', { name: reads('读集 · assets', 'Read set · assets') }).getByText('asset1').waitFor();
        const write = page().getByRole('table', { name: reads('写集 · assets', 'Write set · assets') });
        await write.getByText('"Owner": "Max"').waitFor();
        await reader.look('transaction-valid');
    });

    step('a transaction that came too late says why', async () => {
        await reader.open(`${channel}/transactions/${facts.conflict.id}`);
        await reader.sees('MVCC_READ_CONFLICT');
        await reader.sees(reads('读取的键在提交前已被修改，请重新提交', 'A key it had read was changed before it was committed; submit it again'));
        await reader.sees(reads('以下写入均未生效。', 'None of this took effect.'));
        await reader.look('transaction-conflict');
    });

    step('search goes to numbers, hashes and ids', async () => {
        await search(String(facts.valid.block));
        await reader.comesTo(`${channel}/blocks/${facts.valid.block}`);
        const ofBlock = await hash('哈希', 'Hash');
        await search('0');
        await reader.comesTo(`${channel}/blocks/0`);
        await reader.sees(reads('通道配置', 'Channel configuration'));
        await reader.look('block-genesis');
        await search(ofBlock.toUpperCase());
        await reader.comesTo(`${channel}/blocks/${facts.valid.block}`);
        await search(facts.conflict.id);
        await reader.comesTo(`${channel}/transactions/${facts.conflict.id}`);
    });

    step('search says what is not there', async () => {
        await search(NOTHING);
        await reader.sees(reads('该通道中没有编号、哈希或 ID 为', 'Nothing has the number, hash or id'));
        reader.expectComplaint(/status of 404/);
        await reader.look('search-nothing');
        await search('<script>window.ran = 1</script>');
        await reader.sees(reads('不是区块号、区块哈希或交易 ID。', 'is no block number, block hash or transaction id.'));
        await reader.open(`${channel}/blocks/999999`);
        await reader.sees(reads('该通道中没有区块 999999。', 'There is no block 999999 in this channel.'));
        await reader.open(`${channel}/transactions/${NOTHING}`);
        await reader.sees(reads(`该通道中没有交易 ${NOTHING}。`, `There is no transaction ${NOTHING} in this channel.`));
        reader.expectComplaint(/status of 404/);
        assert.equal(await ran(), false);
    });

    step('an unknown address says so and leads back', async () => {
        await reader.open('/nowhere/at/all');
        await reader.sees(reads('页面不存在。', 'There is no such page.'));
        await reader.look('unknown');
        await page().getByRole('link', { name: reads('前往实例管理', 'Go to the instances') }).click();
        await page().getByRole('heading', { name: 'first-light' }).waitFor();
        await reader.open(`${channel}-but-not-this`);
        await reader.sees(reads('通道不存在或名称不合法。', 'Invalid channel name.'));
        reader.expectComplaint(/status of 400/);
    });

    /** Whether anything that a transaction carried was run. */
    function ran(): Promise<boolean> {
        return page().evaluate(() => 'ran' in window || document.querySelector('main script, main img') !== null);
    }

    step('what a transaction carries is text and nothing else', async () => {
        await reader.open(`${channel}/transactions/${facts.hostile.id}`);
        const write = page().getByRole('table', { name: reads('写集 · assets', 'Write set · assets') });
        await reader.sees(facts.hostile.key, write);
        await reader.sees(facts.hostile.value, write);
        assert.equal(await ran(), false);
        await reader.look('transaction-hostile');
    });

    step('a large value neither fills nor stops the page', async () => {
        await reader.open(`${channel}/transactions/${facts.large.id}`);
        const value = page().getByRole('table', { name: reads('写集 · assets', 'Write set · assets') }).locator('pre').last();
        await value.waitFor();
        assert.ok((await value.innerText()).length < 10_000, 'a part is shown');
        // The service sends the beginning, and says so.
        const all = facts.large.length.toLocaleString('en');
        await reader.sees(reads(`此处为前 65,536 字节，共 ${all} 字节`, `The first 65,536 of ${all} bytes`));
        await reader.look('transaction-large');
        await page().getByRole('button', { name: reads('显示更多', 'Show more') }).last().click();
        await page().waitForFunction((element) => element?.textContent?.length === 65_536, await value.elementHandle());
        assert.ok((await value.evaluate((element) => element.clientHeight)) < 400, 'it scrolls in its place');
        await search(facts.valid.id);
        await reader.comesTo(`${channel}/transactions/${facts.valid.id}`);
    });

    step('a lost connection is told, and found again without a reload', async () => {
        await reader.open(channel);
        await reader.sees(reads('实时', 'live'), page().getByRole('status'));
        await page().getByRole('link', { name: String(facts.valid.block), exact: true }).waitFor();
        await page().evaluate(() => Object.assign(window, { sameDocument: true }));
        killService();
        await reader.sees(reads('连接已断开，正在重试', 'connection lost; trying again'), page().getByRole('status'));
        await reader.look('blocks-lost');
        const meanwhile = await submitted('meanwhile');
        await page().getByRole('link', { name: String(facts.valid.block), exact: true }).click();
        await reader.sees(reads('服务没有响应', 'The service does not answer'));
        await reader.sees(reads('本页面会自动重试', 'This page tries again by itself'));
        await reader.look('block-lost');
        await page().goBack();
        await reader.sees(reads('连接已断开，正在重试', 'connection lost; trying again'), page().getByRole('status'));
        await startService();
        await reader.sees(reads('实时', 'live'), page().getByRole('status'));
        await page().locator('tbody tr').first().getByRole('link', { name: String(meanwhile.block), exact: true }).waitFor();
        const fresh = await submitted('again');
        await page().locator('tbody tr').first().getByRole('link', { name: String(fresh.block), exact: true }).waitFor();
        assert.equal(await page().evaluate(() => 'sameDocument' in window), true);
        reader.expectComplaint(/ERR_/);
    });

    step('signing out ends the session', async () => {
        const token = await page().evaluate(() => {
            const session = JSON.parse(sessionStorage.getItem('selvage-session') ?? '{}') as { token: string };
            return session.token;
        });
        const whoAmI = () => fetch(new URL('/selvage/v1/whoami', facts.console), { headers: { 'X-Auth-Token': token } });
        assert.equal((await whoAmI()).status, 200);
        const ended = page().waitForResponse((response) => response.request().method() === 'DELETE');
        await page().getByRole('button', { name: reads('退出', 'Sign out') }).click();
        await reader.sees(reads('首次密码见', 'printed the first password'));
        await ended;
        assert.equal((await whoAmI()).status, 401);
    });

    step('a session that the service no longer takes leads back to the door', async () => {
        await reader.signIn();
        await page().getByRole('status').or(page().getByRole('heading', { name: 'first-light' })).first().waitFor();
        await page().evaluate(() => {
            const session = JSON.parse(sessionStorage.getItem('selvage-session') ?? '{}') as object;
            sessionStorage.setItem('selvage-session', JSON.stringify({ ...session, token: 'no longer' }));
        });
        await page().reload();
        await reader.sees(reads('登录已失效，请重新登录。', 'The session has ended; sign in again.'));
        reader.expectComplaint(/status of 401/);
        await reader.look('session-ended');
    });

    step('language and light are chosen and kept', async () => {
        await reader.open('/');
        await reader.signIn();
        await page().getByRole('heading', { name: 'first-light' }).waitFor();
        const other = reads('English', '中文');
        await page().getByText(other, { exact: true }).click();
        await reader.sees(reads('Instances', '实例管理'));
        await page().reload();
        await reader.sees(reads('Instances', '实例管理'));
        assert.equal(await page().locator('html').getAttribute('lang'), reads('en', 'zh-CN'));
        await page().getByText(reads('中文', 'English'), { exact: true }).click();
        await page().getByRole('button', { name: reads('深色', 'Dark') }).click();
        await page().locator('html[data-mantine-color-scheme=dark]').waitFor();
        await page().reload();
        await page().locator('html[data-mantine-color-scheme=dark]').waitFor();
        await page().getByRole('button', { name: reads('浅色', 'Light') }).click();
        await page().locator('html[data-mantine-color-scheme=light]').waitFor();
    });
}
