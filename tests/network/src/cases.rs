//! Tables of bad input for one network: every case is reported by its name, and after each the
//! network must still take a good transaction.

use std::pin::Pin;
use std::sync::Arc;

use crate::Service;

/// A named case.
pub type Case = (&'static str, Pin<Box<dyn Future<Output = ()> + Send>>);

/// Makes [`Case`]s of functions that take the network: their names are the names of the cases.
#[macro_export]
macro_rules! cases {
    ($service:expr; $($case:ident),* $(,)?) => {
        vec![$((stringify!($case), Box::pin($case($service.clone())) as _)),*]
    };
}

/// Runs all cases, also after one has failed, then stops the network.
///
/// # Panics
/// When a case failed, with the names of all that did.
pub async fn run_cases(service: Arc<Service>, cases: Vec<Case>) {
    let mut failed = Vec::new();
    for (name, case) in cases {
        println!("case {name}");
        let outcome = match tokio::spawn(case).await {
            Ok(()) => goes_on(&service, name).await,
            Err(panic) => Err(panic.to_string()),
        };
        match outcome {
            Ok(()) => println!("case {name}: ok"),
            Err(reason) => {
                println!("case {name}: FAILED: {reason}");
                failed.push(name);
            }
        }
    }
    assert!(
        failed.is_empty(),
        "failed cases: {failed:?}; what they say is above"
    );
}

/// A good transaction commits and is read back.
async fn goes_on(service: &Service, name: &str) -> Result<(), String> {
    let gateway = service.gateway();
    let put = service.call("Put", &[name, "after"]);
    gateway
        .submit_transaction(&put)
        .await
        .map_err(|e| format!("afterwards: {}", e.text()))?;
    let get = service.call("Get", &[name]);
    let value = gateway.evaluate(&get, &[]).await;
    let value = value.map_err(|e| format!("afterwards: {}", e.text()))?;
    (value == "after")
        .then_some(())
        .ok_or_else(|| format!("afterwards: read {value:?}"))
}

/// Checks that a refusal names what it must, and shows it.
///
/// # Panics
/// When a word is missing.
#[track_caller]
pub fn says(text: &str, words: &[&str]) {
    println!("    {text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
}
