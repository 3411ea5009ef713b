import type { Language } from '../language';

type Words = Record<string, Record<Language, string>>;

/** BCS's words for what an instance is doing. */
const STATUS: Words = {
    Normal: { en: 'Normal', zh: '正常' },
    Abnormal: { en: 'Abnormal', zh: '异常' },
    EipAbnormal: { en: 'Address not reachable', zh: '弹性IP异常' },
    Freeze: { en: 'Frozen', zh: '已冻结' },
    Hibernation: { en: 'Hibernating', zh: '休眠中' },
    IsCreating: { en: 'Being created', zh: '创建中' },
    IsUpgrading: { en: 'Being upgraded', zh: '升级中' },
    IsScaling: { en: 'Being scaled', zh: '扩缩容中' },
    IsDeleting: { en: 'Being deleted', zh: '删除中' },
    IsAdding: { en: 'Being added to', zh: '添加中' },
};
const UNKNOWN: Record<Language, string> = { en: 'Unknown', zh: '未知' };

/** Fabric's kinds of transactions. */
const KINDS: Words = {
    ENDORSER_TRANSACTION: { en: 'Chaincode call', zh: '链代码调用' },
    CONFIG: { en: 'Channel configuration', zh: '通道配置' },
    CONFIG_UPDATE: { en: 'Configuration update', zh: '通道配置更新' },
    ORDERER_TRANSACTION: { en: 'Creation of a channel', zh: '创建通道' },
};

/** BCS calls every status that it does not list unknown. */
export function status(value: string, language: Language): string {
    return (STATUS[value] ?? UNKNOWN)[language];
}

/** The kind in words, or as it stands where it is new to this page. */
export function kind(type: string, language: Language): string {
    return KINDS[type]?.[language] ?? type;
}
