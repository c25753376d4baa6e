//! The steps of a transaction as a user writes them: repeated flags in their order, a text file with
//! one step per line, or a JSON file. All three become the same list.

use std::collections::BTreeMap;

use bytes::Bytes;
use clap::{Arg, ArgAction, ArgMatches, Command};
use quorate_types::{Uid, Value};
use serde::Deserialize;

use crate::args;
use crate::exit::Failure;
use crate::values::{self, Meaning};

/// What to do when a step cannot be understood.
const FIX: &str = "`quorate kv txn --help` shows how steps are written";

/// A row named by a step; what is left out is given by `--table` and `--uid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) table: Option<String>,
    pub(super) uid: Option<Uid>,
    pub(super) key: Bytes,
}

/// One step. Conditions are checked first, then mutations take effect in order; reads see the rows as
/// they were before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    RequireExists(At),
    RequireAbsent(At),
    RequireEquals(At, Value),
    Put(At, Value),
    Delete(At),
    Add { at: At, delta: i64, floor: Option<i64>, ceiling: Option<i64> },
    Read(At),
}

/// The flags that are steps, with the help of each.
const FLAGS: [(&str, &str, &str); 9] = [
    ("require-exists", "KEY", "The row must exist"),
    ("require-absent", "KEY", "The row must not exist"),
    ("require-equals", "KEY=VALUE", "The row must have this value"),
    ("put", "KEY=VALUE", "Write the row; VALUE is text, int:5, hex:00ff or text:int:5"),
    ("delete", "KEY", "Remove the row"),
    ("add", "KEY=DELTA", "Add to an integer row; an absent one counts as 0"),
    ("floor", "NUMBER", "The sum of the --add before it may not be below this"),
    ("ceiling", "NUMBER", "The sum of the --add before it may not be above this"),
    ("read", "KEY", "Print the row as it was before the transaction"),
];

/// The words of the flags in the order of the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FlagSteps {
    words: Vec<(&'static str, String)>,
}

impl FlagSteps {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The steps.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for the first that cannot be understood.
    pub(super) fn parse(&self) -> Result<Vec<Step>, Failure> {
        let mut steps = Vec::new();
        for (word, text) in &self.words {
            add_step(&mut steps, word, text, (None, None))
                .map_err(|failure| inside(failure, &format!("--{word} {text:?}")))?;
        }
        Ok(steps)
    }
}

