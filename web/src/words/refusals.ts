import type { Language } from '../language';

/** The service refuses in English, as BCS does; these say the same to who reads Chinese. */
const CHINESE: Record<string, string> = {
    'BCS.4000013': '请求内容过大。',
    'BCS.4001001': '实例正在创建，请稍后重试。',
    'BCS.4001002': '实例正在变更，请稍后重试。',
    'BCS.4001003': '实例正在删除。',
    'BCS.4001011': '实例不存在或已被删除，请刷新页面。',
    'BCS.4001018': '已存在同名实例，请更换名称。',
    'BCS.4001020': '实例状态异常或正在处理中，请稍后重试。',
    'BCS.4001021': '实例配额已用完。',
    'BCS.4001051': '组织不存在。',
    'BCS.4006003': '请求格式错误。',
    'BCS.4006005': '参数取值不正确。',
    'BCS.4006009': '缺少必填参数。',
    'BCS.4006012': '通道不存在或名称不合法。',
    'BCS.4006014': '配额类型不存在。',
    'BCS.4009100': '系统的某个部分没有响应，请检查节点状态后重试。',
    'BCS.4010401': '登录已失效，请重新登录。',
    'BCS.4030403': '没有权限执行该操作。',
    'BCS.4040404': '没有找到所请求的内容。',
    'BCS.4080408': '请求内容传输过慢，请在更快的网络上重试。',
    'BCS.4290429': '登录失败次数过多，请稍后再试。',
    'BCS.5000500': '服务内部错误，请凭请求 ID 在日志中查找原因。',
    'BCS.5010501': '该功能在当前版本中尚未提供。',
};

/** What a refusal means in the reader's language, where that is not the language it came in. */
export function refusal(code: string, language: Language): string | undefined {
    return language === 'zh' ? CHINESE[code] : undefined;
}
