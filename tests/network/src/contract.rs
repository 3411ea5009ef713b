//! A small contract of a user's own, for Node.

/// Its `package.json`.
pub const PACKAGE_JSON: &str = r#"{
    "name": "ledger",
    "version": "1.0.0",
    "main": "index.js",
    "scripts": { "start": "fabric-chaincode-node start" },
    "dependencies": { "fabric-contract-api": "2.5.8", "fabric-shim": "2.5.8" },
    "overrides": { "class-transformer": "0.4.0" }
}"#;

const INDEX_JS: &str = r#"'use strict';
const { Contract } = require('fabric-contract-api');

class Ledger extends Contract {
    async init(ctx, name, amount) {
        if (!/^\d+$/.test(amount)) {
            throw new Error(`no amount: ${amount}`);
        }
        await ctx.stub.putState(name, Buffer.from(amount));
    }

    async Put(ctx, name, amount) {
        await ctx.stub.putState(name, Buffer.from(amount));
    }

    async Get(ctx, name) {
        return (await ctx.stub.getState(name)).toString();
    }

    async Edition() {
        return 'EDITION';
    }
}

module.exports.contracts = [Ledger];
"#;

/// Its `index.js`; the function `Edition` answers `edition`.
pub fn index_js(edition: &str) -> String {
    INDEX_JS.replace("EDITION", edition)
}
