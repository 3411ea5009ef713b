//! Installing and instantiating on peers that only remember.

use super::testing::{Peers, package_of, zip_of};
use super::*;
use crate::network::testing;
use bytes::Bytes;
use selvage_manager_api::chaincode::{InitArgs, OrgPolicy, Policy, TargetPeer};

struct Bench {
    _dir: tempfile::TempDir,
    peers: Arc<Peers>,
    desk: Desk,
}

/// Three peers: two of `org1`, one of `组织机构`.
impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let store = Store::open(&dir.path().join("db")).await.expect("database");
        let peers = Arc::new(Peers::default());
        let desk = Desk {
            instance: "i".into(),
            site: Site {
                network: Arc::new(testing::network()),
                folders: crate::network::Folders::new(dir.path().join("instances/i")),
            },
            fabric: Arc::clone(&peers) as Arc<dyn Fabric>,
            store,
            chaincodes: Arc::default(),
        };
        Self {
            _dir: dir,
            peers,
            desk,
        }
    }

    fn node(&self, n: usize) -> String {
        let names: Vec<_> = self
            .desk
            .site
            .peers()
            .map(|at| at.node.name.clone())
            .collect();
        names[n].clone()
    }

    async fn install(&self, version: &str, code: &[u8]) -> Result<u32, ApiError> {
        let zip = zip_of(&[("package.json", b"{}"), ("index.js", code)]);
        self.install_on(version, zip, None).await
    }

    async fn install_on(
        &self,
        version: &str,
        file: Vec<u8>,
        targets: Option<Vec<TargetPeer>>,
    ) -> Result<u32, ApiError> {
        let upload = Upload {
            name: "assets".into(),
            version: version.into(),
            language: None,
            description: format!("about {version}"),
            targets,
            file: file.into(),
        };
        let done = self.desk.install(upload, &|_| ()).await?;
        assert_eq!(
            done.success_peer_num + done.fail_peer_num,
            done.total_peer_num
        );
        assert_eq!(done.fail_peers.len() as u32, done.fail_peer_num);
        Ok(done.success_peer_num)
    }

    async fn instantiate(&self, version: &str) -> Result<i64, ApiError> {
        self.instantiate_as(&request(version)).await
    }

    async fn instantiate_as(&self, request: &InstantiateChaincodeRequest) -> Result<i64, ApiError> {
        let done = self.desk.instantiate(request, &|_| ()).await?;
        Ok(done.sequence)
    }
}

fn request(version: &str) -> InstantiateChaincodeRequest {
    InstantiateChaincodeRequest {
        chaincode_name: "assets".into(),
        chaincode_version: version.into(),
        channel_name: "channel".into(),
        endorsement_policy: None,
        init_variable: None,
        private_data: None,
    }
}

fn policy(operation: &str, org: &str) -> Option<Policy> {
    Some(Policy {
        operation: operation.into(),
        group: vec![OrgPolicy {
            org_id: org.into(),
            category: None,
        }],
    })
}

