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
    organization_name: string;
    msp_id: string;
    name: string;
}

/** Bytes that a transaction carries: the beginning of them where they are very many. */
export interface Carried {
    value: string;
    is_base64: boolean;
    /** Bytes of the whole. */
    length: number;
}

export interface TransactionDetail {
    read_set: Record<string, { key: string; version: { block_num: number; tx_num: number } | null }[]>;
    write_set: Record<string, ({ key: string; is_delete: boolean } & Carried)[]>;
    validation_code: string;
    proposal_hash: string;
    transaction_summary: TransactionRow;
    transaction_index: number;
    endorsers: Signer[];
    creator: Signer;
    function: string;
    arguments: Carried[];
    response_status: number;
    response_payload: Carried;
    event: { name: string; payload: Carried } | null;
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

/** The service did not answer at all: it was stopped, or the network between is down. */
export class Unreachable extends Error {}

/** What a page hears of a channel while it is open. */
export interface Listener {
    /** From now on every block is told. */
    onOpen(): void;
    onBlock(block: LiveBlock): void;
    /** Blocks were passed over, because this page was too slow for them. */
    onMissed(): void;
}

/** The service says something every fifteen seconds, if only that it is there. */
const SILENCE_MS = 40_000;

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

    /** Ends the session at the service too, so that its token opens nothing any more. */
    public async logout(): Promise<void> {
        await request('/selvage/v1/sessions', { method: 'DELETE', headers: this.headers() });
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

    /** Tells of every block committed from now on. Ends with the stream, or when the signal or a long silence ends it. */
    public async live(at: At, listener: Listener, signal: AbortSignal): Promise<void> {
        const silence = new AbortController();
        const both = AbortSignal.any([signal, silence.signal]);
        let alarm = setTimeout(() => silence.abort(), SILENCE_MS);
        try {
            const response = await reach(agent(at, 'live'), { headers: this.headers(), signal: both });
            if (!response.ok || !response.body) {
                throw await refusal(response);
            }
            listener.onOpen();
            const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
            let pending = '';
            for (let part = await reader.read(); !part.done; part = await reader.read()) {
                clearTimeout(alarm);
                alarm = setTimeout(() => silence.abort(), SILENCE_MS);
                const events = (pending + part.value).split('\n\n');
                pending = events.pop() ?? '';
                events.forEach((event) => tell(listener, event));
            }
        } finally {
            clearTimeout(alarm);
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

/** Hands one server-sent event to who listens; comments and other events mean nothing here. */
export function tell(listener: Pick<Listener, 'onBlock' | 'onMissed'>, event: string): void {
    const field = (name: string) =>
        event
            .split('\n')
            .filter((line) => line.startsWith(`${name}:`))
            .map((line) => line.slice(name.length + 1).replace(/^ /, ''))
            .join('\n');
    switch (field('event')) {
        case 'block':
            return listener.onBlock(JSON.parse(field('data')) as LiveBlock);
        case 'skipped':
            return listener.onMissed();
    }
}

function agent(at: At, path: string, query: Record<string, string | number> = {}): string {
    const search = new URLSearchParams({ blockchain_id: at.instance });
    for (const [name, value] of Object.entries(query)) {
        search.set(name, String(value));
    }
    return `/v2/agent/apis/channel/${encodeURIComponent(at.channel)}/${path}?${search}`;
}

async function request<Answer>(path: string, options: RequestInit): Promise<Answer> {
    const response = await reach(path, options);
    if (!response.ok) {
        throw await refusal(response);
    }
    return (await response.json()) as Answer;
}

/** `fetch`, whose only word for a service that is not there is a `TypeError`. */
async function reach(path: string, options: RequestInit): Promise<Response> {
    try {
        return await fetch(path, options);
    } catch (error) {
        throw error instanceof TypeError ? new Unreachable(error.message) : error;
    }
}

async function refusal(response: Response): Promise<ApiError> {
    const body = (await response.json().catch(() => ({}))) as Partial<Record<string, string>>;
    const code = body.error_code ?? String(response.status);
    const message = body.error_msg ?? body.error_message ?? response.statusText;
    return new ApiError(response.status, code, message, response.headers.get('X-Request-Id'));
}
