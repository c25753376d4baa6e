//! The transfers of a file: CSV with a header, or a JSON object in each line. Pure: text in, transfers
//! or the first mistake out.

use quorate_types::{AccountAddress, Transfer, TransferId, TransferKind};
use serde::Deserialize;

use crate::args;
use crate::exit::Failure;

/// A line as it is written; an empty field counts as absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: Option<String>,
    kind: Option<String>,
    debit: Option<String>,
    credit: Option<String>,
    #[serde(default, deserialize_with = "text_or_number")]
    amount: Option<String>,
    pending_id: Option<String>,
    #[serde(default, deserialize_with = "text_or_number")]
    timeout_ms: Option<String>,
    user_data: Option<String>,
    #[serde(default, deserialize_with = "text_or_flag")]
    linked: Option<String>,
}

/// Reads the transfers of a file.
///
/// # Errors
/// `INVALID_REQUEST` with the line and what would be right.
pub(super) fn parse(text: &str) -> Result<Vec<Transfer>, Failure> {
    let is_json = text.trim_start().starts_with('{');
    let lines = if is_json { json_lines(text)? } else { csv_lines(text)? };
    if lines.is_empty() {
        return Err(Failure::usage("the file has no transfers", HOW));
    }
    lines
        .into_iter()
        .map(|(number, line)| {
            line.transfer()
                .map_err(|reason| Failure::usage(format!("line {number}: {reason}"), HOW))
        })
        .collect()
}

const HOW: &str = "`quorate transfer batch --help` shows what a file looks like";

fn json_lines(text: &str) -> Result<Vec<(u64, Line)>, Failure> {
    let numbered = (1_u64..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    numbered
        .map(|(number, line)| match serde_json::from_str(line) {
            Ok(line) => Ok((number, line)),
            Err(error) => Err(Failure::usage(format!("line {number}: {error}"), HOW)),
        })
        .collect()
}

fn csv_lines(text: &str) -> Result<Vec<(u64, Line)>, Failure> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let mistake = |error: csv::Error| {
        let number = error.position().map_or(1, csv::Position::line);
        Failure::usage(format!("line {number}: {error}"), HOW)
    };
    let mut lines = Vec::new();
    let header = reader.headers().map_err(mistake)?.clone();
    for record in reader.records() {
        let record = record.map_err(mistake)?;
        let number = record.position().map_or(0, csv::Position::line);
        let mut line = Line::default();
        // By hand: read as anything, a field of digits would be no text and a sign no number.
        for (name, field) in header.iter().zip(&record) {
            let Some(place) = line.field(name) else {
                return Err(Failure::usage(format!("line 1: unknown field {name:?}"), HOW));
            };
            *place = Some(field.to_owned());
        }
        lines.push((number, line));
    }
    Ok(lines)
}

impl Line {
    /// The field of a column.
    fn field(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "id" => &mut self.id,
            "kind" => &mut self.kind,
            "debit" => &mut self.debit,
            "credit" => &mut self.credit,
            "amount" => &mut self.amount,
            "pending_id" => &mut self.pending_id,
            "timeout_ms" => &mut self.timeout_ms,
            "user_data" => &mut self.user_data,
            "linked" => &mut self.linked,
            _ => return None,
        })
    }

    fn transfer(self) -> Result<Transfer, String> {
        let id = args::transfer_id(&required(self.id, "id")?)?;
        let account = |text: Option<String>, name: &str| -> Result<AccountAddress, String> {
            required(text, name)?.parse()
        };
        let (debit, credit) = (account(self.debit, "debit")?, account(self.credit, "credit")?);
        let pending = given(self.pending_id);
        let timeout_ms = given(self.timeout_ms);
        let kind = match given(self.kind).as_deref() {
            None | Some("post") => TransferKind::Post,
            Some("pending") => TransferKind::Pending {
                timeout_ms: match &timeout_ms {
                    None => 0,
                    Some(text) => number(text, "timeout_ms")?,
                },
            },
            Some("post_pending") => TransferKind::PostPending(pending_id(pending.as_deref())?),
            Some("void_pending") => TransferKind::VoidPending(pending_id(pending.as_deref())?),
            Some(other) => {
                return Err(format!(
                    "{other:?} is no kind; kinds are post, pending, post_pending, void_pending"
                ));
            }
        };
        if kind.ends().is_none() && pending.is_some() {
            return Err(format!("a {} has no pending_id", kind.name()));
        }
        if !matches!(kind, TransferKind::Pending { .. }) && timeout_ms.is_some() {
            return Err(format!("a {} has no timeout_ms", kind.name()));
        }
        let amount = match (given(self.amount), kind.ends()) {
            (Some(text), _) => number(&text, "amount")?,
            (None, Some(_)) => 0,
            (None, None) => return Err("amount is missing".to_owned()),
        };
        let user_data = given(self.user_data).map_or(Ok(0), |text| args::user_data(&text))?;
        let linked = match given(self.linked).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => return Err(format!("linked is {other:?}; write true or false")),
        };
        let transfer = Transfer { id, kind, debit, credit, amount, user_data, linked };
        transfer.check().map_err(|invalid| invalid.to_string())?;
        Ok(transfer)
    }
}