#[tokio::test]
async fn a_version_is_installed_everywhere_instantiated_and_upgraded() {
    let bench = Bench::new().await;
    assert_eq!(bench.install("1.0", b"one").await.expect("installed"), 3);
    assert_eq!(bench.install("1.0", b"one").await.expect("again"), 3);
    assert_eq!(bench.instantiate("1.0").await.expect("defined"), 1);
    let approved = bench.peers.approved.lock().clone();
    assert_eq!(approved.len(), 2, "both organisations");
    assert!(approved.iter().all(|(_, _, package)| package.is_some()));
    assert_eq!(bench.install("1.1", b"two").await.expect("installed"), 3);
    assert_eq!(bench.instantiate("1.1").await.expect("upgraded"), 2);

    let list = bench.desk.list(0, 10).await.expect("list");
    assert_eq!((list.count, list.chaincodes.len()), (1, 1));
    let info = &list.chaincodes[0];
    assert_eq!(info.chaincode_version, "1.0,1.1");
    assert_eq!(info.chaincode_language, "node");
    assert_eq!(info.install_org_infos.len(), 3);
    assert_eq!(info.instantiated_channel.success, ["channel"]);
    assert_eq!(info.instantiated_info.channels[0].versions, ["1.1"]);
    assert!(
        bench
            .desk
            .list(1, 10)
            .await
            .expect("list")
            .chaincodes
            .is_empty()
    );

    let versions = bench
        .desk
        .versions("assets")
        .await
        .expect("versions")
        .versions;
    let status = |n: usize| (versions[n].version.as_str(), versions[n].instantiate_status);
    assert_eq!((status(0), status(1)), (("1.0", false), ("1.1", true)));
    assert_eq!(versions[0].uninstantiated_peer_infos.len(), 3);
    assert_eq!(versions[1].uninstantiated_peer_infos.len(), 0);
    assert_eq!(versions[1].description, "about 1.1");
    assert_eq!(versions[1].hash_code.len(), 64);
    assert!(versions[1].install_time.starts_with("20"));

    let installs = bench
        .desk
        .installs("assets")
        .await
        .expect("installs")
        .result;
    assert_eq!(installs.len(), 6, "three peers, two versions");
    let result = bench
        .desk
        .instantiations("assets")
        .await
        .expect("where")
        .result;
    assert_eq!(result[0].instantiate_info.status, "CHAINCODE_INSTANTIATED");
    assert_eq!(result[0].instantiate_info.code, "1000");
    assert_eq!((result[0].version.as_str(), result[0].sequence), ("1.1", 2));
    assert_eq!(result[0].orgs_info.len(), 2);
}

#[tokio::test]
async fn peers_are_chosen_by_what_bcs_calls_them() {
    let bench = Bench::new().await;
    let network = &bench.desk.site.network;
    let org = &network.peers[0];
    let some = |text: &str| Some(text.to_owned());
    let zip = || zip_of(&[("package.json", b"{}")]);
    let by_domain = TargetPeer {
        org_id: some(&org.hash),
        org_name: some("org1"),
        peer_id: some(&org.nodes[1].domain),
        peer_name: some("peer-1"),
    };
    let by_name = TargetPeer {
        peer_id: some(&org.nodes[1].name),
        ..TargetPeer::default()
    };
    let targets = Some(vec![by_domain, by_name]);
    let installed = bench.install_on("1.0", zip(), targets).await;
    assert_eq!(installed.expect("installed"), 1, "the same peer twice");
    assert_eq!(*bench.peers.installs.lock(), [org.nodes[1].name.clone()]);
    let wrong = [
        TargetPeer {
            peer_name: some("peer-9"),
            ..TargetPeer::default()
        },
        TargetPeer {
            org_name: some("组织机构"),
            peer_id: some(&org.nodes[1].name),
            ..TargetPeer::default()
        },
        TargetPeer {
            org_name: some("org1"),
            ..TargetPeer::default()
        },
    ];
    for target in wrong {
        let error = bench.install_on("1.0", zip(), Some(vec![target])).await;
        let error = error.expect_err("no such peer");
        assert_eq!(error.code, ErrorCode::NoSuchPeer);
        assert!(error.message.contains(&org.nodes[0].name), "{error}");
    }
    assert!(bench.install_on("1.0", zip(), Some(vec![])).await.is_err());
    assert_eq!(
        bench.peers.installs.lock().len(),
        1,
        "nothing else was tried"
    );
}

#[tokio::test]
async fn what_does_not_build_is_tried_on_one_peer_and_leaves_nothing() {
    let bench = Bench::new().await;
    *bench.peers.build_error.lock() = Some("x.js:1: oops".into());
    let error = bench.install("1.0", b"one").await.expect_err("no build");
    assert_eq!(error.code, ErrorCode::ChaincodeBuild);
    assert!(error.message.contains("x.js:1: oops"), "{error}");
    assert_eq!(bench.peers.installs.lock().len(), 1);
    assert_eq!(bench.desk.list(0, 10).await.expect("list").count, 0);
}

