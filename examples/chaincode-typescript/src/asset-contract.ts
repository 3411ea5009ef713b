import { Context, Contract, Info, Returns, Transaction } from 'fabric-contract-api';

import { Asset, encode } from './asset';

/** The most assets one page of a listing may hold. */
const PAGE_MAX = 100;

@Info({ title: 'AssetContract', description: 'Assets that are created, changed and handed over' })
export class AssetContract extends Contract {
    public constructor() {
        super('AssetContract');
    }

    /** Puts three assets on the ledger, for a first look around. */
    @Transaction()
    public async InitLedger(ctx: Context): Promise<void> {
        const assets: Asset[] = [
            { ID: 'asset1', Color: 'blue', Size: 5, Owner: 'Tomoko', AppraisedValue: 300 },
            { ID: 'asset2', Color: 'red', Size: 5, Owner: 'Brad', AppraisedValue: 400 },
            { ID: 'asset3', Color: 'green', Size: 10, Owner: 'Jin', AppraisedValue: 500 },
        ];
        for (const asset of assets) {
            await ctx.stub.putState(asset.ID, encode(asset));
        }
    }

    @Transaction()
    public async CreateAsset(
        ctx: Context,
        id: string,
        color: string,
        size: number,
        owner: string,
        appraisedValue: number,
    ): Promise<void> {
        if (await this.AssetExists(ctx, id)) {
            throw new Error(`the asset ${id} already exists`);
        }
        const asset = { ID: id, Color: color, Size: size, Owner: owner, AppraisedValue: appraisedValue };
        await this.save(ctx, 'CreateAsset', asset);
    }

    @Transaction(false)
    @Returns('string')
    public async ReadAsset(ctx: Context, id: string): Promise<string> {
        return encode(await this.load(ctx, id)).toString();
    }

    @Transaction()
    public async UpdateAsset(
        ctx: Context,
        id: string,
        color: string,
        size: number,
        owner: string,
        appraisedValue: number,
    ): Promise<void> {
        await this.load(ctx, id);
        const asset = { ID: id, Color: color, Size: size, Owner: owner, AppraisedValue: appraisedValue };
        await this.save(ctx, 'UpdateAsset', asset);
    }

    /** Gives the asset to `newOwner` and returns who had it before. */
    @Transaction()
    @Returns('string')
    public async TransferAsset(ctx: Context, id: string, newOwner: string): Promise<string> {
        const asset = await this.load(ctx, id);
        const before = asset.Owner;
        await this.save(ctx, 'TransferAsset', { ...asset, Owner: newOwner });
        return before;
    }

    @Transaction()
    public async DeleteAsset(ctx: Context, id: string): Promise<void> {
        const asset = await this.load(ctx, id);
        await ctx.stub.deleteState(id);
        ctx.stub.setEvent('DeleteAsset', encode(asset));
    }

    @Transaction(false)
    @Returns('boolean')
    public async AssetExists(ctx: Context, id: string): Promise<boolean> {
        const value = await ctx.stub.getState(id);
        return value.length > 0;
    }

    @Transaction(false)
    @Returns('string')
    public async GetAllAssets(ctx: Context): Promise<string> {
        const assets: unknown[] = [];
        for await (const entry of ctx.stub.getStateByRange('', '')) {
            const asset = parse(entry.value);
            if (asset) {
                assets.push(asset);
            }
        }
        return JSON.stringify(assets);
    }

    /** One page of the assets in order of id: `{assets, bookmark}`; an empty bookmark starts. */
    @Transaction(false)
    @Returns('string')
    public async ListAssets(ctx: Context, pageSize: number, bookmark: string): Promise<string> {
        const size = Math.min(Math.max(1, pageSize), PAGE_MAX);
        const page = await ctx.stub.getStateByRangeWithPagination('', '', size, bookmark);
        const assets: unknown[] = [];
        for (let next = await page.iterator.next(); !next.done; next = await page.iterator.next()) {
            const asset = parse(next.value.value);
            if (asset) {
                assets.push(asset);
            }
        }
        await page.iterator.close();
        return JSON.stringify({ assets, bookmark: page.metadata.bookmark });
    }

    /** Every value the asset has had, newest first, with the transaction that wrote it. */
    @Transaction(false)
    @Returns('string')
    public async AssetHistory(ctx: Context, id: string): Promise<string> {
        const history: unknown[] = [];
        for await (const change of ctx.stub.getHistoryForKey(id)) {
            history.push({ txId: change.txId, isDelete: change.isDelete, value: parse(change.value) });
        }
        return JSON.stringify(history);
    }

    /** Writes one key as it stands; what the load generator does unless told otherwise. */
    @Transaction()
    public async Put(ctx: Context, key: string, value: string): Promise<void> {
        await ctx.stub.putState(key, Buffer.from(value));
    }

    @Transaction(false)
    @Returns('string')
    public async Get(ctx: Context, key: string): Promise<string> {
        return Buffer.from(await ctx.stub.getState(key)).toString();
    }

    private async load(ctx: Context, id: string): Promise<Asset> {
        const value = await ctx.stub.getState(id);
        if (value.length === 0) {
            throw new Error(`the asset ${id} does not exist`);
        }
        return JSON.parse(Buffer.from(value).toString()) as Asset;
    }

    private async save(ctx: Context, event: string, asset: Asset): Promise<void> {
        const value = encode(asset);
        await ctx.stub.putState(asset.ID, value);
        ctx.stub.setEvent(event, value);
    }
}

/** The value as JSON, or nothing when `Put` wrote something else under that key. */
function parse(value: Uint8Array): unknown {
    try {
        return JSON.parse(Buffer.from(value).toString());
    } catch {
        return undefined;
    }
}
