import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import axe from 'axe-core';
import { type Browser, type BrowserContext, chromium, type Locator, type Page } from 'playwright-core';

import { facts } from './network.js';

export type Language = 'zh' | 'en';

/** Generous, because the machine may be loaded; nothing waits longer than it has to. */
const PATIENCE_MS = 90_000;
const WIDE = { width: 1280, height: 800 };
const NARROW = { width: 390, height: 800 };

export function openBrowser(): Promise<Browser> {
    return chromium.launch({
        executablePath: facts.chromium,
        args: [
            '--headless',
            '--no-sandbox',
            '--disable-gpu',
            '--disable-quic',
            '--no-first-run',
            '--disable-background-networking',
            '--disable-component-update',
            '--disable-sync',
        ],
    });
}

/** A person with a browser of their own, and what the browser complains about. */
export class Reader {
    private readonly complaints: string[] = [];

    private constructor(
        private readonly context: BrowserContext,
        public readonly page: Page,
        public readonly language: Language,
    ) {
        page.on('pageerror', (error) => this.complaints.push(String(error)));
        page.on('console', (message) => {
            if (message.type() === 'error') {
                this.complaints.push(`${message.text()} (${message.location().url})`);
            }
        });
    }

    public static async arrive(browser: Browser, language: Language): Promise<Reader> {
        const context = await browser.newContext({
            locale: language === 'zh' ? 'zh-CN' : 'en-GB',
            timezoneId: 'UTC',
            viewport: WIDE,
            reducedMotion: 'reduce',
        });
        context.setDefaultTimeout(PATIENCE_MS);
        return new Reader(context, await context.newPage(), language);
    }

    public async leave(): Promise<void> {
        await this.context.close();
    }

    /** `zh` or `en`, whichever this person reads. */
    public reads(zh: string, en: string): string {
        return this.language === 'zh' ? zh : en;
    }

    public async open(path: string): Promise<void> {
        await this.page.goto(new URL(path, facts.console).href);
    }

    public async signIn(password = facts.password): Promise<void> {
        await this.page.getByLabel(this.reads('用户', 'User'), { exact: true }).fill(facts.user);
        await this.page.locator('input[name=password]').fill(password);
        await this.page.getByRole('button', { name: this.reads('登录', 'Sign in') }).click();
    }

    /** Waits until the text stands somewhere on the page. */
    public async sees(text: string | RegExp, where: Locator | Page = this.page): Promise<void> {
        await where.getByText(text).first().waitFor();
    }

    /** Waits for an address. */
    public async comesTo(path: string): Promise<void> {
        await this.page.waitForURL((url) => decodeURIComponent(url.pathname) === path);
    }

    /** The value beside a name in a list of facts. */
    public fact(zh: string, en: string): Locator {
        const name = this.page.locator('dt').getByText(this.reads(zh, en), { exact: true });
        return this.page.locator('dl > div').filter({ has: name }).locator('dd');
    }

    /** Takes away complaints that had to come: a browser reports every answer that is a refusal. */
    public expectComplaint(pattern: RegExp): void {
        const others = this.complaints.filter((complaint) => !pattern.test(complaint));
        assert.ok(others.length < this.complaints.length, `no complaint like ${pattern} in ${this.complaints.join('\n')}`);
        this.complaints.splice(0, Infinity, ...others);
    }

    public expectNoComplaints(): void {
        const complaints = this.complaints.splice(0, Infinity);
        assert.deepEqual(complaints, []);
    }

    /**
     * Looks at a page that has come to rest as people do who see well, badly, at night, or on a telephone: keeps a picture of each,
     * and finds what axe holds to be a serious barrier and what does not fit.
     */
    public async look(name: string): Promise<void> {
        await this.page.locator('.mantine-Loader-root').waitFor({ state: 'detached' });
        for (const scheme of ['light', 'dark'] as const) {
            await this.page.emulateMedia({ colorScheme: scheme });
            await this.page.locator(`html[data-mantine-color-scheme=${scheme}]`).waitFor();
            await this.picture(`${name}-${scheme}`);
            assert.deepEqual(await this.barriers(), [], `${name}, ${scheme}`);
        }
        await this.page.emulateMedia({ colorScheme: 'light' });
        assert.deepEqual(await this.overflowing(), [], name);
        await this.page.setViewportSize(NARROW);
        await this.picture(`${name}-narrow`);
        assert.deepEqual(await this.overflowing(), [], `${name}, narrow`);
        await this.page.setViewportSize(WIDE);
    }

    private async picture(name: string): Promise<void> {
        mkdirSync(facts.shots, { recursive: true });
        const path = join(facts.shots, `${name}-${this.language}.png`);
        await this.page.screenshot({ path, fullPage: true, animations: 'disabled' });
    }

    private async barriers(): Promise<string[]> {
        await this.page.evaluate(axe.source);
        const found = await this.page.evaluate(() =>
            (window as unknown as { axe: typeof axe }).axe.run(document, { resultTypes: ['violations'] }),
        );
        const serious = found.violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
        const told = serious.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.failureSummary} ${node.html}`));
        return [...new Set(told)].slice(0, 10);
    }

    /** What is cut off or makes the page scroll sideways. */
    private overflowing(): Promise<string[]> {
        return this.page.evaluate(() =>
            [document.documentElement, ...document.querySelectorAll('.mantine-Card-root')]
                .filter((element) => element.scrollWidth > element.clientWidth + 1)
                .map((element) => `${element.tagName} ${element.className}: ${element.scrollWidth} in ${element.clientWidth}`),
        );
    }
}