#[tokio::test]
async fn peers_that_are_away_are_named_and_not_counted() {
    let bench = Bench::new().await;
    let away = bench.node(0);
    bench.peers.away.lock().insert(away.clone());
    let upload = Upload {
        name: "assets".into(),
        version: "1.0".into(),
        language: None,
        description: String::new(),
        targets: None,
        file: zip_of(&[("package.json", b"{}")]).into(),
    };
    let done = bench
        .desk
        .install(upload, &|_| ())
        .await
        .expect("installed");
    assert_eq!((done.success_peer_num, done.fail_peer_num), (2, 1));
    assert!(
        done.fail_peers[0].starts_with(&away),
        "{:?}",
        done.fail_peers
    );
    let installs = bench
        .desk
        .installs("assets")
        .await
        .expect("installs")
        .result;
    let status: Vec<_> = installs.iter().map(|i| i.install_status.as_str()).collect();
    assert_eq!(status, ["unknown", "installed", "installed"]);
    let error = bench.instantiate("1.0").await.expect_err("one is away");
    assert!(error.message.contains(&away), "{error}");
    assert!(bench.peers.approved.lock().is_empty(), "nothing was begun");

    for n in 1..3 {
        bench.peers.away.lock().insert(bench.node(n));
    }
    let error = bench.desk.list(0, 10).await.expect_err("nobody answers");
    assert_eq!(error.code, ErrorCode::SystemError);
    let error = bench
        .install("1.1", b"two")
        .await
        .expect_err("nobody answers");
    assert_eq!(error.code, ErrorCode::SystemError);
}

#[tokio::test]
async fn a_version_means_one_code() {
    let bench = Bench::new().await;
    bench.install("1.0", b"one").await.expect("installed");
    let error = bench.install("1.0", b"two").await.expect_err("taken");
    assert_eq!(error.code, ErrorCode::VersionTaken);
    // Installed by other means, a package is known by its label.
    let package = package_of("golang", &[("src/go.mod", b"module x")]);
    let id = Package::open(&package).expect("a package").id().to_owned();
    for n in 0..3 {
        let mut packages = bench.peers.packages.lock();
        let own = packages.entry(bench.node(n)).or_default();
        own.push((id.clone(), package.clone().into()));
    }
    let list = bench.desk.list(0, 10).await.expect("list");
    let names: Vec<_> = list
        .chaincodes
        .iter()
        .map(|c| c.chaincode_name.as_str())
        .collect();
    assert_eq!(names, ["assets", "label"]);
    assert_eq!(list.chaincodes[1].chaincode_language, "golang");
    assert_eq!(list.chaincodes[1].update_time, "");
}