fn given(field: Option<String>) -> Option<String> {
    field.filter(|text| !text.trim().is_empty())
}

fn required(field: Option<String>, name: &str) -> Result<String, String> {
    given(field).ok_or_else(|| format!("{name} is missing"))
}

fn pending_id(text: Option<&str>) -> Result<TransferId, String> {
    args::transfer_id(text.ok_or("pending_id is missing")?)
}

fn number<T: std::str::FromStr>(text: &str, name: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("{name} is {text:?}; write a whole number"))
}

/// Numbers of 64 bits are often written as text.
fn text_or_number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    Ok(Option::<Either>::deserialize(from)?.map(|either| match either {
        Either::Number(number) => number.to_string(),
        Either::Text(text) => text,
    }))
}

fn text_or_flag<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Flag(bool),
        Text(String),
    }
    Ok(Option::<Either>::deserialize(from)?.map(|either| match either {
        Either::Flag(flag) => flag.to_string(),
        Either::Text(text) => text,
    }))
}

#[cfg(test)]
mod tests {
    use quorate_types::Uid;

    use super::*;

    fn at(uid: u64) -> AccountAddress {
        AccountAddress::new(Uid(uid), 840)
    }

    #[test]
    fn both_forms_say_the_same() {
        // Goal: a file of CSV and one of JSON lines make the same transfers.
        let id = TransferId;
        let want = vec![
            Transfer { linked: true, ..Transfer::post(id(0xa1), at(42), at(7), 250) },
            Transfer { user_data: 255, ..Transfer::pending(id(0xa2), at(42), at(7), 9, 500) },
            Transfer::post_pending(id(0xa3), id(0xa2), at(42), at(7), 0),
            Transfer::void_pending(id(0xa4), id(0xa2), at(42), at(7)),
        ];
        let csv = "id,debit,credit,amount,kind,pending_id,timeout_ms,user_data,linked\n\
                   a1,42:840,7:840,250,,,,,true\n\
                   a2, 42:840 ,7:840:1,9,pending,,500,ff,false\n\
                   a3,42:840,7:840,,post_pending,a2,,,\n\
                   a4,42:840,7:840,0,void_pending,a2,,,\n";
        assert_eq!(parse(csv), Ok(want.clone()));
        let json = r#"{"id": "a1", "debit": "42:840", "credit": "7:840", "amount": 250, "linked": true}

            {"id": "a2", "debit": "42:840", "credit": "7:840", "amount": "9", "kind": "pending", "timeout_ms": 500, "user_data": "ff"}
            {"id": "a3", "debit": "42:840", "credit": "7:840", "kind": "post_pending", "pending_id": "a2"}
            {"id": "a4", "debit": "42:840", "credit": "7:840", "kind": "void_pending", "pending_id": "a2"}"#;
        assert_eq!(parse(json), Ok(want));
    }

    #[test]
    fn a_mistake_names_its_line() {
        // Goal: nothing of a file with a mistake is sent, and the mistake is found.
        let cases = [
            ("", "the file has no transfers"),
            ("id,debit,credit,amount\n", "the file has no transfers"),
            ("id,debit,credit,amount\na,1:2,3:2\n", "line 2"),
            ("id,debit,credit,amount\n,1:2,3:2,5\n", "line 2: id is missing"),
            ("id,debit,credit,amount\na,1:2,3:2,5\nb,1,3:2,5\n", "line 3: \"1\" is no account"),
            ("id,debit,credit,amount\na,1:2,3:2,-5\n", "line 2: amount is \"-5\""),
            ("id,debit,credit,amount\na,1:2,3:2,0\n", "line 2: the amount is 0"),
            ("id,debit,credit,amount\na,1:2,3:4,1\n", "the accounts belong to two ledgers"),
            ("id,debit,credit,amount,kind\na,1:2,3:2,5,pay\n", "\"pay\" is no kind"),
            ("id,debit,credit,amount,kind\na,1:2,3:2,5,void_pending\n", "pending_id is missing"),
            ("id,debit,credit,amount,timeout_ms\na,1:2,3:2,5,7\n", "a post has no timeout_ms"),
            ("id,debit,credit,amuont\na,1:2,3:2,5\n", "unknown field \"amuont\""),
            ("{\"id\": \"a\"}", "line 1: debit is missing"),
            ("{\"id\": \"a\"}\nnonsense", "line 2"),
        ];
        for (text, part) in cases {
            let failure = parse(text).expect_err(part).to_string();
            assert!(failure.contains(part), "{text:?}: {failure}");
            assert!(failure.starts_with("error[INVALID_REQUEST]"), "{failure}");
        }
    }
}
