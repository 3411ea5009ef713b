//! What the published shims for Node and Go can ask of a peer besides plain reads and writes:
//! chaincode that calls chaincode, and endorsement policies of single keys.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

use selvage_channel::ChannelConfig;
use selvage_client::{Gateway, Invocation, PeerAdmin};
use selvage_network_tests::{Service, root, says, selvage_in};
use selvage_proto::peer::TxValidationCode as Code;
use serde_json::{Value, json};

const NODE: &str = "probe-node";
const GO: &str = "probe-go";

#[tokio::test(flavor = "multi_thread")]
async fn the_shims_get_what_they_ask_for() {
    let service = Service::up(&["--chaincode", "NONE"]);
    deploy(
        &service,
        NODE,
        &root().join("tests/network/contracts/probe-node"),
    );
    deploy(&service, GO, &go_folder(&service));
    let orgs = organisations(&service).await;
    let gateway = service.gateway();
    for (own, other) in [(NODE, GO), (GO, NODE)] {
        println!("{own}");
        let probe = Probe {
            gateway: &gateway,
            channel: &service.said().channel,
            own,
        };
        probe.calls(other).await;
        probe.calls_in_vain(other).await;
        probe.guards_a_key(&orgs).await;
        probe.answers_differently_everywhere().await;
    }
}

fn deploy(service: &Service, name: &str, folder: &Path) {
    let output = selvage_in(
        service.folder(),
        &["deploy", name, folder.to_str().unwrap()],
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
}

/// The Go contract with the modules of the example, whose versions are pinned there.
fn go_folder(service: &Service) -> PathBuf {
    let folder = service.folder().join("probe-go");
    std::fs::create_dir(&folder).unwrap();
    for file in [
        "tests/network/contracts/probe-go/main.go",
        "examples/chaincode-go/go.mod",
        "examples/chaincode-go/go.sum",
    ] {
        let from = root().join(file);
        std::fs::copy(&from, folder.join(from.file_name().unwrap())).unwrap();
    }
    folder
}

/// The two organisations, the gateway's first.
async fn organisations(service: &Service) -> [String; 2] {
    let own = service.said().gateway.msp_id.clone();
    let peer = PeerAdmin::new(service.peer(), service.user());
    let block = peer.config_block(&service.said().channel).await.unwrap();
    let config = ChannelConfig::from_block(&block).unwrap();
    let orgs = config.application().unwrap().orgs().values();
    let other = orgs.map(|org| &org.msp_id).find(|id| **id != own);
    [own, other.unwrap().clone()]
}

/// One of the contracts, called by a user.
struct Probe<'a> {
    gateway: &'a Gateway,
    channel: &'a str,
    own: &'a str,
}

