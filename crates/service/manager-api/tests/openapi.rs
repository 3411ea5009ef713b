//! The committed OpenAPI document is the one the types give.

use std::path::PathBuf;

use selvage_manager_api::openapi;
use selvage_manager_api::table::OPERATIONS;

fn committed() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../openapi/bcs-v2.json")
}

#[test]
fn the_committed_document_is_current() {
    let document = openapi::document().expect("types serialise");
    let path = committed();
    if std::env::var_os("SELVAGE_UPDATE_OPENAPI").is_some() {
        std::fs::create_dir_all(path.parent().expect("has a parent")).expect("folder");
        std::fs::write(&path, &document).expect("write the document");
    }
    let kept = std::fs::read_to_string(&path).expect("openapi/bcs-v2.json is committed");
    assert!(
        kept == document,
        "openapi/bcs-v2.json differs from the types; run the test with SELVAGE_UPDATE_OPENAPI=1"
    );
}

#[test]
fn every_operation_is_in_the_document_under_its_own_method() {
    let document = openapi::document().expect("types serialise");
    let value: serde_json::Value = serde_json::from_str(&document).expect("JSON");
    let mut seen = 0;
    for operation in &OPERATIONS {
        let path = format!("/v2/{{project_id}}{}", operation.path);
        let item = &value["paths"][&path];
        let method = format!("{:?}", operation.method).to_lowercase();
        assert_eq!(item[&method]["operationId"], operation.name, "{path}");
        seen += 1;
    }
    assert_eq!(seen, 32);
}
