//! A transaction's id is valid at most once in a channel, however often it is ordered.

use std::collections::BTreeMap;

use selvage_proto::peer::TxValidationCode;

use super::{Invariant, Seen};
use crate::cluster::config_of;

/// Where each id is valid: block and place.
#[derive(Debug, Default)]
pub struct Once {
    valid: BTreeMap<String, (u64, usize)>,
}

impl Invariant for Once {
    fn name(&self) -> &'static str {
        "once"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Committed { block, .. } = seen else {
            return Ok(());
        };
        // Configurations have no id of their own.
        if config_of(&block.block).is_some() {
            return Ok(());
        }
        for (place, (id, code)) in block.tx_ids.iter().zip(&block.codes).enumerate() {
            if *code != TxValidationCode::Valid {
                continue;
            }
            let here = (block.number, place);
            let first = *self.valid.entry(id.clone()).or_insert(here);
            if first != here {
                return Err(format!(
                    "transaction {id:?} is valid in block {} and in block {}",
                    first.0, here.0
                ));
            }
        }
        Ok(())
    }
}