impl Probe<'_> {
    async fn read(&self, chaincode: &str, call: &[&str]) -> Result<String, String> {
        let call = Invocation::new(chaincode, call[0]).args(&call[1..]);
        let answer = self.gateway.evaluate(&call, &[]).await;
        let answer = answer.map_err(|e| e.text())?;
        Ok(String::from_utf8(answer.to_vec()).unwrap())
    }

    async fn get(&self, chaincode: &str, key: &str) -> String {
        self.read(chaincode, &["Get", key]).await.unwrap()
    }

    /// Submits a call and expects it to be valid; gives its id and its result.
    async fn submit(&self, call: &[&str]) -> (String, String) {
        let call = Invocation::new(self.own, call[0]).args(&call[1..]);
        let done = self.gateway.submit_transaction(&call).await;
        let done = done.unwrap_or_else(|e| panic!("{}: {call:?}: {}", self.own, e.text()));
        (done.tx_id, String::from_utf8(done.result.to_vec()).unwrap())
    }

    /// What becomes of a call that these organisations endorse.
    async fn endorsed_by(&self, orgs: &[String], call: &[&str]) -> Code {
        let call = Invocation::new(self.own, call[0]).args(&call[1..]);
        let prepared = self.gateway.endorse(&call, orgs).await;
        let prepared = prepared.unwrap_or_else(|e| panic!("{}: {}", self.own, e.text()));
        self.gateway.submit(&prepared).await.unwrap();
        let status = self.gateway.commit_status(&prepared.tx_id).await;
        status.unwrap().code
    }

    /// The other contract runs in the same transaction and writes where it always writes.
    async fn calls(&self, other: &str) {
        let key = format!("from-{}", self.own);
        for (channel, value) in [("", "1"), (self.channel, "2")] {
            let put = json!(["Put", key, value]).to_string();
            let call = ["Call", other, channel, &put];
            let (tx_id, result) = self.submit(&call).await;
            let answer: Value = serde_json::from_str(&result).unwrap();
            let expected = json!({ "status": 200, "message": "", "payload": tx_id });
            assert_eq!(answer, expected, "{} in channel {channel:?}", self.own);
            assert_eq!(self.get(other, &key).await, value);
            assert_eq!(self.get(self.own, &key).await, "", "not its own key");
        }
        let get = json!(["Get", key]).to_string();
        let call = ["Call", other, self.channel, &get];
        let answer = self.read(self.own, &call).await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["payload"], "2");
    }

    /// Node's shim throws what Go's shim returns when there was nobody to ask.
    async fn called_in_vain(&self, call: &[&str]) -> String {
        match self.read(self.own, call).await {
            Ok(answer) => {
                let answer: Value = serde_json::from_str(&answer).unwrap();
                assert_eq!(answer["status"], 500, "{answer}");
                answer["payload"].as_str().unwrap().to_owned()
            }
            Err(text) => text,
        }
    }

    async fn calls_in_vain(&self, other: &str) {
        // What the other contract refuses is for the caller to judge.
        let fail = r#"["Fail","as it was asked to"]"#;
        let call = ["Call", other, "", fail];
        let answer = self.read(self.own, &call).await.unwrap();
        let expected = json!({ "status": 500, "message": "as it was asked to", "payload": "" });
        assert_eq!(serde_json::from_str::<Value>(&answer).unwrap(), expected);

        let failed = "INVOKE_CHAINCODE failed: transaction ID: ";
        let get = r#"["Get","x"]"#;
        let call = ["Call", "nothing", "", get];
        let text = self.called_in_vain(&call).await;
        let undefined = format!(
            ": execute failed: invalid invocation: [channel {}] failed to get chaincode container \
             info for nothing: ",
            self.channel
        );
        says(&text, &[failed, &undefined]);
        let call = ["Call", other, "nowhere", get];
        let unknown = ": Failed to get policy manager for channel [nowhere]";
        says(&self.called_in_vain(&call).await, &[failed, unknown]);
    }

    /// The policy of a key replaces that of the chaincode, which asks for both organisations.
    async fn guards_a_key(&self, [first, second]: &[String; 2]) {
        let (one, two) = ([first.clone()], [second.clone()]);
        let guardians = async |key: &str| {
            let answer = self.read(self.own, &["Guardians", key]).await.unwrap();
            serde_json::from_str::<Value>(&answer).unwrap()
        };
        self.submit(&["Put", "guarded", "1"]).await;
        assert_eq!(guardians("guarded").await, json!([]));
        let put = ["Put", "guarded", "2"];
        let refused = Code::EndorsementPolicyFailure;
        assert_eq!(self.endorsed_by(&one, &put).await, refused);

        let only = |org: &str| json!([org]).to_string();
        self.submit(&["Guard", "guarded", &only(first)]).await;
        assert_eq!(guardians("guarded").await, json!([first]));
        assert_eq!(self.endorsed_by(&one, &put).await, Code::Valid);
        let put = ["Put", "guarded", "3"];
        assert_eq!(self.endorsed_by(&two, &put).await, refused);
        assert_eq!(self.get(self.own, "guarded").await, "2");
        let put = ["Put", "unguarded", "1"];
        assert_eq!(self.endorsed_by(&one, &put).await, refused, "another key");

        // Whoever may change the key may hand it on, and nobody else.
        let to = only(second);
        let hand_on = ["Guard", "guarded", &to];
        assert_eq!(self.endorsed_by(&two, &hand_on).await, refused);
        assert_eq!(self.endorsed_by(&one, &hand_on).await, Code::Valid);
        assert_eq!(guardians("guarded").await, json!([second]));
        let put = ["Put", "guarded", "4"];
        assert_eq!(self.endorsed_by(&one, &put).await, refused);
        // The gateway reads the policy from what the first peer touched.
        self.submit(&put).await;
        assert_eq!(self.get(self.own, "guarded").await, "4");

        let mut both = [first, second];
        both.sort();
        let share = json!([second, first]).to_string();
        let share = ["Guard", "guarded", &share];
        self.submit(&share).await;
        assert_eq!(guardians("guarded").await, json!(both));
        let put = ["Put", "guarded", "5"];
        assert_eq!(self.endorsed_by(&two, &put).await, refused);
    }

    async fn answers_differently_everywhere(&self) {
        let call = Invocation::new(self.own, "Dice");
        let refused = self.gateway.endorse(&call, &[]).await.unwrap_err();
        let words = [
            "failed to collect enough transaction endorsements, see attached details for more info",
            "ProposalResponsePayloads do not match",
        ];
        says(&refused.text(), &words);
    }
}
