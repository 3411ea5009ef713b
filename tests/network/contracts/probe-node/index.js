'use strict';
const { randomUUID } = require('node:crypto');

const { Contract } = require('fabric-contract-api');
const { KeyEndorsementPolicy } = require('fabric-shim');

/** Asks the peer for what the asset contracts never ask for. Lists are JSON. */
class Probe extends Contract {
    /** Answers with the id of the transaction it runs in. */
    async Put(ctx, key, value) {
        await ctx.stub.putState(key, Buffer.from(value));
        return ctx.stub.getTxID();
    }

    async Get(ctx, key) {
        return Buffer.from(await ctx.stub.getState(key)).toString();
    }

    async Fail(ctx, reason) {
        throw new Error(reason);
    }

    /** Calls another chaincode, and passes on what it said. */
    async Call(ctx, chaincode, channel, list) {
        const args = JSON.parse(list);
        const { status, message, payload } = await ctx.stub.invokeChaincode(chaincode, args, channel);
        return JSON.stringify({ status, message, payload: payload.toString() });
    }

    /** Has a peer of each of these organisations endorse whatever changes the key. */
    async Guard(ctx, key, orgs) {
        const policy = new KeyEndorsementPolicy();
        policy.addOrgs('PEER', ...JSON.parse(orgs));
        await ctx.stub.setStateValidationParameter(key, policy.getPolicy());
    }

    async Guardians(ctx, key) {
        const policy = await ctx.stub.getStateValidationParameter(key);
        return JSON.stringify(policy ? new KeyEndorsementPolicy(policy).listOrgs().sort() : []);
    }

    /** Two peers never answer the same. */
    async Dice(ctx) {
        await ctx.stub.putState('dice', Buffer.from(randomUUID()));
    }
}

module.exports.contracts = [Probe];
