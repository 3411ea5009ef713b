import type { Language } from '../language';

/** Fabric's validation codes in words: what happened to a transaction, and why. */
const OUTCOMES: Record<string, Record<Language, string>> = {
    VALID: { en: 'Valid: its writes are on the ledger', zh: '有效：写入已生效' },
    NIL_ENVELOPE: { en: 'The envelope was empty', zh: '信封为空' },
    BAD_PAYLOAD: { en: 'The payload could not be read', zh: '无法解析载荷' },
    BAD_COMMON_HEADER: { en: 'The header was malformed', zh: '交易头格式错误' },
    BAD_CREATOR_SIGNATURE: { en: "The creator's signature does not fit", zh: '创建者签名无效' },
    INVALID_ENDORSER_TRANSACTION: { en: 'Not a well-formed endorsed transaction', zh: '背书交易格式错误' },
    INVALID_CONFIG_TRANSACTION: { en: 'Not a valid configuration change', zh: '配置交易无效' },
    UNSUPPORTED_TX_PAYLOAD: { en: 'A kind of transaction that peers do not accept', zh: '不支持的交易类型' },
    BAD_PROPOSAL_TXID: { en: 'The transaction id does not fit creator and nonce', zh: '交易 ID 不匹配' },
    DUPLICATE_TXID: { en: 'The transaction id was used before', zh: '交易 ID 重复' },
    ENDORSEMENT_POLICY_FAILURE: { en: 'Too few or wrong organisations endorsed it', zh: '不满足背书策略' },
    MVCC_READ_CONFLICT: {
        en: 'A key it had read was changed before it was committed; submit it again',
        zh: '读取的键在提交前已被修改，请重新提交',
    },
    PHANTOM_READ_CONFLICT: {
        en: 'A range it had read was changed before it was committed; submit it again',
        zh: '读取的范围在提交前已被修改，请重新提交',
    },
    UNKNOWN_TX_TYPE: { en: 'An unknown kind of transaction', zh: '未知交易类型' },
    TARGET_CHAIN_NOT_FOUND: { en: 'It names another channel', zh: '目标通道不存在' },
    MARSHAL_TX_ERROR: { en: 'It could not be encoded again', zh: '交易编码失败' },
    NIL_TXACTION: { en: 'It has no action', zh: '交易动作为空' },
    EXPIRED_CHAINCODE: { en: 'It used a chaincode definition that is no longer in force', zh: '链代码版本已过期' },
    CHAINCODE_VERSION_CONFLICT: { en: 'It used another chaincode version', zh: '链代码版本冲突' },
    BAD_HEADER_EXTENSION: { en: 'The header extension was malformed', zh: '交易头扩展格式错误' },
    BAD_CHANNEL_HEADER: { en: 'The channel header was malformed', zh: '通道头格式错误' },
    BAD_RESPONSE_PAYLOAD: { en: 'The endorsed response was malformed', zh: '响应载荷格式错误' },
    BAD_RWSET: { en: 'The read and write set was malformed', zh: '读写集格式错误' },
    ILLEGAL_WRITESET: { en: 'It writes where a transaction may not write', zh: '非法写集' },
    INVALID_WRITESET: { en: 'The state database cannot hold what it writes', zh: '写集无效' },
    INVALID_CHAINCODE: { en: 'The chaincode is unknown or does not fit', zh: '链代码无效' },
    NOT_VALIDATED: { en: 'Not looked at yet', zh: '尚未校验' },
    INVALID_OTHER_REASON: { en: 'Invalid for another reason', zh: '因其他原因无效' },
};

/** The code in words, or the code itself where it is new to this page. */
export function outcome(code: string, language: Language): string {
    return OUTCOMES[code]?.[language] ?? code;
}