#[tokio::test]
async fn what_cannot_be_instantiated_is_refused_before_anything_is_done() {
    let bench = Bench::new().await;
    let error = bench.instantiate("1.0").await.expect_err("not installed");
    assert_eq!(error.code, ErrorCode::NoSuchChaincode);
    let target = TargetPeer {
        peer_name: Some(bench.node(0)),
        ..TargetPeer::default()
    };
    let zip = zip_of(&[("package.json", b"{}")]);
    let installed = bench.install_on("1.0", zip, Some(vec![target])).await;
    assert_eq!(installed.expect("installed"), 1);
    let other = |change: &dyn Fn(&mut InstantiateChaincodeRequest)| {
        let mut request = request("1.0");
        change(&mut request);
        request
    };
    let only_args = InitArgs {
        func_name: String::new(),
        args: vec!["a".into()],
    };
    for (request, code, part) in [
        (
            other(&|r| r.channel_name = "nowhere".into()),
            ErrorCode::BadChannelName,
            "has the channels channel",
        ),
        (
            other(&|r| r.chaincode_version = "2.0".into()),
            ErrorCode::NoSuchChaincode,
            "installed: 1.0",
        ),
        (
            other(&|r| r.endorsement_policy = policy("OR", "nobody")),
            ErrorCode::NoSuchOrg,
            "nobody",
        ),
        (
            other(&|r| r.endorsement_policy = policy("AND", "组织机构")),
            ErrorCode::BadParameter,
            "none of its peers has assets 1.0",
        ),
        (
            other(&|r| r.private_data = Some("x".into())),
            ErrorCode::BadParameter,
            "private_data",
        ),
        (
            other(&|r| r.init_variable = Some(only_args.clone())),
            ErrorCode::MissingParameter,
            "func_name",
        ),
    ] {
        let error = bench.instantiate_as(&request).await.expect_err(part);
        assert_eq!(error.code, code, "{error}");
        assert!(
            error.message.contains(part),
            "{part:?} is missing in: {error}"
        );
    }
    assert!(bench.peers.approved.lock().is_empty(), "nothing was begun");
    assert!(bench.desk.chaincodes.running.lock().is_empty());
    assert_eq!(bench.instantiate("1.0").await.expect("defined"), 1);
    let approved = bench.peers.approved.lock().clone();
    let without = approved.iter().filter(|(_, _, package)| package.is_none());
    assert_eq!(
        without.count(),
        1,
        "an organisation may approve without running it"
    );
}

#[tokio::test]
async fn an_initialisation_is_called_once_a_version() {
    let bench = Bench::new().await;
    bench.install("1.0", b"one").await.expect("installed");
    let mut with_init = request("1.0");
    with_init.init_variable = Some(InitArgs {
        func_name: "init".into(),
        args: vec!["a".into(), "200".into()],
    });
    *bench.peers.init_error.lock() = Some("p: answered 500: Incorrect arguments".into());
    let error = bench.instantiate_as(&with_init).await.expect_err("refused");
    assert_eq!(error.code, ErrorCode::NotInstantiated);
    assert!(error.message.contains("6716"), "{error}");
    let result = bench
        .desk
        .instantiations("assets")
        .await
        .expect("where")
        .result;
    let info = &result[0].instantiate_info;
    assert_eq!(info.status, "CHAINCODE_INSTANTIATION_FAILED");
    assert_eq!(info.code, "6716");
    assert!(info.detail.contains("Incorrect arguments"));
    let list = bench.desk.list(0, 10).await.expect("list");
    assert_eq!(list.chaincodes[0].instantiated_channel.error.len(), 1);

    // The version is not initialised yet, but its definition asks for it.
    *bench.peers.init_error.lock() = None;
    bench.install("1.1", b"two").await.expect("installed");
    with_init.chaincode_version = "1.1".into();
    assert_eq!(bench.instantiate_as(&with_init).await.expect("done"), 2);
    let inits = bench.peers.inits.lock().clone();
    assert_eq!(inits, [["init", "a", "200"].map(Bytes::from)]);
    let error = bench.instantiate_as(&with_init).await.expect_err("once");
    assert!(error.message.contains("initialised already"), "{error}");
    let result = bench
        .desk
        .instantiations("assets")
        .await
        .expect("where")
        .result;
    assert_eq!(
        result[0].instantiate_info.code, "1000",
        "the failure is past"
    );
}

