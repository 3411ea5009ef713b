//! Chaincode management, as BCS's agent has it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::body::Body;
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::response::Response;
use bytes::Bytes;
use parking_lot::Mutex;
use selvage_manager_api::chaincode::{
    InstantiateChaincodeRequest, MAX_DESCRIPTION, TargetPeer, check_name, check_version,
};
use selvage_manager_api::{ApiError, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Call, Server, json};
use crate::chaincode::{Desk, MOST_FILE, Upload, language};
use crate::store::Principal;

/// Uploads at once: each is in memory until its chaincode is installed.
const AT_ONCE: usize = 2;
/// Those of one caller, so that nobody takes every turn.
const EACH: usize = 1;
/// How long an upload may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(600);
/// What a form may have beside its file.
const BESIDE: usize = 256 * 1024;
/// Longest body of an upload.
pub(super) const MOST_UPLOAD: usize = MOST_FILE + BESIDE;
/// Longest field that is not the file.
const MOST_TEXT: usize = 64 * 1024;
/// Fields of a form.
const MOST_FIELDS: usize = 32;

/// Turns for uploads, for callers who have shown who they are.
pub(super) struct Uploads {
    turns: Arc<Semaphore>,
    /// The turns of each caller who has or awaits one.
    own: Mutex<HashMap<Principal, Weak<Semaphore>>>,
}

/// A turn, until it is dropped.
pub(super) struct Turn {
    _own: OwnedSemaphorePermit,
    _common: OwnedSemaphorePermit,
}

impl Default for Uploads {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            own: Mutex::default(),
        }
    }
}

impl Uploads {
    /// Waits for a turn.
    pub(super) async fn turn(&self, who: &Principal) -> Result<Turn, ApiError> {
        let own = self.of(who);
        let work = async {
            // First the own one: who waits for that keeps nobody else waiting.
            let own = own.acquire_owned().await;
            let common = Arc::clone(&self.turns).acquire_owned().await;
            // Nobody closes the semaphores.
            match (own, common) {
                (Ok(own), Ok(common)) => Ok(Turn {
                    _own: own,
                    _common: common,
                }),
                _ => Err(ApiError::busy()),
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, work).await;
        outcome.unwrap_or_else(|_| {
            Err(ApiError::new(
                ErrorCode::Busy,
                format!(
                    "the upload waited {} seconds for its turn; {AT_ONCE} uploads are taken at \
                     once, {EACH} of each caller; try again later",
                    PATIENCE.as_secs()
                ),
            ))
        })
    }

    fn of(&self, who: &Principal) -> Arc<Semaphore> {
        let mut own = self.own.lock();
        own.retain(|_, turns| turns.strong_count() > 0);
        if let Some(turns) = own.get(who).and_then(Weak::upgrade) {
            return turns;
        }
        let turns = Arc::new(Semaphore::new(EACH));
        own.insert(who.clone(), Arc::downgrade(&turns));
        turns
    }
}

/// The fields of the form, as they came.
#[derive(Default)]
struct Form {
    name: Option<String>,
    version: Option<String>,
    targets: Option<String>,
    description: Option<String>,
    language: Option<String>,
    db_type: Option<String>,
    security_check: Option<String>,
    file: Option<Bytes>,
}

fn unreadable(error: &MultipartError) -> ApiError {
    ApiError::bad(format!(
        "the body is not a complete multipart/form-data form: {}",
        error.body_text()
    ))
}

async fn text(field: Field<'_>, name: &str) -> Result<String, ApiError> {
    let text = field.text().await.map_err(|e| unreadable(&e))?;
    if text.len() > MOST_TEXT {
        return Err(ApiError::bad(format!(
            "{name} has more than {MOST_TEXT} bytes"
        )));
    }
    Ok(text)
}

impl Form {
    async fn read(call: &Call) -> Result<Self, ApiError> {
        let mut request = Request::new(Body::from(call.body.clone()));
        *request.headers_mut() = call.headers.clone();
        // The body was measured when it was read.
        DefaultBodyLimit::disable().apply(&mut request);
        let form = Multipart::from_request(request, &()).await;
        let mut form = form.map_err(|e| {
            ApiError::bad(format!(
                "the chaincode is sent as multipart/form-data with a field named file: {}",
                e.body_text()
            ))
        })?;
        let mut read = Self::default();
        let mut left = MOST_FIELDS;
        while let Some(field) = form.next_field().await.map_err(|e| unreadable(&e))? {
            left = left.checked_sub(1).ok_or_else(|| {
                ApiError::bad(format!("the form has more than {MOST_FIELDS} fields"))
            })?;
            let name = field.name().unwrap_or_default().to_owned();
            let place = match name.as_str() {
                "chaincode_name" => &mut read.name,
                "chaincode_version" => &mut read.version,
                "target_peers" => &mut read.targets,
                "description" => &mut read.description,
                "chaincode_language" => &mut read.language,
                "db_type" => &mut read.db_type,
                "security_check" => &mut read.security_check,
                "file" => {
                    let bytes = field.bytes().await.map_err(|e| unreadable(&e))?;
                    if read.file.replace(bytes).is_some() {
                        return Err(ApiError::bad("the form has two fields named file"));
                    }
                    continue;
                }
                _ => continue,
            };
            *place = Some(text(field, &name).await?);
        }
        Ok(read)
    }

