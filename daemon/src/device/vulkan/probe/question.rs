//! Owns the language of the process that GPUs are tested in: what it is asked, by an argument, and
//! what it answers, by its output.
//!
//! Knows texts alone. Invariant: what is written is read as what it was; a test compares.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::device::vulkan::settings::Wanted;

/// What the process is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which GPUs there are, and which of them could be used: a `Report` for each, in lines.
    List(Wanted),
    /// Whether the GPU of that name resizes frames as the cores do: a `Verdict`.
    SelfTest(String),
}

/// Something that is no question.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is not asked")]
pub struct UnknownQuestion(String);

const LIST: &str = "list";
const LIST_REAL: &str = "list-real";
const LIST_NAMED: &str = "list:";
const SELF_TEST: &str = "self-test:";

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(Wanted::All) => f.write_str(LIST),
            Self::List(Wanted::Real) => f.write_str(LIST_REAL),
            Self::List(Wanted::Named(part)) => write!(f, "{LIST_NAMED}{part}"),
            Self::SelfTest(name) => write!(f, "{SELF_TEST}{name}"),
        }
    }
}

impl FromStr for Question {
    type Err = UnknownQuestion;

    fn from_str(text: &str) -> Result<Self, UnknownQuestion> {
        let after = |prefix| text.strip_prefix(prefix).map(str::to_owned);
        match text {
            LIST => Ok(Self::List(Wanted::All)),
            LIST_REAL => Ok(Self::List(Wanted::Real)),
            _ => after(LIST_NAMED)
                .map(|part| Self::List(Wanted::Named(part)))
                .or_else(|| after(SELF_TEST).map(Self::SelfTest))
                .ok_or_else(|| UnknownQuestion(text.to_owned())),
        }
    }
}

/// What one GPU is, and why it is not used if it is not: a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Report {
    pub(in super::super) name: String,
    pub(in super::super) unused: Option<String>,
}

/// Something that is no report.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("it is no report")]
pub(in super::super) struct NoReport;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}", one_line(&self.name), one_line(self.unused.as_deref().unwrap_or("")))
    }
}

impl FromStr for Report {
    type Err = NoReport;

    fn from_str(line: &str) -> Result<Self, NoReport> {
        let (name, unused) = line.split_once('\t').ok_or(NoReport)?;
        let unused = (!unused.is_empty()).then(|| unused.to_owned());
        Ok(Self { name: name.to_owned(), unused })
    }
}

/// How a GPU fared: a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Verdict {
    Passed,
    /// For this reason.
    Failed(String),
}

const PASSED: &str = "passed";
const FAILED: &str = "failed: ";

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str(PASSED),
            Self::Failed(reason) => write!(f, "{FAILED}{}", one_line(reason)),
        }
    }
}

/// Whatever else is said is a reason too.
impl FromStr for Verdict {
    type Err = Infallible;

    fn from_str(said: &str) -> Result<Self, Infallible> {
        let said = said.trim_end_matches('\n');
        Ok(match said.strip_prefix(FAILED) {
            None if said == PASSED => Self::Passed,
            reason => Self::Failed(reason.unwrap_or(said).to_owned()),
        })
    }
}

/// What drivers say, without what ends a line or a part of it.
pub(in super::super) fn one_line(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_and_answered_is_read_as_it_was_meant() {
        let named = |part: &str| Question::List(Wanted::Named(part.to_owned()));
        let tested = |name: &str| Question::SelfTest(name.to_owned());
        let lists = [Wanted::All, Wanted::Real].map(Question::List);
        let others =
            ["", "X: #2", "real", "self-test:list:"].map(|text| [named(text), tested(text)]);
        for question in lists.into_iter().chain(others.into_iter().flatten()) {
            assert_eq!(question.to_string().parse(), Ok(question));
        }
        for text in ["", "List", "list ", "self-test"] {
            assert_eq!(text.parse::<Question>(), Err(UnknownQuestion(text.to_owned())));
        }
        for unused in [None, Some("it is: a CPU".to_owned())] {
            let report = Report { name: "X #2".to_owned(), unused };
            assert_eq!(report.to_string().parse(), Ok(report));
        }
        assert_eq!("no tab".parse::<Report>(), Err(NoReport));
        let reasons = ["it is on fire", "passed", "failed: passed", ""];
        let failed = reasons.map(|reason| Verdict::Failed(reason.to_owned()));
        for verdict in failed.into_iter().chain([Verdict::Passed]) {
            assert_eq!(format!("{verdict}\n").parse(), Ok(verdict));
        }
        assert_eq!("it smokes\n".parse(), Ok(Verdict::Failed("it smokes".to_owned())));
    }

    #[test]
    fn what_drivers_say_stays_in_its_line() {
        let report = Report { name: "a\tGPU".to_owned(), unused: Some("no\nline\n".to_owned()) };
        assert_eq!(report.to_string(), "a GPU\tno line ");
        assert_eq!(Verdict::Failed("no\r\nline".to_owned()).to_string(), "failed: no  line");
    }
}
