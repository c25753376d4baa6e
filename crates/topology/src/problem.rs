//! What is wrong with a cluster file: problems with their lines, collected before anything is
//! reported, so that one run shows every mistake.

use std::fmt;

use quorate_types::{Code, Error};

/// Most problems a report holds; further ones are only counted.
pub const PROBLEMS_MAX: usize = 100;

/// One mistake, or one warning, in a cluster file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line it is on, from 1; `None` when it is about the file as a whole.
    pub line: Option<usize>,
    /// Where in the document, such as `group[2].locality`. Items are counted from 1.
    pub path: String,
    /// What is wrong, a lower-case fragment.
    pub message: String,
    /// What to do about it, if that can be said.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Why a cluster file is refused: every problem found, in order of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyError {
    /// Always `CONFIG_INVALID`.
    pub code: Code,
    /// The file as the user knows it, printed in front of each problem.
    pub file: String,
    /// At least one, at most [`PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// How many more were found.
    pub left_out: usize,
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if 0 < index {
                f.write_str("\n")?;
            }
            match problem.line {
                Some(line) => write!(f, "{}:{line}: {problem}", self.file)?,
                None => write!(f, "{}: {problem}", self.file)?,
            }
        }
        if 0 < self.left_out {
            write!(f, "\n{}: {} more problems are not shown", self.file, self.left_out)?;
        }
        Ok(())
    }
}

impl std::error::Error for TopologyError {}

impl From<TopologyError> for Error {
    fn from(error: TopologyError) -> Error {
        Error::new(error.code, error.to_string()).with("file", &error.file)
    }
}

/// The problems and warnings found so far. A full collection only counts.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    errors: Vec<Problem>,
    left_out: usize,
    warnings: Vec<Problem>,
}

impl Problems {
    /// True if nothing but warnings was found.
    pub(crate) fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// Records a mistake.
    pub(crate) fn error(
        &mut self,
        line: Option<usize>,
        path: impl Into<String>,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        if self.errors.len() == PROBLEMS_MAX {
            self.left_out += 1;
            return;
        }
        self.errors.push(Problem { line, path: path.into(), message: message.into(), hint });
    }

    /// Records something that is allowed but probably not meant.
    pub(crate) fn warning(
        &mut self,
        line: Option<usize>,
        path: impl Into<String>,
        message: impl Into<String>,
    ) {
        if self.warnings.len() < PROBLEMS_MAX {
            let (path, message) = (path.into(), message.into());
            self.warnings.push(Problem { line, path, message, hint: None });
        }
    }

    /// The warnings if there were no errors, otherwise the errors, each in order of lines.
    pub(crate) fn finish(mut self, file: &str) -> Result<Vec<Problem>, TopologyError> {
        if self.errors.is_empty() {
            self.warnings.sort_by_key(|problem| problem.line);
            return Ok(self.warnings);
        }
        self.errors.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        Err(TopologyError {
            code: Code::ConfigInvalid,
            file: file.to_owned(),
            problems: self.errors,
            left_out: self.left_out,
        })
    }
}
