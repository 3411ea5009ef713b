/** What a user of the Gateway SDK relies on, against a running network. */
import * as grpc from '@grpc/grpc-js';
import {
    checkpointers,
    CommitError,
    EndorseError,
    GatewayError,
    StatusCode,
} from '@hyperledger/fabric-gateway';
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
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

describe('failures', () => {
    test('a contract error on submit names the peer and the message', async () => {
        const id = newId();
        await assert.rejects(contract.submitTransaction('TransferAsset', id, 'Ann'), (error) => {
            assert.ok(error instanceof EndorseError);
            assert.equal(error.code, grpc.status.ABORTED);
            assert.ok(error.details.length > 0);
            for (const detail of error.details) {
                assert.match(detail.message, new RegExp(`chaincode response 500, the asset ${id} does not exist`));
                assert.ok(detail.address && detail.mspId);
            }
            return true;
        });
    });

    test('a contract error on evaluate', async () => {
        const id = newId();
        await assert.rejects(contract.evaluateTransaction('ReadAsset', id), (error) => {
            assert.ok(error instanceof GatewayError);
            assert.equal(error.code, grpc.status.UNKNOWN);
            assert.match(error.details[0]?.message ?? '', /chaincode response 500, the asset .* does not exist/);
            return true;
        });
    });

    test('a function that does not exist', async () => {
        await assert.rejects(contract.submitTransaction('NoSuchFunction'), (error) => {
            assert.ok(error instanceof EndorseError);
            assert.match(error.details[0]?.message ?? '', /NoSuchFunction/);
            return true;
        });
    });

    test('a chaincode that does not exist', async () => {
        const missing = channel.getContract('nosuchchaincode');
        await assert.rejects(missing.submitTransaction('Anything'), (error) => {
            assert.ok(error instanceof GatewayError);
            const said = [error.message, ...error.details.map((d) => d.message)].join('\n');
            assert.match(said, /nosuchchaincode/);
            return true;
        });
    });

    test('a channel that does not exist', async () => {
        const missing = connection.gateway.getNetwork('nosuchchannel').getContract(network.chaincode);
        await assert.rejects(missing.evaluateTransaction('ReadAsset', 'x'), (error) => {
            assert.ok(error instanceof GatewayError);
            const said = [error.message, ...error.details.map((d) => d.message)].join('\n');
            assert.match(said, /nosuchchannel/);
            return true;
        });
    });

    test('two transactions that read and write the same key: one is MVCC_READ_CONFLICT', async () => {
        const id = newId();
        await contract.submitTransaction('CreateAsset', id, 'blue', '5', 'Tom', '100');
        // Both are endorsed against the same version before either is ordered.
        const endorsed = await Promise.all(
            ['Ann', 'Bob'].map((owner) => contract.newProposal('TransferAsset', { arguments: [id, owner] }).endorse()),
        );
        const commits = await Promise.all(endorsed.map((transaction) => transaction.submit()));
        const statuses = await Promise.all(commits.map((commit) => commit.getStatus()));
        const codes = statuses.map((status) => status.code).sort((a, b) => a - b);
        assert.deepEqual(codes, [StatusCode.VALID, StatusCode.MVCC_READ_CONFLICT]);
    });

    test('submitTransaction turns an invalid commit into a CommitError', async () => {
        const id = newId();
        await contract.submitTransaction('CreateAsset', id, 'blue', '5', 'Tom', '100');
        const results = await Promise.allSettled(
            Array.from({ length: 8 }, (_, i) => contract.submitTransaction('TransferAsset', id, `owner${i}`)),
        );
        const failed = results.filter((r): r is PromiseRejectedResult => r.status === 'rejected');
        assert.ok(results.some((r) => r.status === 'fulfilled'));
        for (const { reason } of failed) {
            if (reason instanceof CommitError) {
                assert.equal(reason.code, StatusCode.MVCC_READ_CONFLICT);
            } else {
                // The two peers endorsed on both sides of a commit, so their answers differ.
                assert.ok(reason instanceof EndorseError, String(reason));
                assert.equal(reason.code, grpc.status.ABORTED);
            }
        }
    });

    test('a stranger is refused', async () => {
        const stranger = open(network, { mspId: 'NoSuchMSP' });
        try {
            const refused = stranger.gateway.getNetwork(network.channel).getContract(network.chaincode);
            await assert.rejects(refused.submitTransaction('InitLedger'), GatewayError);
        } finally {
            stranger.close();
        }
    });

    test('a proposal signed with another key is refused', async () => {
        const { privateKey } = await import('node:crypto').then((c) =>
            c.generateKeyPairSync('ec', { namedCurve: 'P-256' }),
        );
        const key = Buffer.from(privateKey.export({ type: 'pkcs8', format: 'pem' }));
        const wrong = open(network, { key });
        try {
            const refused = wrong.gateway.getNetwork(network.channel).getContract(network.chaincode);
            await assert.rejects(refused.submitTransaction('InitLedger'), GatewayError);
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
        const blocks = await channel.getBlockEvents({ startBlock: blockNumber });
        try {
            for await (const block of blocks) {
                assert.equal(block.getHeader()?.getNumber(), Number(blockNumber));
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
                break;
            }
        } finally {
            filtered.close();
        }
    });
});