#[tokio::test]
async fn an_upgrade_keeps_what_it_does_not_change() {
    let bench = Bench::new().await;
    bench.install("1.0", b"one").await.expect("installed");
    let mut first = request("1.0");
    first.endorsement_policy = policy("OR", "org1");
    first.private_data = Some(r#"[{"name":"c","policy":"OR('A.member')"}]"#.into());
    bench.instantiate_as(&first).await.expect("defined");
    bench.install("1.1", b"two").await.expect("installed");
    bench.instantiate("1.1").await.expect("upgraded");
    let committed = bench.peers.committed.lock().clone();
    assert_eq!(committed.len(), 2);
    assert!(!committed[0].validation_parameter.is_empty());
    assert_eq!(
        committed[0].validation_parameter,
        committed[1].validation_parameter
    );
    assert_eq!(committed[0].collections, committed[1].collections);
    let result = bench
        .desk
        .instantiations("assets")
        .await
        .expect("where")
        .result;
    assert_eq!(result[0].has_private_data, 1);
}

#[tokio::test]
async fn a_chaincode_that_starts_is_waited_for_and_one_that_ends_is_not() {
    let bench = Bench::new().await;
    bench.install("1.0", b"one").await.expect("installed");
    let starting = "error in simulation: failed to execute transaction x: could not launch \
                    chaincode y: timeout expired while starting chaincode y for transaction";
    *bench.peers.answers.lock() = vec![Err("unknown function".into()), Err(starting.into())];
    bench.instantiate("1.0").await.expect("it came up");
    bench.install("1.1", b"two").await.expect("installed");
    let ended = "error in simulation: failed to execute transaction x: could not launch \
                 chaincode y: chaincode registration failed: it exited with 1";
    *bench.peers.answers.lock() = vec![Err(ended.into()); 20];
    for at in bench.desk.site.peers() {
        let folder = bench.desk.site.folders.node(at.node).join("log");
        std::fs::create_dir_all(&folder).expect("folder");
        let log = folder.join(format!("{}.log", at.node.name));
        std::fs::write(
            &log,
            "[peer.chaincode.dev-p-assets-1.1] Cannot find module\n",
        )
        .expect("log");
    }
    let error = bench.instantiate("1.1").await.expect_err("it ended");
    assert!(
        error.message.ends_with(":\n    Cannot find module"),
        "{error}"
    );
    assert!(error.message.contains("instances/i/nodes/peer-"), "{error}");
    assert!(error.message.contains("6709"), "{error}");
    assert!(error.message.contains("exited with 1"), "{error}");
    let back = "the earlier version 1.0 is in force again";
    assert!(error.message.contains(back), "{error}");
    let committed = bench.peers.committed.lock().clone();
    let last = committed.last().expect("definitions");
    assert_eq!((last.version.as_str(), last.sequence), ("1.0", 3));
    let result = bench.desk.instantiations("assets").await;
    let result = result.expect("where").result;
    assert_eq!(result[0].instantiate_info.code, "6709");
    assert_eq!((result[0].version.as_str(), result[0].sequence), ("1.1", 3));
}

#[tokio::test]
async fn what_was_not_committed_needs_no_way_back() {
    let bench = Bench::new().await;
    bench.install("1.0", b"one").await.expect("installed");
    bench.instantiate("1.0").await.expect("defined");
    bench.install("1.1", b"two").await.expect("installed");
    *bench.peers.commit_error.lock() = Some("o refused the message: BAD_REQUEST".into());
    let error = bench.instantiate("1.1").await.expect_err("refused");
    assert!(error.message.contains("6713"), "{error}");
    assert!(!error.message.contains("in force"), "{error}");
    *bench.peers.commit_error.lock() = None;
    assert_eq!(bench.instantiate("1.1").await.expect("upgraded"), 2);
}

#[tokio::test]
async fn one_instantiation_at_a_time() {
    let bench = Bench::new().await;
    bench.install("1.0", b"one").await.expect("installed");
    let running = Running {
        channel: "channel".into(),
        name: "assets".into(),
        version: "1.0".into(),
    };
    let turn = bench.desk.chaincodes.turn("i", running).expect("free");
    let error = bench.instantiate("1.0").await.expect_err("taken");
    assert_eq!(error.code, ErrorCode::Busy);
    let result = bench
        .desk
        .instantiations("assets")
        .await
        .expect("where")
        .result;
    let status = &result[0].instantiate_info.status;
    assert_eq!(status, "CHAINCODE_INSTANTIATION_INPROGRESS");
    drop(turn);
    bench.instantiate("1.0").await.expect("free again");
}

#[tokio::test]
async fn a_deployment_counts_versions_up() {
    let bench = Bench::new().await;
    let leaving: Mutex<Option<String>> = Mutex::default();
    let say = |_: String| bench.peers.away.lock().extend(leaving.lock().take());
    let deploy = |code: &'static [u8], version: Option<&str>| {
        let request = DeployRequest {
            name: "basic".into(),
            version: version.map(str::to_owned),
            language: Some("node".into()),
            channel: None,
        };
        let zip = zip_of(&[("package.json", b"{}"), ("index.js", code)]);
        bench.desk.deploy(request, zip.into(), &say)
    };
    let first = deploy(b"one", None).await.expect("deployed");
    assert_eq!((first.version.as_str(), first.sequence), ("1.0", 1));
    assert_eq!(first.channel, "channel");
    let second = deploy(b"two", None).await.expect("deployed");
    assert_eq!((second.version.as_str(), second.sequence), ("1.1", 2));
    let error = deploy(b"three", Some("1.1")).await.expect_err("taken");
    assert!(
        error.to_string().contains("choose another version"),
        "{error}"
    );
    bench.peers.away.lock().insert(bench.node(2));
    let error = deploy(b"four", None).await.expect_err("one is away");
    assert!(error.to_string().contains("does not answer"), "{error}");
    bench.peers.away.lock().clear();
    // It goes when everything was looked at.
    *leaving.lock() = Some(bench.node(2));
    let error = deploy(b"four", None).await.expect_err("one has left");
    assert!(
        error.to_string().contains("nothing was committed"),
        "{error}"
    );
    bench.peers.away.lock().clear();
    let third = deploy(b"five", None).await.expect("deployed");
    assert_eq!((third.version.as_str(), third.sequence), ("1.3", 3));
}

