//! The OpenAPI document, made from the operation table and the types.

use utoipa::OpenApi;
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, Info, ObjectBuilder, OpenApi as Document, PathItem, PathsBuilder, Ref, RefOr,
    Required, ResponseBuilder, ResponsesBuilder, Schema, Type,
};

use crate::table::{Answer, Method, OPERATIONS, Operation};
use crate::{agent, cert, chaincode, channel, console, error, instance, operation};

/// Collects the schemas; the paths come from the tables.
#[derive(OpenApi)]
#[openapi(components(schemas(
    error::ErrorBody,
    instance::CreateRequestBody,
    instance::CreateNewBlockchainResponse,
    instance::ListBlockchainsResponse,
    instance::ShowBlockchainDetailResponse,
    instance::ShowBlockchainStatusResponse,
    instance::ShowBlockchainNodesResponse,
    instance::ShowBlockchainFlavorsResponse,
    instance::ListQuotasResponse,
    operation::ListOpRecordResponse,
    operation::OperationStarted,
    channel::ListBlockchainChannelsResponse,
    cert::CfgRequestBody,
    console::LoginRequest,
    console::Session,
    console::WhoAmI,
    agent::AgentToken,
    agent::AgentPeers,
    agent::ChannelSummary,
    agent::BlockList,
    agent::TransactionList,
    agent::TransactionTotal,
    agent::TransactionDetail,
    agent::SearchResult,
    agent::LiveBlock,
    chaincode::ChaincodeUpload,
    chaincode::TargetPeer,
    chaincode::InstallChaincodeResponse,
    chaincode::InstantiateChaincodeRequest,
    chaincode::InstantiateChaincodeResponse,
    chaincode::ChaincodeList,
    chaincode::ChaincodeVersions,
    chaincode::ChaincodeInstalls,
    chaincode::ChaincodeInstantiations,
)))]
struct Schemas;

/// A path of our own: method, path, operation id, title, query, body, answer.
type Own = (
    Method,
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    Option<&'static str>,
    &'static str,
);

const PAGE: &[&str] = &["blockchain_id", "is_pagination", "offset", "limit"];
const ONE: &[&str] = &["blockchain_id"];

const OF_CHAINCODE: &[&str] = &["blockchain_id", "chaincode_name*"];
/// The body that is a form with a file.
const FORM: &str = "ChaincodeUpload";

/// Paths outside `/v2/{project_id}`.
const OWN: &[Own] = &[
    (
        Method::Post,
        "/selvage/v1/sessions",
        "login",
        "log in to the console",
        &[],
        Some("LoginRequest"),
        "Session",
    ),
    (
        Method::Get,
        "/selvage/v1/whoami",
        "whoami",
        "who am I",
        &[],
        None,
        "WhoAmI",
    ),
    (
        Method::Get,
        "/v2/agent/apis/tokens",
        "agent_token",
        "get a token",
        &[],
        None,
        "AgentToken",
    ),
    (
        Method::Get,
        "/v2/agent/apis/peers",
        "agent_peers",
        "list peers",
        ONE,
        None,
        "AgentPeers",
    ),
    (
        Method::Get,
        "/v2/agent/apis/channel/{channel_id}/summary",
        "channel_summary",
        "counters and curves of a channel",
        ONE,
        None,
        "ChannelSummary",
    ),
    (
        Method::Get,
        "/v2/agent/apis/channel/{channel_id}/blocks",
        "list_blocks",
        "list blocks, newest first",
        PAGE,
        None,
        "BlockList",
    ),
    (
        Method::Get,
        "/v2/agent/apis/channel/{channel_id}/transactions",
        "list_transactions",
        "list transactions, newest first",
        PAGE,
        None,
        "TransactionList",
    ),
    (
        Method::Get,
        "/v2/agent/apis/channel/{channel_id}/transactions/count",
        "count_transactions",
        "count transactions",
        ONE,
        None,
        "TransactionTotal",
    ),
    (
        Method::Get,
        "/v2/agent/apis/channel/{channel_id}/blocks/{block_number}/transactions",
        "list_block_transactions",
        "transactions of a block in full (a JSON array)",
        ONE,
        None,
        "TransactionDetail",
    ),
    (
        Method::Get,
        "/v2/agent/apis/channel/{channel_id}/transactions/{transaction_id}/detail",
        "show_transaction",
        "one transaction in full",
        ONE,
        None,
        "TransactionDetail",
    ),
    (
        Method::Get,
        "/v2/agent/apis/channel/{channel_id}/search",
        "search",
        "find a block by number or hash, or a transaction by id",
        &["blockchain_id", "q*"],
        None,
        "SearchResult",
    ),
    (
        Method::Get,
        "/v2/agent/apis/channel/{channel_id}/live",
        "live_blocks",
        "blocks as they are committed (server-sent events named block)",
        ONE,
        None,
        "LiveBlock",
    ),
    (
        Method::Post,
        "/v2/agent/apis/chaincode",
        "install_chaincode",
        "install a chaincode on peers; also answered as /v2/agent/apis/chaincode/install",
        ONE,
        Some(FORM),
        "InstallChaincodeResponse",
    ),
    (
        Method::Post,
        "/v2/agent/apis/chaincode/instantiate",
        "instantiate_chaincode",
        "instantiate or upgrade a chaincode in a channel",
        ONE,
        Some("InstantiateChaincodeRequest"),
        "InstantiateChaincodeResponse",
    ),
    (
        Method::Get,
        "/v2/agent/apis/chaincodes",
        "list_chaincodes",
        "list the chaincodes on the peers",
        &["blockchain_id", "offset", "limit"],
        None,
        "ChaincodeList",
    ),
    (
        Method::Get,
        "/v2/agent/apis/chaincode/versions",
        "list_chaincode_versions",
        "list the versions of a chaincode",
        OF_CHAINCODE,
        None,
        "ChaincodeVersions",
    ),
    (
        Method::Get,
        "/v2/agent/apis/chaincode/install",
        "list_chaincode_installs",
        "where a chaincode is installed",
        OF_CHAINCODE,
        None,
        "ChaincodeInstalls",
    ),
    (
        Method::Get,
        "/v2/agent/apis/chaincode/instantiate",
        "list_chaincode_instantiations",
        "where a chaincode is instantiated",
        OF_CHAINCODE,
        None,
        "ChaincodeInstantiations",
    ),
];

