//! The questions of `quorate topology new`: only about what no flag says. Enter takes the default; an
//! answer that makes no sense is asked for again.

use std::io::{BufRead, Write};

use quorate_topology::TableClass;
use quorate_topology::new_file::words;
use quorate_topology::presets::Layout;

use super::{Choices, host, layout, table};
use crate::exit::Failure;

/// Answers to one question before it is given up.
const TRIES: usize = 5;

/// Asks about everything that `choices` leave open.
///
/// # Errors
/// If the answers end or make no sense again and again.
pub(super) fn ask(
    mut choices: Choices,
    answers: &mut impl BufRead,
    screen: &mut impl Write,
) -> Result<Choices, Failure> {
    if choices.name.is_none() {
        let question = "Name of the cluster [quorate]";
        choices.name = one(question, answers, screen, |text| Ok(text.to_owned()))?;
    }
    if choices.layout.is_none() {
        let mut question = String::new();
        for known in Layout::ALL {
            question.push_str(&format!("  {}  {}\n", known.word(), words(known)));
        }
        question.push_str("Layout [1c3i]");
        choices.layout = one(&question, answers, screen, layout)?;
    }
    if choices.hosts.is_none() {
        let nodes = choices.layout.unwrap_or_default().places().len();
        let question =
            format!("Machines of the {nodes} nodes, separated by commas [all on this machine]");
        choices.hosts = one(&question, answers, screen, |text| hosts(text, nodes))?;
    }
    if choices.tables.is_none() {
        let question = "Tables as name:class, separated by commas; unit, home, global [rows:unit]";
        choices.tables = one(question, answers, screen, tables)?;
    }
    Ok(choices)
}

/// One answer; `None` for an empty one, which takes the default.
fn one<T>(
    question: &str,
    answers: &mut impl BufRead,
    screen: &mut impl Write,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, Failure> {
    for _ in 0..TRIES {
        // Harmless if nobody sees it: the answer is read all the same.
        let _ = write!(screen, "{question}: ").and_then(|()| screen.flush());
        let mut line = String::new();
        match answers.read_line(&mut line) {
            Ok(count) if 0 < count => {}
            Ok(_) | Err(_) => return Err(given_up("the answers ended")),
        }
        match line.trim() {
            "" => return Ok(None),
            text => match parse(text) {
                Ok(value) => return Ok(Some(value)),
                Err(mistake) => {
                    // As harmless: the question is asked again.
                    let _ = writeln!(screen, "{mistake}");
                }
            },
        }
    }
    Err(given_up("too many answers made no sense"))
}

fn given_up(why: &str) -> Failure {
    Failure::usage(why, "say everything with flags and --yes; --help lists them")
}

fn hosts(text: &str, nodes: usize) -> Result<Vec<String>, String> {
    let hosts: Vec<String> = text.split(',').map(host).collect::<Result<_, _>>()?;
    if hosts.len() == nodes {
        return Ok(hosts);
    }
    Err(format!("these are {}; name {nodes}, a machine may be named more than once", hosts.len()))
}

fn tables(text: &str) -> Result<Vec<(String, TableClass)>, String> {
    text.split(',').map(table).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(choices: Choices, answers: &str) -> (Result<Choices, Failure>, String) {
        let mut screen = Vec::new();
        let chosen = ask(choices, &mut answers.as_bytes(), &mut screen);
        (chosen, String::from_utf8(screen).expect("text"))
    }

    #[test]
    fn answers_become_choices_and_enter_takes_the_default() {
        // Goal: a person who answers gets what they said; one who only presses Enter gets the defaults.
        let (chosen, _) = asked(Choices::default(), "pay\n3c5i\na,b,c,d,e\nt,r:global\n");
        let chosen = chosen.expect("answers");
        assert_eq!(chosen.name.as_deref(), Some("pay"));
        assert_eq!(chosen.layout, Some(Layout::ThreeCities));
        assert_eq!(chosen.hosts.map(|hosts| hosts.len()), Some(5));
        assert_eq!(chosen.tables.map(|tables| tables.len()), Some(2));
        assert_eq!(asked(Choices::default(), "\n\n\n\n").0, Ok(Choices::default()));
    }

    #[test]
    fn what_a_flag_says_is_not_asked() {
        // Goal: no question about what is known already.
        let known = Choices {
            name: Some("pay".to_owned()),
            layout: Some(Layout::default()),
            ..Choices::default()
        };
        let (chosen, screen) = asked(known, "\n\n");
        assert_eq!(chosen.expect("answers").name.as_deref(), Some("pay"));
        assert!(!screen.contains("Name of") && !screen.contains("Layout"), "{screen}");
        assert!(screen.contains("Machines of the 3 nodes"), "{screen}");
    }

    #[test]
    fn nonsense_is_asked_again_and_the_end_is_an_error() {
        // Goal: a typing mistake costs one more line, and a closed terminal does not hang.
        let (chosen, screen) = asked(Choices::default(), "pay\n9c9i\n2c3i\na,b\n\n\n");
        assert_eq!(chosen.expect("answers").layout, Some(Layout::TwoCities));
        assert!(screen.contains("\"9c9i\" is no layout"), "{screen}");
        assert!(screen.contains("these are 2; name 3"), "{screen}");
        assert!(asked(Choices::default(), "pay\n").0.is_err());
        assert!(asked(Choices::default(), &"pay\n".repeat(20)).0.is_err());
    }
}