#[tokio::test]
async fn a_deployment_in_vain_builds_nothing() {
    let bench = Bench::new().await;
    let deploy = async |code: &'static [u8]| {
        let request = DeployRequest {
            name: "basic".into(),
            version: Some("1.0".into()),
            language: None,
            channel: None,
        };
        let zip = zip_of(&[("package.json", b"{}"), ("index.js", code)]);
        let before = bench.peers.installs.lock().len();
        let done = bench.desk.deploy(request, zip.into(), &|_| ()).await;
        let built = bench.peers.installs.lock().len() - before;
        (done.map_err(|e| e.to_string()), built)
    };
    let running = || Running {
        channel: "channel".into(),
        name: "other".into(),
        version: "7".into(),
    };
    let chaincodes = &bench.desk.chaincodes;
    for doing in ["instantiated", "deployed"] {
        let turn = match doing {
            "deployed" => chaincodes.deploying("i", running()),
            _ => chaincodes.turn("i", running()),
        };
        let turn = turn.expect("free");
        let (outcome, built) = deploy(b"one").await;
        let error = outcome.expect_err("busy");
        let busy = format!("the chaincode other 7 is being {doing} in the channel channel");
        assert!(error.contains(&busy), "{error}");
        assert_eq!(built, 0);
        drop(turn);
    }
    deploy(b"one").await.0.expect("deployed");
    for code in [b"one", b"two"] {
        let (outcome, built) = deploy(code).await;
        let error = outcome.expect_err("in force");
        assert!(error.contains("basic 1.0 is in force"), "{error}");
        assert_eq!(built, 0);
    }
    bench.peers.away.lock().insert(bench.node(1));
    let (outcome, built) = deploy(b"one").await;
    let error = outcome.expect_err("one is away");
    assert!(error.contains(&bench.node(1)), "{error}");
    assert_eq!(built, 0);
    bench.peers.away.lock().clear();
    bench.peers.packages.lock().remove(&bench.node(0));
    let again = deploy(b"one").await.0.expect("a peer lacked it");
    assert_eq!(again.sequence, 2);
}
