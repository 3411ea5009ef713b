import { Object as ContractObject, Property } from 'fabric-contract-api';

/**
 * What the ledger keeps about one asset. The field names are those Fabric's samples use. Types are
 * given to `Property`, because the compiler tells it `Object` about fields it infers.
 */
@ContractObject()
export class Asset {
    @Property('ID', 'string')
    public ID = '';

    @Property('Color', 'string')
    public Color = '';

    @Property('Size', 'number')
    public Size = 0;

    @Property('Owner', 'string')
    public Owner = '';

    @Property('AppraisedValue', 'number')
    public AppraisedValue = 0;
}

/**
 * JSON with the fields in alphabetical order. Every endorser must write the same bytes, whatever
 * the order in which its code filled the object.
 */
export function encode(asset: Asset): Buffer {
    const { AppraisedValue, Color, ID, Owner, Size } = asset;
    return Buffer.from(JSON.stringify({ AppraisedValue, Color, ID, Owner, Size }));
}
