//! `qscc`: questions about blocks and transactions (Fabric: `core/scc/qscc`).

use bytes::Bytes;
use prost::Message;
use selvage_ledger::Ledger;
use selvage_proto::peer::Response;

use super::stub::success;
use super::{Failure, SystemChaincodes, refuse_callers};
use crate::chaincode_glue::Tx;
use crate::report;

impl SystemChaincodes {
    pub(super) fn query(&self, tx: &Tx, args: &[Bytes]) -> Result<Response, Failure> {
        let [function, channel_id, rest @ ..] = args else {
            let count = args.len();
            return Err(Failure::new(format!(
                "Incorrect number of arguments, {count}"
            )));
        };
        let function = String::from_utf8_lossy(function);
        let channel_id = String::from_utf8_lossy(channel_id);
        let refusal = "Rejecting invoke of QSCC from another chaincode because of potential for \
                       deadlocks";
        refuse_callers(tx, "qscc", refusal)?;
        if function != "GetChainInfo" && rest.is_empty() {
            return Err(Failure::new(format!("missing 3rd argument for {function}")));
        }
        let channel = self
            .channels
            .get(&channel_id)
            .ok_or_else(|| Failure::new(format!("Invalid chain ID, {channel_id}")))?;
        self.check(tx, &channel_id, &format!("qscc/{function}"))
            .map_err(|e| {
                Failure::new(format!(
                    "access denied for [{function}][{channel_id}]: [{e}]"
                ))
            })?;
        let argument = rest.first().cloned().unwrap_or_default();
        answer(channel.ledger(), &function, &argument)
    }
}

fn answer(ledger: &Ledger, function: &str, argument: &Bytes) -> Result<Response, Failure> {
    let text = String::from_utf8_lossy(argument);
    let failed = |what: String, error: selvage_ledger::LedgerError| {
        Failure::new(format!("{what}, error {}", report(&error)))
    };
    match function {
        "GetChainInfo" => Ok(success(ledger.info().encode_to_vec())),
        "GetBlockByNumber" => {
            let number = parse_number(&text)?;
            let block = ledger.raw_block(number);
            block
                .map(success)
                .map_err(|e| failed(format!("Failed to get block number {number}"), e))
        }
        "GetBlockByHash" => {
            let block = ledger.block_by_hash(argument);
            block
                .map(|block| success(block.encode_to_vec()))
                .map_err(|e| failed(format!("Failed to get block hash {text}"), e))
        }
        "GetTransactionByID" => {
            let found = ledger.tx_by_id(&text);
            found
                .map(|tx| success(tx.encode_to_vec()))
                .map_err(|e| failed(format!("Failed to get transaction with id {text}"), e))
        }
        "GetBlockByTxID" => {
            let block = ledger.block_by_txid(&text);
            block
                .map(|block| success(block.encode_to_vec()))
                .map_err(|e| failed(format!("Failed to get block for txID {text}"), e))
        }
        _ => Err(Failure::new(format!(
            "Requested function {function} not found."
        ))),
    }
}

/// A number as Go's `strconv.ParseUint` reads it, with its error texts.
fn parse_number(text: &str) -> Result<u64, Failure> {
    let refuse = |why: &str| {
        Failure::new(format!(
            "Failed to parse block number with error strconv.ParseUint: parsing {text:?}: {why}"
        ))
    };
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refuse("invalid syntax"));
    }
    text.parse().map_err(|_| refuse("value out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_does() {
        assert_eq!(parse_number("18446744073709551615").unwrap(), u64::MAX);
        let check = |text: &str, why: &str| {
            let expected = format!(
                "Failed to parse block number with error strconv.ParseUint: parsing \"{text}\": \
                 {why}"
            );
            assert_eq!(parse_number(text).unwrap_err().message, expected);
        };
        check("", "invalid syntax");
        check("+1", "invalid syntax");
        check("one", "invalid syntax");
        check("18446744073709551616", "value out of range");
    }
}
