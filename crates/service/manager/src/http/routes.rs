//! The table of everything the server answers. A request that no row matches is for the console's
//! files. Each row says who may ask, so that no endpoint can be added without that decision.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use selvage_manager_api::table::{self, OPERATIONS};

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Anybody: only what is needed to get in.
    Public,
    /// A signed request or a token.
    Known,
    /// As [`Guard::Known`], and the project in the path must be the caller's.
    Project,
}

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// One of BCS's operations, by number.
    Bcs(u8),
    Login,
    Logout,
    WhoAmI,
    Health,
    AgentToken,
    Peers,
    Summary,
    Blocks,
    Transactions,
    TransactionCount,
    BlockTransactions,
    TransactionDetail,
    Search,
    Live,
    InstallChaincode,
    InstantiateChaincode,
    Chaincodes,
    ChaincodeVersions,
    ChaincodeInstalls,
    ChaincodeInstantiations,
}

/// A row of the table.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) pattern: String,
    pub(crate) guard: Guard,
    pub(crate) endpoint: Endpoint,
}

/// The rows that are not BCS's operations: method, pattern, guard, endpoint.
const OWN: &[(&str, &str, Guard, Endpoint)] = &[
    (
        "POST",
        "/selvage/v1/sessions",
        Guard::Public,
        Endpoint::Login,
    ),
    (
        "DELETE",
        "/selvage/v1/sessions",
        Guard::Known,
        Endpoint::Logout,
    ),
    ("GET", "/selvage/v1/whoami", Guard::Known, Endpoint::WhoAmI),
    ("GET", "/healthz", Guard::Public, Endpoint::Health),
    (
        "GET",
        "/v2/agent/apis/tokens",
        Guard::Public,
        Endpoint::AgentToken,
    ),
    ("GET", "/v2/agent/apis/peers", Guard::Known, Endpoint::Peers),
    (
        "GET",
        "/v2/agent/apis/channel/{channel_id}/summary",
        Guard::Known,
        Endpoint::Summary,
    ),
    (
        "GET",
        "/v2/agent/apis/channel/{channel_id}/blocks",
        Guard::Known,
        Endpoint::Blocks,
    ),
    (
        "GET",
        "/v2/agent/apis/channel/{channel_id}/transactions",
        Guard::Known,
        Endpoint::Transactions,
    ),
    (
        "GET",
        "/v2/agent/apis/channel/{channel_id}/transactions/count",
        Guard::Known,
        Endpoint::TransactionCount,
    ),
    (
        "GET",
        "/v2/agent/apis/channel/{channel_id}/blocks/{block_number}/transactions",
        Guard::Known,
        Endpoint::BlockTransactions,
    ),
    (
        "GET",
        "/v2/agent/apis/channel/{channel_id}/transactions/{transaction_id}/detail",
        Guard::Known,
        Endpoint::TransactionDetail,
    ),
    (
        "GET",
        "/v2/agent/apis/channel/{channel_id}/search",
        Guard::Known,
        Endpoint::Search,
    ),
    (
        "GET",
        "/v2/agent/apis/channel/{channel_id}/live",
        Guard::Known,
        Endpoint::Live,
    ),
    (
        "POST",
        "/v2/agent/apis/chaincode",
        Guard::Known,
        Endpoint::InstallChaincode,
    ),
    // As BCS's own pages have it.
    (
        "POST",
        "/v2/agent/apis/chaincode/install",
        Guard::Known,
        Endpoint::InstallChaincode,
    ),
    (
        "POST",
        "/v2/agent/apis/chaincode/instantiate",
        Guard::Known,
        Endpoint::InstantiateChaincode,
    ),
    (
        "GET",
        "/v2/agent/apis/chaincodes",
        Guard::Known,
        Endpoint::Chaincodes,
    ),
    (
        "GET",
        "/v2/agent/apis/chaincode/versions",
        Guard::Known,
        Endpoint::ChaincodeVersions,
    ),
    (
        "GET",
        "/v2/agent/apis/chaincode/install",
        Guard::Known,
        Endpoint::ChaincodeInstalls,
    ),
    (
        "GET",
        "/v2/agent/apis/chaincode/instantiate",
        Guard::Known,
        Endpoint::ChaincodeInstantiations,
    ),
];

