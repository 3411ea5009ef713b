import { AssetContract } from './asset-contract';

export { AssetContract } from './asset-contract';

/** The list fabric-shim reads to know which contracts this chaincode has. */
export const contracts = [AssetContract];
