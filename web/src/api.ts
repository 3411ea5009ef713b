/** The management API as this console uses it; `openapi/bcs-v2.json` describes all of it. */

export interface Session {
    token: string;
    expire_time: number;
    user: string;
    project_id: string;
}

export interface InstanceRow {
    id: string;
    name: string;
}

export interface Group {
    name: string;
    node_cnt: number;
    status: string;
    status_detail: string;
    address: { domain_port: string; ip_port: string }[];
}

export interface Instance {
    basic_info: {
        id: string;
        name: string;
        version: string;
        consensus: string;
        sign_algorithm: string;
        status: string;
        process_status?: string | null;
        created_time: string;
    };
    channels: { name: string; org_names: string[]; peers: Record<string, string[]> }[] | null;
    peer_info: Group[] | null;
    orderer_info: Group | null;
}

export interface BlockRow {
    block_number: number;
    block_hash_hex: string;
    block_hash: string;
    previous_hash: string;
    data_hash: string;
    transaction_count: number;
    timestamp: string;
    organization_maps: Record<string, number>;
}

export interface TransactionRow {
    organization_name: string;
    type: string;
    transaction_id: string;
    chaincode_name: string;
    timestamp: string;
    creator_msp: string;
    block_number: number;
    validation_code: string;
}

export interface Signer {
    msp_id: string;
    name: string;
}

export interface TransactionDetail {
    read_set: Record<string, { key: string; version: { block_num: number; tx_num: number } | null }[]>;
    write_set: Record<string, { key: string; is_delete: boolean; value: string; is_base64: boolean }[]>;
    validation_code: string;
    proposal_hash: string;
    transaction_summary: TransactionRow;
    transaction_index: number;
    endorsers: Signer[];
    creator: Signer;
    arguments: string[];
    response_status: number;
    response_payload: string;
    event: { name: string; payload: string } | null;
}

export interface Summary {
    peer_num: number;
    chaincodes: number;
    block_num: number;
    transaction_num: number;
    peers_list: { org_name: string; peer: string; url: string; status: string }[];
}

export interface Page<Row> {
    count: number;
    data: Row[];
}

export interface LiveBlock {
    block: BlockRow;
    transactions: TransactionRow[];
}

export type Found =
    | { kind: 'block'; block: BlockRow }
    | { kind: 'transaction'; transaction: TransactionDetail };

/** A refusal: BCS's code and sentence, and the id under which the manager logged it. */
export class ApiError extends Error {
    public constructor(
        public readonly status: number,
        public readonly code: string,
        message: string,
        public readonly requestId: string | null,
    ) {
        super(message);
    }
}

/** What a page may ask for. It holds the session, and nothing else knows the token. */
export class Api {
    public constructor(private readonly session: Session) {}

    public static async login(user: string, password: string): Promise<Session> {
        return request<Session>('/selvage/v1/sessions', {
            method: 'POST',
            headers: { 'Content-Type': 'application/json' },
            body: JSON.stringify({ user, password }),
        });
    }

    public instances(): Promise<{ blockchains: InstanceRow[] | null; count: number }> {
        return this.get(`/v2/${this.session.project_id}/blockchains`);
    }

    public instance(id: string): Promise<Instance> {
        return this.get(`/v2/${this.session.project_id}/blockchains/${encodeURIComponent(id)}`);
    }

    public summary(at: At): Promise<Summary> {
        return this.get(agent(at, 'summary'));
    }

    public blocks(at: At, offset: number, limit: number): Promise<Page<BlockRow>> {
        return this.get(agent(at, 'blocks', { is_pagination: 'true', offset, limit }));
    }

    public transactions(at: At, offset: number, limit: number): Promise<Page<TransactionRow>> {
        return this.get(agent(at, 'transactions', { is_pagination: 'true', offset, limit }));
    }

    public blockTransactions(at: At, number: number): Promise<TransactionDetail[]> {
        return this.get(agent(at, `blocks/${number}/transactions`));
    }

    public transaction(at: At, id: string): Promise<TransactionDetail> {
        return this.get(agent(at, `transactions/${encodeURIComponent(id)}/detail`));
    }

    public search(at: At, text: string): Promise<Found> {
        return this.get(agent(at, 'search', { q: text }));
    }

    /** Calls `onBlock` for every block committed from now on, until the signal ends it. */
    public async live(at: At, onBlock: (block: LiveBlock) => void, onOpen: () => void, signal: AbortSignal) {
        const response = await fetch(agent(at, 'live'), { headers: this.headers(), signal });
        if (!response.ok || !response.body) {
            throw await refusal(response);
        }
        onOpen();
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        let pending = '';
        for (let part = await reader.read(); !part.done; part = await reader.read()) {
            pending += part.value;
            const events = pending.split('\n\n');
            pending = events.pop() ?? '';
            for (const event of events) {
                const block = blockOf(event);
                if (block) {
                    onBlock(block);
                }
            }
        }
    }

    private get<Answer>(path: string): Promise<Answer> {
        return request<Answer>(path, { headers: this.headers() });
    }

    private headers(): Record<string, string> {
        return { 'X-Auth-Token': this.session.token };
    }
}

/** Which channel of which instance. */
export interface At {
    instance: string;
    channel: string;
}

/** The block in one server-sent event, or nothing when the event is of another kind. */
export function blockOf(event: string): LiveBlock | undefined {
    const lines = event.split('\n');
    const named = lines.some((line) => line.replace(/^event: ?/, '') === 'block' && line.startsWith('event:'));
    const data = lines.filter((line) => line.startsWith('data:')).map((line) => line.replace(/^data: ?/, ''));
    return named && data.length > 0 ? (JSON.parse(data.join('\n')) as LiveBlock) : undefined;
}

function agent(at: At, path: string, query: Record<string, string | number> = {}): string {
    const search = new URLSearchParams({ blockchain_id: at.instance });
    for (const [name, value] of Object.entries(query)) {
        search.set(name, String(value));
    }
    return `/v2/agent/apis/channel/${encodeURIComponent(at.channel)}/${path}?${search}`;
}

async function request<Answer>(path: string, options: RequestInit): Promise<Answer> {
    const response = await fetch(path, options);
    if (!response.ok) {
        throw await refusal(response);
    }
    return (await response.json()) as Answer;
}

async function refusal(response: Response): Promise<ApiError> {
    const body = (await response.json().catch(() => ({}))) as Partial<Record<string, string>>;
    const code = body.error_code ?? String(response.status);
    const message = body.error_msg ?? body.error_message ?? response.statusText;
    return new ApiError(response.status, code, message, response.headers.get('X-Request-Id'));
}
