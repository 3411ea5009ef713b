import * as grpc from '@grpc/grpc-js';
import { connect, type Gateway, hash, signers } from '@hyperledger/fabric-gateway';
import * as crypto from 'node:crypto';
import { readFileSync } from 'node:fs';

/** The largest message Fabric sends. gRPC's own limit for what it receives is 4 MB. */
const MESSAGE_MAX = 100 * 1024 * 1024;

/** The part of what `selvage up --detach --json` prints that an application needs. */
export interface Network {
    channel: string;
    chaincode: string;
    gateway: {
        endpoint: string;
        tls_ca: string;
        hostname: string;
        msp_id: string;
        cert: string;
        key: string;
    };
}

/** Reads the network description from the file that `SELVAGE_NETWORK` or the first argument names. */
export function readNetwork(): Network {
    const file = process.env.SELVAGE_NETWORK ?? process.argv[2];
    if (!file) {
        throw new Error('name the file with the output of: selvage up --detach --json');
    }
    return JSON.parse(readFileSync(file, 'utf8')) as Network;
}

export interface Connection {
    gateway: Gateway;
    client: grpc.Client;
    close(): void;
}

/** Another identity than the one the network description names. */
export interface Overrides {
    certificate?: Buffer;
    key?: Buffer;
    mspId?: string;
}

/** Opens one TLS connection and a gateway session on it. */
export function open(network: Network, overrides: Overrides = {}): Connection {
    const { gateway: at } = network;
    const client = new grpc.Client(at.endpoint, grpc.credentials.createSsl(readFileSync(at.tls_ca)), {
        'grpc.ssl_target_name_override': at.hostname,
        'grpc.max_receive_message_length': MESSAGE_MAX,
        'grpc.keepalive_time_ms': 300_000,
        'grpc.keepalive_timeout_ms': 8_000,
        'grpc.keepalive_permit_without_calls': 1,
    });
    const key = crypto.createPrivateKey(overrides.key ?? readFileSync(at.key));
    const gateway = connect({
        client,
        identity: {
            mspId: overrides.mspId ?? at.msp_id,
            credentials: overrides.certificate ?? readFileSync(at.cert),
        },
        signer: signers.newPrivateKeySigner(key),
        hash: hash.sha256,
        evaluateOptions: () => ({ deadline: Date.now() + 30_000 }),
        endorseOptions: () => ({ deadline: Date.now() + 60_000 }),
        submitOptions: () => ({ deadline: Date.now() + 30_000 }),
        commitStatusOptions: () => ({ deadline: Date.now() + 60_000 }),
    });
    return {
        gateway,
        client,
        close() {
            gateway.close();
            client.close();
        },
    };
}
