/** What a user of the Gateway SDK relies on, against a running network. */
import * as grpc from '@grpc/grpc-js';
import {
    checkpointers,
    CommitError,
    connect,
    EndorseError,
    type Gateway,
    GatewayError,
    hash,
    signers,
    StatusCode,
} from '@hyperledger/fabric-gateway';
import assert from 'node:assert/strict';
import { createPrivateKey, generateKeyPairSync, randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';

import { open, readNetwork } from './connect';

const network = readNetwork();
const connection = open(network);
const channel = connection.gateway.getNetwork(network.channel);
const contract = channel.getContract(network.chaincode);
const text = new TextDecoder();

after(() => connection.close());

function newId(): string {
    return `asset-${randomUUID()}`;
}

describe('transactions', () => {
    test('submit, then evaluate', async () => {
        const id = newId();
        await contract.submitTransaction('CreateAsset', id, 'blue', '5', 'Tom', '100');
        const asset = JSON.parse(text.decode(await contract.evaluateTransaction('ReadAsset', id)));
        assert.deepEqual(asset, { AppraisedValue: 100, Color: 'blue', ID: id, Owner: 'Tom', Size: 5 });
    });

    test('the result of a submitted function comes back', async () => {
        const id = newId();
        await contract.submitTransaction('CreateAsset', id, 'blue', '5', 'Tom', '100');
        const before = await contract.submitTransaction('TransferAsset', id, 'Ann');
        assert.equal(text.decode(before), 'Tom');
    });

    test('commit status tells the block and the code', async () => {
        const commit = await contract.submitAsync('CreateAsset', {
            arguments: [newId(), 'red', '1', 'Tom', '1'],
        });
        const status = await commit.getStatus();
        assert.equal(status.code, StatusCode.VALID);
        assert.equal(status.successful, true);
        assert.equal(status.transactionId, commit.getTransactionId());
        assert.ok(status.blockNumber > 0n);
    });

    test('offline signing goes through the same steps', async () => {
        const id = newId();
        const unsigned = contract.newProposal('CreateAsset', {
            arguments: [id, 'red', '1', 'Tom', '1'],
        });
        const proposal = connection.gateway.newProposal(unsigned.getBytes());
        const transaction = await proposal.endorse();
        const commit = await transaction.submit();
        assert.equal((await commit.getStatus()).successful, true);
    });

    test('a value of 8 MB goes in, comes back and is in the block', async () => {
        const key = `large-${randomUUID()}`;
        const value = randomUUID().slice(0, 8).repeat(1024 * 1024);
        const commit = await contract.submitAsync('Put', { arguments: [key, value] });
        const { blockNumber, successful } = await commit.getStatus();
        assert.ok(successful);
        const read = text.decode(await contract.evaluateTransaction('Get', key));
        assert.ok(read === value, `${read.length} bytes came back`);
        const blocks = await channel.getBlockEvents({ startBlock: blockNumber });
        try {
            for await (const block of blocks) {
                const data = block.getData()?.getDataList_asU8() ?? [];
                assert.ok(data.some((transaction) => Buffer.from(transaction).includes(value)));
                return;
            }
        } finally {
            blocks.close();
        }
        assert.fail('the block did not come');
    });

    test('pages, history and ranges', async () => {
        const ids = [newId(), newId(), newId()].sort();
        for (const id of ids) {
            await contract.submitTransaction('CreateAsset', id, 'blue', '5', 'Tom', '100');
        }
        await contract.submitTransaction('TransferAsset', ids[0]!, 'Ann');
        await contract.submitTransaction('DeleteAsset', ids[0]!);
        const history = JSON.parse(text.decode(await contract.evaluateTransaction('AssetHistory', ids[0]!)));
        assert.equal(history.length, 3);
        assert.equal(history[0].isDelete, true);

        const found = new Set<string>();
        let bookmark = '';
        do {
            const page = JSON.parse(
                text.decode(await contract.evaluateTransaction('ListAssets', '2', bookmark)),
            );
            for (const asset of page.assets) {
                found.add(asset.ID);
            }
            bookmark = page.bookmark;
        } while (bookmark !== '');
        assert.ok(found.has(ids[1]!) && found.has(ids[2]!));
        assert.ok(!found.has(ids[0]!));
    });
});

/** What stands in the error itself when the peer that was asked first did not endorse. */
const NOT_ENDORSED = '10 ABORTED: failed to endorse transaction, see attached details for more info';

/** Expects an endorsement failure, and that every detail says who refused and matches `reason`. */
async function notEndorsed(submitting: Promise<unknown>, reason: RegExp): Promise<void> {
    await assert.rejects(submitting, (error) => {
        assert.ok(error instanceof EndorseError, String(error));
        assert.equal(error.code, grpc.status.ABORTED);
        assert.equal(error.message, NOT_ENDORSED);
        assert.match(error.details[0]?.message ?? 'no details', reason);
        for (const detail of error.details) {
            assert.equal(detail.mspId, network.gateway.msp_id);
            assert.match(detail.address, /:\d+$/);
        }
        return true;
    });
}

/** Expects a refusal with this code and exactly this text. */
async function refused(calling: Promise<unknown>, code: grpc.status, message: string): Promise<void> {
    await assert.rejects(calling, (error) => {
        assert.ok(error instanceof GatewayError, String(error));
        assert.equal(error.code, code);
        assert.equal(error.message, `${code} ${grpc.status[code]}: ${message}`);
        return true;
    });
}

/** Expects that the transaction was ordered and found invalid. */
async function notCommitted(submitting: Promise<unknown>, code: number, name: string): Promise<void> {
    await assert.rejects(submitting, (error) => {
        assert.ok(error instanceof CommitError, String(error));
        assert.equal(error.code, code);
        const { transactionId } = error;
        assert.match(transactionId, /^[0-9a-f]{64}$/);
        const said = `Transaction ${transactionId} failed to commit with status code ${code} (${name})`;
        assert.equal(error.message, said);
        return true;
    });
}

/** A session of the same user that does something else between endorsing and submitting. */
function interrupted(action: () => Promise<unknown>): Gateway {
    const { cert, key, msp_id: mspId } = network.gateway;
    const sign = signers.newPrivateKeySigner(createPrivateKey(readFileSync(key)));
    let signatures = 0;
    return connect({
        client: connection.client,
        identity: { mspId, credentials: readFileSync(cert) },
        hash: hash.sha256,
        signer: async (digest) => {
            signatures += 1;
            // The first one is for the proposal, the second one for the endorsed transaction.
            if (signatures === 2) {
                await action();
            }
            return sign(digest);
        },
    });
}

describe('failures', () => {
    test('a contract error on submit names the peer and the message', async () => {
        const id = newId();
        const reason = new RegExp(`^chaincode response 500, the asset ${id} does not exist$`);
        await notEndorsed(contract.submitTransaction('TransferAsset', id, 'Ann'), reason);
    });

    test('a contract error on evaluate', async () => {
        const id = newId();
        const said = `chaincode response 500, the asset ${id} does not exist`;
        await assert.rejects(contract.evaluateTransaction('ReadAsset', id), (error) => {
            assert.ok(error instanceof GatewayError);
            assert.equal(error.code, grpc.status.UNKNOWN);
            assert.equal(error.message, `2 UNKNOWN: evaluate call to endorser returned error: ${said}`);
            assert.deepEqual(
                error.details.map((detail) => detail.message),
                [said],
            );
            return true;
        });
    });

    test('a function that does not exist', async () => {
        const reason = /^chaincode response 500, .*NoSuchFunction/;
        await notEndorsed(contract.submitTransaction('NoSuchFunction'), reason);
    });

    test('a chaincode that does not exist', async () => {
        const missing = channel.getContract('nosuchchaincode');
        const where = `chaincode nosuchchaincode in channel ${network.channel}`;
        await refused(
            missing.submitTransaction('Anything'),
            grpc.status.FAILED_PRECONDITION,
            'no combination of peers can be derived which satisfy the endorsement policy: ' +
                `No metadata was found for ${where}`,
        );
        await refused(
            missing.evaluateTransaction('Anything'),
            grpc.status.FAILED_PRECONDITION,
            `no peers available to evaluate ${where}`,
        );
    });

    test('a channel that does not exist', async () => {
        const missing = connection.gateway.getNetwork('nosuchchannel').getContract(network.chaincode);
        await refused(
            missing.evaluateTransaction('ReadAsset', 'x'),
            grpc.status.UNAVAILABLE,
            'failed to get config for channel [nosuchchannel]: ' +
                'could not get last config for channel nosuchchannel',
        );
    });

    test('an organisation that has no peers', async () => {
        const proposal = { arguments: ['x', 'Ann'], endorsingOrganizations: ['NoSuchMSP'] };
        await refused(
            contract.submit('TransferAsset', proposal),
            grpc.status.UNAVAILABLE,
            'failed to find any endorsing peers for org(s): NoSuchMSP',
        );
    });

    test('one organisation endorses where the policy asks for two: ENDORSEMENT_POLICY_FAILURE', async () => {
        const id = newId();
        const alone = {
            arguments: [id, 'blue', '5', 'Tom', '100'],
            endorsingOrganizations: [network.gateway.msp_id],
        };
        const { ENDORSEMENT_POLICY_FAILURE: code } = StatusCode;
        await notCommitted(contract.submit('CreateAsset', alone), code, 'ENDORSEMENT_POLICY_FAILURE');
        const exists = await contract.evaluateTransaction('AssetExists', id);
        assert.equal(text.decode(exists), 'false');
    });

    test('two transactions that read and write the same key: one is MVCC_READ_CONFLICT', async () => {
        const id = newId();
        await contract.submitTransaction('CreateAsset', id, 'blue', '5', 'Tom', '100');
        // Both are endorsed against the same version before either is ordered.
        const owners = ['Ann', 'Bob'];
        const endorsed = await Promise.all(
            owners.map((owner) => contract.newProposal('TransferAsset', { arguments: [id, owner] }).endorse()),
        );
        const commits = await Promise.all(endorsed.map((transaction) => transaction.submit()));
        const statuses = await Promise.all(commits.map((commit) => commit.getStatus()));
        const codes = statuses.map((status) => status.code).sort((a, b) => a - b);
        assert.deepEqual(codes, [StatusCode.VALID, StatusCode.MVCC_READ_CONFLICT]);
        for (const [i, status] of statuses.entries()) {
            assert.equal(status.successful, status.code === StatusCode.VALID);
            assert.equal(status.transactionId, endorsed[i]?.getTransactionId());
        }
        const winner = owners[statuses.findIndex((status) => status.successful)];
        const asset = JSON.parse(text.decode(await contract.evaluateTransaction('ReadAsset', id)));
        assert.equal(asset.Owner, winner);
    });

    test('submitTransaction turns an invalid commit into a CommitError', async () => {
        const id = newId();
        await contract.submitTransaction('CreateAsset', id, 'blue', '5', 'Tom', '100');
        const gateway = interrupted(() => contract.submitTransaction('TransferAsset', id, 'Bob'));
        const late = gateway.getNetwork(network.channel).getContract(network.chaincode);
        const { MVCC_READ_CONFLICT: code } = StatusCode;
        await notCommitted(late.submitTransaction('TransferAsset', id, 'Ann'), code, 'MVCC_READ_CONFLICT');
        const asset = JSON.parse(text.decode(await contract.evaluateTransaction('ReadAsset', id)));
        assert.equal(asset.Owner, 'Bob');
    });

    test('a stranger is refused', async () => {
        const stranger = open(network, { mspId: 'NoSuchMSP' });
        try {
            const denied = stranger.gateway.getNetwork(network.channel).getContract(network.chaincode);
            const reason = /^error validating proposal: access denied: .* creator org unknown, creator is malformed$/;
            await notEndorsed(denied.submitTransaction('InitLedger'), reason);
        } finally {
            stranger.close();
        }
    });

    test('a proposal signed with another key is refused', async () => {
        const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
        const key = Buffer.from(privateKey.export({ type: 'pkcs8', format: 'pem' }));
        const wrong = open(network, { key });
        try {
            const denied = wrong.gateway.getNetwork(network.channel).getContract(network.chaincode);
            const own = network.gateway.msp_id;
            const reason = new RegExp(`^error validating proposal: access denied: .* creator org \\[${own}\\]$`);
            await notEndorsed(denied.submitTransaction('InitLedger'), reason);
        } finally {
            wrong.close();
        }
    });
});

describe('events', () => {
    test('chaincode events from a block on', async () => {
        const id = newId();
        const commit = await contract.submitAsync('CreateAsset', { arguments: [id, 'red', '1', 'Tom', '1'] });
        const status = await commit.getStatus();
        const events = await channel.getChaincodeEvents(network.chaincode, { startBlock: status.blockNumber });
        try {
            for await (const event of events) {
                if (event.transactionId === commit.getTransactionId()) {
                    assert.equal(event.eventName, 'CreateAsset');
                    assert.equal(event.chaincodeName, network.chaincode);
                    assert.equal(event.blockNumber, status.blockNumber);
                    assert.equal(JSON.parse(text.decode(event.payload)).ID, id);
                    return;
                }
            }
        } finally {
            events.close();
        }
        assert.fail('the event did not come');
    });

    test('a checkpoint resumes after the last event that was handled', async () => {
        const folder = mkdtempSync(join(tmpdir(), 'checkpoint-'));
        const checkpointer = await checkpointers.file(join(folder, 'events.json'));
        const ids = [newId(), newId(), newId()];
        const first = await contract.submitAsync('CreateAsset', { arguments: [ids[0]!, 'red', '1', 'Tom', '1'] });
        const startBlock = (await first.getStatus()).blockNumber;
        for (const id of ids.slice(1)) {
            await contract.submitTransaction('CreateAsset', id, 'red', '1', 'Tom', '1');
        }
        const seen: string[] = [];
        while (seen.length < ids.length) {
            // A new stream for every event: only the checkpoint carries the position.
            const events = await channel.getChaincodeEvents(network.chaincode, {
                checkpoint: checkpointer,
                startBlock,
            });
            try {
                for await (const event of events) {
                    await checkpointer.checkpointChaincodeEvent(event);
                    const id = JSON.parse(text.decode(event.payload)).ID;
                    if (ids.includes(id)) {
                        seen.push(id);
                        break;
                    }
                }
            } finally {
                events.close();
            }
        }
        assert.deepEqual(seen, ids);
    });

    test('blocks and filtered blocks', async () => {
        const commit = await contract.submitAsync('CreateAsset', { arguments: [newId(), 'red', '1', 'Tom', '1'] });
        const { blockNumber } = await commit.getStatus();
        const seen: string[] = [];
        const blocks = await channel.getBlockEvents({ startBlock: blockNumber });
        try {
            for await (const block of blocks) {
                assert.equal(block.getHeader()?.getNumber(), Number(blockNumber));
                seen.push('block');
                break;
            }
        } finally {
            blocks.close();
        }
        const filtered = await channel.getFilteredBlockEvents({ startBlock: blockNumber });
        try {
            for await (const block of filtered) {
                const ids = block.getFilteredTransactionsList().map((t) => t.getTxid());
                assert.ok(ids.includes(commit.getTransactionId()));
                seen.push('filtered block');
                break;
            }
        } finally {
            filtered.close();
        }
        assert.deepEqual(seen, ['block', 'filtered block']);
    });
});
