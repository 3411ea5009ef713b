//! Tables of bad input for one network: every case is reported by its name, and after each the
//! network must still take a good transaction.

use std::pin::Pin;
use std::sync::Arc;

use crate::{Service, wait_for};

/// A named case, which ends with what somebody was told.
pub type Case = (&'static str, Pin<Box<dyn Future<Output = Told> + Send>>);

/// Makes [`Case`]s of functions that take the network: their names are the names of the cases.
#[macro_export]
macro_rules! cases {
    ($service:expr; $($case:ident),* $(,)?) => {
        vec![$((stringify!($case), Box::pin($case($service.clone())) as _)),*]
    };
}

/// That a text named a cause and a remedy: [`told`] and [`in_log`] are the only ways to one, so no
/// case can do without.
#[must_use]
#[derive(Debug, Clone)]
pub struct Told {
    cause: String,
    remedy: String,
}

/// Runs all cases, also after one has failed. In the end everything that was ever acknowledged must
/// be there on every peer; then the network is stopped.
///
/// # Panics
/// When a case failed, with the names of all that did, or when something was lost.
pub async fn run_cases(service: Arc<Service>, cases: Vec<Case>) {
    let mut failed = Vec::new();
    for (name, case) in cases {
        println!("case {name}");
        let outcome = match tokio::spawn(case).await {
            Ok(told) => goes_on(&service, name).await.map(|()| told),
            Err(panic) => Err(panic.to_string()),
        };
        match outcome {
            Ok(Told { cause, remedy }) => {
                println!("case {name}: ok; cause {cause:?}, remedy {remedy:?}");
            }
            Err(reason) => {
                println!("case {name}: FAILED: {reason}");
                failed.push(name);
            }
        }
    }
    service.check_nothing_lost().await;
    assert!(
        failed.is_empty(),
        "failed cases: {failed:?}; what they say is above"
    );
}

/// A good transaction commits and is read back.
async fn goes_on(service: &Service, name: &str) -> Result<(), String> {
    let afterwards = |e: selvage_client::ClientError| format!("afterwards: {}", e.text());
    service.put(name, "after").await.map_err(afterwards)?;
    let get = service.call("Get", &[name]);
    let value = service.gateway().evaluate(&get, &[]).await;
    let value = value.map_err(afterwards)?;
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

/// Checks that a text names a cause and a remedy, and shows it.
///
/// # Panics
/// When one of them is missing.
#[track_caller]
pub fn told(text: &str, cause: &str, remedy: &str) -> Told {
    says(text, &[cause, remedy]);
    Told {
        cause: cause.to_owned(),
        remedy: remedy.to_owned(),
    }
}

/// Waits until a line of some node's log names a cause and a remedy: protocols that answer with a
/// bare status leave the words to it.
///
/// # Panics
/// When no line does.
pub async fn in_log(service: &Service, cause: &str, remedy: &str) -> Told {
    any_in_log(service, &[(cause, remedy)]).await
}

/// As [`in_log`] where it is a matter of luck which node is the first to meet a fault.
///
/// # Panics
/// When no line names one of these causes with its remedy.
pub async fn any_in_log(service: &Service, pairs: &[(&str, &str)]) -> Told {
    let find = || {
        let logs = service.logs();
        logs.lines().find_map(|line| {
            let named =
                |(cause, remedy): &&(&str, &str)| line.contains(cause) && line.contains(remedy);
            let pair = pairs.iter().find(named)?;
            Some((line.to_owned(), *pair))
        })
    };
    let what = format!("a line of a log with one of {pairs:?}");
    wait_for(&what, async || find().is_some()).await;
    let (line, (cause, remedy)) = find().unwrap_or_default();
    told(&line, cause, remedy)
}
