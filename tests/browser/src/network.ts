import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A transaction that the caller committed before the browser came. */
export interface Committed {
    id: string;
    block: number;
}

/** What `tests/network/tests/console.rs` prepared. */
export interface Facts {
    /** Address of the console. */
    console: string;
    user: string;
    password: string;
    channel: string;
    /** The program `selvage`, and the folder of its data. */
    selvage: string;
    data: string;
    chromium: string;
    /** Folder for screenshots. */
    shots: string;
    /** Changed an asset; endorsed by both organisations. */
    valid: Committed;
    /** Changed the same asset from the same state, too late. */
    conflict: Committed;
    /** Wrote `key` and `value`, which look like a page's source. */
    hostile: Committed & { key: string; value: string };
    /** Wrote a value of so many characters. */
    large: Committed & { length: number };
}

export const facts = JSON.parse(readFileSync(process.env.SELVAGE_BROWSER_FACTS ?? '', 'utf8')) as Facts;

/** Submits a transaction from the command line and returns where it was committed. */
export async function invoke(...call: string[]): Promise<Committed> {
    const { stderr } = await run(facts.selvage, ['invoke', '--data', facts.data, ...call]);
    const said = /transaction (\w+) committed in block (\d+)/.exec(stderr);
    if (!said) {
        throw new Error(`selvage invoke said: ${stderr}`);
    }
    return { id: said[1], block: Number(said[2]) };
}

/** Kills the service as a crash would. The nodes go on without it. */
export function killService(): void {
    process.kill(Number(readFileSync(join(facts.data, 'lock'), 'utf8').trim()), 'SIGKILL');
}

/** Starts the service again, at the address it had. */
export async function startService(): Promise<void> {
    await run(facts.selvage, ['up', '--detach', '--json', '--data', facts.data]);
}
