/** A first application: create an asset, hand it over, read it back, and watch the events. */
import { randomUUID } from 'node:crypto';

import { open, readNetwork } from './connect';

const text = new TextDecoder();

async function main(): Promise<void> {
    const network = readNetwork();
    const connection = open(network);
    try {
        const channel = connection.gateway.getNetwork(network.channel);
        const contract = channel.getContract(network.chaincode);
        const id = `asset-${randomUUID()}`;

        const events = await channel.getChaincodeEvents(network.chaincode);

        console.log(`Create ${id}`);
        await contract.submitTransaction('CreateAsset', id, 'yellow', '5', 'Tom', '1300');

        console.log('Hand it over');
        const before = await contract.submitTransaction('TransferAsset', id, 'Saptha');
        console.log(`  it belonged to ${text.decode(before)}`);

        const asset = await contract.evaluateTransaction('ReadAsset', id);
        console.log(`Read it back: ${text.decode(asset)}`);

        let seen = 0;
        for await (const event of events) {
            console.log(`Event ${event.eventName} in block ${event.blockNumber}`);
            seen += 1;
            if (seen === 2) {
                break;
            }
        }
        events.close();
    } finally {
        connection.close();
    }
}

main().catch((error: unknown) => {
    console.error(error);
    process.exitCode = 1;
});