/// The whole table.
pub(crate) fn routes() -> Vec<Route> {
    let mut all: Vec<Route> = OPERATIONS
        .iter()
        .map(|operation| Route {
            method: match operation.method {
                table::Method::Get => "GET",
                table::Method::Post => "POST",
                table::Method::Put => "PUT",
                table::Method::Delete => "DELETE",
            },
            pattern: format!("/v2/{{project_id}}{}", operation.path),
            guard: Guard::Project,
            endpoint: Endpoint::Bcs(operation.number),
        })
        .collect();
    let own = OWN.iter().map(|&(method, pattern, guard, endpoint)| Route {
        method,
        pattern: pattern.to_owned(),
        guard,
        endpoint,
    });
    all.extend(own);
    // The more literal a pattern, the earlier it is tried: `flavors` before `{blockchain_id}`.
    all.sort_by_key(|r| r.pattern.matches('{').count());
    all
}

/// Values of the braces in a pattern, decoded.
pub(crate) type Params = HashMap<String, String>;

/// The first row that matches a method and a raw path. A segment is decoded after the path was
/// split, so an encoded slash stays inside its segment.
pub(crate) fn find<'a>(
    routes: &'a [Route],
    method: &str,
    path: &str,
) -> Option<(&'a Route, Params)> {
    let path = path.strip_suffix('/').unwrap_or(path);
    routes
        .iter()
        .filter(|r| r.method == method)
        .find_map(|r| Some((r, matches(&r.pattern, path)?)))
}

fn matches(pattern: &str, path: &str) -> Option<Params> {
    let mut params = Params::new();
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(params),
            (Some(want), Some(have)) => {
                let name = want.strip_prefix('{').and_then(|w| w.strip_suffix('}'));
                match name {
                    Some(name) if !have.is_empty() => {
                        let text = percent_decode_str(have).decode_utf8().ok()?;
                        params.insert(name.to_owned(), text.into_owned());
                    }
                    None if want == have => {}
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
}

/// Query parameters, decoded; the first of a repeated name counts.
pub(crate) fn query(raw: &str) -> Params {
    let mut params = Params::new();
    let decode = |t: &str| {
        percent_decode_str(&t.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned()
    };
    for pair in raw.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        params.entry(decode(key)).or_insert_with(|| decode(value));
    }
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(method: &str, path: &str) -> Option<Endpoint> {
        find(&routes(), method, path).map(|(r, _)| r.endpoint)
    }

    #[test]
    fn every_operation_is_reached_by_its_own_path() {
        let all = routes();
        for operation in &OPERATIONS {
            let path = format!("/v2/p{}", operation.path.replace(['{', '}'], ""));
            let method = format!("{:?}", operation.method).to_uppercase();
            let (route, _) = find(&all, &method, &path).expect(operation.name);
            assert_eq!(route.endpoint, Endpoint::Bcs(operation.number), "{path}");
        }
    }

    #[test]
    fn collisions_and_oddities_are_resolved() {
        assert_eq!(
            at("GET", "/v2/p/blockchains/flavors"),
            Some(Endpoint::Bcs(28))
        );
        assert_eq!(at("GET", "/v2/p/blockchains/abc"), Some(Endpoint::Bcs(27)));
        assert_eq!(
            at("PUT", "/v2/p/blockchains/b/ch/orgs/quit"),
            Some(Endpoint::Bcs(4))
        );
        assert_eq!(at("GET", "/v2/p/blockchains/"), Some(Endpoint::Bcs(20)));
        assert_eq!(at("GET", "/v2/p/blockchains//cert"), None);
        assert_eq!(at("PATCH", "/v2/p/blockchains"), None);
        assert_eq!(
            at("GET", "/v2/agent/apis/channel/c/transactions/count"),
            Some(Endpoint::TransactionCount)
        );
        let all = routes();
        let path = "/v2/p/blockchains/b/orgs/%E7%BB%84%2F%E7%BB%87/usercert/u";
        let (_, params) = find(&all, "POST", path).expect("op 6");
        assert_eq!(params["org_name"], "组/织");
        assert!(find(&all, "POST", "/v2/p/blockchains/b/orgs/%FF/usercert/u").is_none());
    }

    #[test]
    fn only_the_ways_in_are_public() {
        let public: Vec<Endpoint> = routes()
            .into_iter()
            .filter(|r| r.guard == Guard::Public)
            .map(|r| r.endpoint)
            .collect();
        assert_eq!(public.len(), 3);
        for way in [Endpoint::Login, Endpoint::AgentToken, Endpoint::Health] {
            assert!(public.contains(&way));
        }
        for route in routes() {
            let scoped = route.pattern.contains("{project_id}");
            assert_eq!(scoped, route.guard == Guard::Project, "{}", route.pattern);
        }
    }
}