    /// Checks everything but the file's contents.
    fn upload(self) -> Result<Upload, ApiError> {
        let given = |text: Option<String>| text.filter(|t| !t.is_empty());
        let name = given(self.name).ok_or_else(|| ApiError::missing("chaincode_name"))?;
        check_name(&name)?;
        let version = given(self.version).ok_or_else(|| ApiError::missing("chaincode_version"))?;
        check_version(&version)?;
        let description = self.description.unwrap_or_default();
        if description.chars().count() > MAX_DESCRIPTION {
            return Err(ApiError::bad(format!(
                "description has more than {MAX_DESCRIPTION} characters"
            )));
        }
        match given(self.db_type).as_deref() {
            None | Some("goleveldb") => {}
            Some("couchdb") => return Err(ApiError::not_built("db_type couchdb (rich queries)")),
            Some(_) => return Err(ApiError::bad("db_type must be goleveldb or couchdb")),
        }
        match given(self.security_check).as_deref() {
            None | Some("false") => {}
            Some("true") => {
                return Err(ApiError::not_built("the security check of chaincode"));
            }
            Some(_) => return Err(ApiError::bad("security_check must be true or false")),
        }
        let targets = given(self.targets).map(|t| targets(&t)).transpose()?;
        let language = given(self.language).map(|l| language(&l)).transpose()?;
        let file = self.file.ok_or_else(|| ApiError::missing("file"))?;
        if file.len() > MOST_FILE {
            return Err(ApiError::new(
                ErrorCode::BodyTooLarge,
                format!("file is too large: at most {MOST_FILE} bytes are taken"),
            ));
        }
        Ok(Upload {
            name,
            version,
            language,
            description,
            targets,
            file,
        })
    }
}

fn targets(text: &str) -> Result<Vec<TargetPeer>, ApiError> {
    serde_json::from_str(text).map_err(|e| {
        ApiError::new(
            ErrorCode::BadJson,
            format!(
                "JSON unmarshal error: target_peers: {e}; an example is \
                 [{{\"org_id\":\"…\",\"peer_id\":\"peer-…-0\"}}]"
            ),
        )
    })
}

impl Server {
    async fn desk(&self, call: &Call) -> Result<Arc<Desk>, ApiError> {
        let row = self.chosen(call).await?;
        self.manager.chaincode_desk(&row)
    }

    /// `POST /chaincode`.
    pub(super) async fn install_chaincode(&self, call: &Call) -> Result<Response, ApiError> {
        let desk = self.desk(call).await?;
        let upload = Form::read(call).await?.upload()?;
        let work = async move { desk.install(upload, &|_| ()).await };
        Ok(json(&self.manager.detached(work).await?))
    }

    /// `POST /chaincode/instantiate`.
    pub(super) async fn instantiate_chaincode(&self, call: &Call) -> Result<Response, ApiError> {
        let desk = self.desk(call).await?;
        let request: InstantiateChaincodeRequest = call.json()?;
        let work = async move { desk.instantiate(&request, &|_| ()).await };
        Ok(json(&self.manager.detached(work).await?))
    }

    /// `GET /chaincodes`.
    pub(super) async fn chaincodes(&self, call: &Call) -> Result<Response, ApiError> {
        let (offset, limit) = Self::page(call)?;
        Ok(json(&self.desk(call).await?.list(offset, limit).await?))
    }

    /// `GET /chaincode/versions`.
    pub(super) async fn chaincode_versions(&self, call: &Call) -> Result<Response, ApiError> {
        let name = asked_for(call)?;
        Ok(json(&self.desk(call).await?.versions(name).await?))
    }

    /// `GET /chaincode/install`.
    pub(super) async fn chaincode_installs(&self, call: &Call) -> Result<Response, ApiError> {
        let name = asked_for(call)?;
        Ok(json(&self.desk(call).await?.installs(name).await?))
    }

    /// `GET /chaincode/instantiate`.
    pub(super) async fn chaincode_instantiations(&self, call: &Call) -> Result<Response, ApiError> {
        let name = asked_for(call)?;
        Ok(json(&self.desk(call).await?.instantiations(name).await?))
    }
}

fn asked_for(call: &Call) -> Result<&str, ApiError> {
    call.asked("chaincode_name")
        .ok_or_else(|| ApiError::missing("chaincode_name"))
}

#[cfg(test)]
#[path = "chaincode_tests.rs"]
mod tests;