/// The document as it is kept in `openapi/bcs-v2.json`, with a final line break.
pub fn document() -> Result<String, serde_json::Error> {
    let mut doc: Document = Schemas::openapi();
    doc.info = Info::new("Selvage management API", "v2");
    doc.info.description = Some(
        "The paths under /v2/{project_id} are those of Huawei Cloud BCS's SDK; requests are signed \
         with SDK-HMAC-SHA256 or carry X-Auth-Token."
            .to_owned(),
    );
    let mut paths = PathsBuilder::new();
    for operation in &OPERATIONS {
        paths = paths.path(
            format!("/v2/{{project_id}}{}", operation.path),
            PathItem::new(method(operation.method), bcs(operation)),
        );
    }
    for own in OWN {
        paths = paths.path(own.1, PathItem::new(method(own.0), self::own(own)));
    }
    doc.paths = paths.build();
    if let Some(components) = doc.components.as_mut() {
        let header = |name: &str| SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new(name)));
        components.add_security_scheme("token", header("X-Auth-Token"));
        components.add_security_scheme("signature", header("Authorization"));
    }
    let mut text = doc.to_pretty_json()?;
    text.push('\n');
    Ok(text)
}

fn method(method: Method) -> HttpMethod {
    match method {
        Method::Get => HttpMethod::Get,
        Method::Post => HttpMethod::Post,
        Method::Put => HttpMethod::Put,
        Method::Delete => HttpMethod::Delete,
    }
}

fn text_schema() -> RefOr<Schema> {
    RefOr::T(Schema::Object(
        ObjectBuilder::new().schema_type(Type::String).build(),
    ))
}

/// Parameters named in braces in the path, then those of the query.
fn parameters(path: &str, query: &[&str]) -> Vec<Parameter> {
    let named = |name: &str, place, required| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(required)
            .schema(Some(text_schema()))
            .build()
    };
    let in_path = path
        .split('/')
        .filter_map(|s| s.strip_prefix('{')?.strip_suffix('}'));
    let in_query = query.iter().map(|q| match q.strip_suffix('*') {
        Some(name) => named(name, ParameterIn::Query, Required::True),
        None => named(q, ParameterIn::Query, Required::False),
    });
    in_path
        .map(|n| named(n, ParameterIn::Path, Required::True))
        .chain(in_query)
        .collect()
}

fn json(schema: &str) -> Content {
    Content::new(Some(RefOr::Ref(Ref::from_schema_name(schema))))
}

fn start(
    id: &str,
    title: &str,
    path: &str,
    query: &[&str],
    body: Option<&str>,
) -> OperationBuilder {
    let body = body.map(|schema| {
        let kind = match schema {
            FORM => "multipart/form-data",
            _ => "application/json",
        };
        RequestBodyBuilder::new()
            .content(kind, json(schema))
            .required(Some(Required::True))
            .build()
    });
    OperationBuilder::new()
        .operation_id(Some(id))
        .summary(Some(title))
        .parameters(Some(parameters(path, query)))
        .request_body(body)
        .securities(Some([
            SecurityRequirement::new("signature", Vec::<String>::new()),
            SecurityRequirement::new("token", Vec::<String>::new()),
        ]))
}

fn bcs(operation: &Operation) -> OperationBuilder {
    let path = format!("/v2/{{project_id}}{}", operation.path);
    let start = start(
        operation.name,
        operation.title,
        &path,
        operation.query,
        operation.body,
    )
    .tag("bcs");
    let failure = ResponseBuilder::new()
        .description("failure")
        .content("application/json", json("ErrorBody"))
        .build();
    let mut responses = ResponsesBuilder::new().response("4XX", failure.clone());
    responses = match operation.answer {
        Answer::Json(schema) => responses.response(
            "200",
            ResponseBuilder::new()
                .description("done or begun")
                .content("application/json", json(schema))
                .build(),
        ),
        Answer::Zip => responses.response(
            "200",
            ResponseBuilder::new()
                .description("a zip archive")
                .content(
                    "application/octet-stream",
                    Content::new(Some(text_schema())),
                )
                .build(),
        ),
        Answer::NotBuilt => responses.response("501", failure),
    };
    start.responses(responses.build())
}

fn own(own: &Own) -> OperationBuilder {
    let (_, path, id, title, query, body, answer) = *own;
    let done = ResponseBuilder::new()
        .description("done")
        .content("application/json", json(answer))
        .build();
    let failure = ResponseBuilder::new()
        .description("failure")
        .content("application/json", json("ErrorBody"))
        .build();
    start(id, title, path, query, body)
        .tag("selvage")
        .responses(
            ResponsesBuilder::new()
                .response("200", done)
                .response("4XX", failure)
                .build(),
        )
}