impl clap::FromArgMatches for FlagSteps {
    fn from_arg_matches(matches: &ArgMatches) -> Result<FlagSteps, clap::Error> {
        let mut by_place: BTreeMap<usize, (&'static str, String)> = BTreeMap::new();
        for (name, _, _) in FLAGS {
            let places = matches.indices_of(name).into_iter().flatten();
            let texts = matches.get_many::<String>(name).into_iter().flatten();
            by_place.extend(places.zip(texts.map(|text| (name, text.clone()))));
        }
        Ok(FlagSteps { words: by_place.into_values().collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = FlagSteps::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for FlagSteps {
    fn augment_args(command: Command) -> Command {
        FLAGS.into_iter().fold(command, |command, (name, value, help)| {
            let arg = Arg::new(name).long(name).value_name(value).help(help);
            command.arg(arg.action(ArgAction::Append).allow_negative_numbers(true))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        FlagSteps::augment_args(command)
    }
}

/// The steps of a file: JSON if it starts with `{`, otherwise one step per line.
///
/// # Errors
/// `INVALID_REQUEST` with the line.
pub(super) fn parse_file(text: &str) -> Result<Vec<Step>, Failure> {
    if text.trim_start().starts_with('{') { parse_json(text) } else { parse_lines(text) }
}

/// Lines such as `add stock=-1 floor=0`. `table T` and `uid U` hold for the lines after them.
fn parse_lines(text: &str) -> Result<Vec<Step>, Failure> {
    let mut steps = Vec::new();
    let (mut table, mut uid): (Option<String>, Option<Uid>) = (None, None);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let place = || (table.clone(), uid);
        let done = match word {
            "table" => {
                table = Some(rest.trim().to_owned());
                Ok(())
            }
            "uid" => args::uid(rest).map_err(|reason| Failure::usage(reason, FIX)).map(|found| {
                uid = Some(found);
            }),
            "add" => add_line(&mut steps, rest.trim(), place()),
            _ => add_step(&mut steps, word, rest, place()),
        };
        done.map_err(|failure| inside(failure, &format!("line {}", index + 1)))?;
    }
    Ok(steps)
}

/// `KEY=DELTA`, then `floor=N` and `ceiling=N` in any order.
fn add_line(
    steps: &mut Vec<Step>,
    rest: &str,
    place: (Option<String>, Option<Uid>),
) -> Result<(), Failure> {
    let mut words = rest.split_whitespace();
    add_step(steps, "add", words.next().unwrap_or_default(), place)?;
    for word in words {
        match word.split_once('=') {
            Some((bound @ ("floor" | "ceiling"), number)) => {
                add_step(steps, bound, number, (None, None))?;
            }
            _ => {
                let message = format!("{word:?} is neither floor=NUMBER nor ceiling=NUMBER");
                return Err(Failure::usage(message, FIX));
            }
        }
    }
    Ok(())
}

/// Adds the step of one word, or a bound to the last one.
fn add_step(
    steps: &mut Vec<Step>,
    word: &str,
    text: &str,
    (table, uid): (Option<String>, Option<Uid>),
) -> Result<(), Failure> {
    let at = |key: &str| -> Result<At, Failure> {
        let key = values::parse_key(key, Meaning::Text)?;
        Ok(At { table: table.clone(), uid, key })
    };
    let step = match word {
        "require-exists" => Step::RequireExists(at(text.trim())?),
        "require-absent" => Step::RequireAbsent(at(text.trim())?),
        "delete" => Step::Delete(at(text.trim())?),
        "read" => Step::Read(at(text.trim())?),
        "require-equals" => {
            let (key, value) = pair(text)?;
            Step::RequireEquals(at(key)?, values::parse_prefixed(value)?)
        }
        "put" => {
            let (key, value) = pair(text)?;
            Step::Put(at(key)?, values::parse_prefixed(value)?)
        }
        "add" => {
            let (key, delta) = pair(text)?;
            Step::Add { at: at(key)?, delta: number(delta)?, floor: None, ceiling: None }
        }
        "floor" | "ceiling" => {
            let bound = number(text)?;
            let Some(Step::Add { floor, ceiling, .. }) = steps.last_mut() else {
                let message = format!("{word} belongs right after the add that it bounds");
                return Err(Failure::usage(message, FIX));
            };
            *(if word == "floor" { floor } else { ceiling }) = Some(bound);
            return Ok(());
        }
        _ => {
            let known = FLAGS.map(|(name, _, _)| name).into_iter().chain(["table", "uid"]);
            let message = format!("{word:?} is no step; {}", args::did_you_mean(word, known));
            return Err(Failure::usage(message, FIX));
        }
    };
    steps.push(step);
    Ok(())
}

fn pair(text: &str) -> Result<(&str, &str), Failure> {
    text.split_once('=')
        .ok_or_else(|| Failure::usage(format!("{text:?} has no \"=\" between key and value"), FIX))
}

fn number(text: &str) -> Result<i64, Failure> {
    args::integer(text).map_err(|reason| Failure::usage(reason, FIX))
}

/// The same failure with the place it was found in front.
fn inside(failure: Failure, place: &str) -> Failure {
    let Some(error) = failure.error() else { return failure };
    let fix = failure.fix().map(str::to_owned).unwrap_or_default();
    let message = format!("{place}: {}", error.message);
    Failure::new(error.code, message).with_exit(failure.exit()).with_fix(fix)
}

/// A JSON file: `{"table": "t", "uid": "42", "steps": [{"put": {"key": "k", "value": "v"}}]}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonFile {
    table: Option<String>,
    uid: Option<JsonNumber>,
    steps: Vec<JsonStep>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum JsonStep {
    RequireExists(JsonRow),
    RequireAbsent(JsonRow),
    RequireEquals(JsonRow),
    Put(JsonRow),
    Delete(JsonRow),
    Add(JsonRow),
    Read(JsonRow),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRow {
    table: Option<String>,
    uid: Option<JsonNumber>,
    key: JsonBytes,
    value: Option<JsonValue>,
    delta: Option<JsonNumber>,
    floor: Option<JsonNumber>,
    ceiling: Option<JsonNumber>,
}

/// A number, as text in documents because not every reader of JSON keeps 64 bits.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum JsonNumber {
    Text(String),
    Number(serde_json::Number),
}

impl JsonNumber {
    fn text(&self) -> String {
        match self {
            JsonNumber::Text(text) => text.clone(),
            JsonNumber::Number(number) => number.to_string(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum JsonBytes {
    Plain(String),
    Text { text: String },
    Hex { hex: String },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum JsonValue {
    Integer { integer: JsonNumber },
    Number(serde_json::Number),
    Bytes(JsonBytes),
}

fn parse_json(text: &str) -> Result<Vec<Step>, Failure> {
    let file: JsonFile = serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("the file is no transaction: {error}"), FIX))?;
    let mut steps = Vec::with_capacity(file.steps.len());
    for (index, step) in file.steps.iter().enumerate() {
        let step = json_step(step, &file)
            .map_err(|failure| inside(failure, &format!("steps[{index}]")))?;
        steps.push(step);
    }
    Ok(steps)
}

fn json_step(step: &JsonStep, file: &JsonFile) -> Result<Step, Failure> {
    let (JsonStep::RequireExists(row)
    | JsonStep::RequireAbsent(row)
    | JsonStep::RequireEquals(row)
    | JsonStep::Put(row)
    | JsonStep::Delete(row)
    | JsonStep::Add(row)
    | JsonStep::Read(row)) = step;
    let uid = row.uid.as_ref().or(file.uid.as_ref());
    let uid = uid.map(|uid| args::uid(&uid.text())).transpose();
    let at = At {
        table: row.table.clone().or_else(|| file.table.clone()),
        uid: uid.map_err(|reason| Failure::usage(reason, FIX))?,
        key: json_key(&row.key)?,
    };
    let optional = |bound: &Option<JsonNumber>| -> Result<Option<i64>, Failure> {
        bound.as_ref().map(|bound| number(&bound.text())).transpose()
    };
    let value = || json_value(row.value.as_ref().ok_or_else(|| missing("value"))?);
    let is_add = matches!(step, JsonStep::Add(_));
    let takes_value = matches!(step, JsonStep::Put(_) | JsonStep::RequireEquals(_));
    let has_add_fields = row.delta.is_some() || row.floor.is_some() || row.ceiling.is_some();
    if (has_add_fields && !is_add) || (row.value.is_some() && !takes_value) {
        let message = "value belongs to put and require-equals; delta, floor and ceiling to add";
        return Err(Failure::usage(message, FIX));
    }
    Ok(match step {
        JsonStep::RequireExists(_) => Step::RequireExists(at),
        JsonStep::RequireAbsent(_) => Step::RequireAbsent(at),
        JsonStep::RequireEquals(_) => Step::RequireEquals(at, value()?),
        JsonStep::Put(_) => Step::Put(at, value()?),
        JsonStep::Delete(_) => Step::Delete(at),
        JsonStep::Add(_) => Step::Add {
            at,
            delta: optional(&row.delta)?.ok_or_else(|| missing("delta"))?,
            floor: optional(&row.floor)?,
            ceiling: optional(&row.ceiling)?,
        },
        JsonStep::Read(_) => Step::Read(at),
    })
}

fn json_key(key: &JsonBytes) -> Result<Bytes, Failure> {
    match key {
        JsonBytes::Plain(text) | JsonBytes::Text { text } => values::parse_key(text, Meaning::Text),
        JsonBytes::Hex { hex } => values::parse_key(hex, Meaning::Hex),
    }
}

fn json_value(value: &JsonValue) -> Result<Value, Failure> {
    match value {
        JsonValue::Integer { integer } => values::parse_value(&integer.text(), Meaning::Integer),
        JsonValue::Number(number) => values::parse_value(&number.to_string(), Meaning::Integer),
        JsonValue::Bytes(JsonBytes::Plain(text) | JsonBytes::Text { text }) => {
            values::parse_value(text, Meaning::Text)
        }
        JsonValue::Bytes(JsonBytes::Hex { hex }) => values::parse_value(hex, Meaning::Hex),
    }
}

fn missing(field: &str) -> Failure {
    Failure::usage(format!("the field {field:?} is missing"), FIX)
}

#[cfg(test)]
#[path = "steps_test.rs"]
mod tests;
