//! Owns how a value of the file of settings is read.
//!
//! Knows no setting by its name. Invariant: what a flag of the command line takes is taken here too,
//! and what is not understood is told what it should have been.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use thiserror::Error;

pub(super) fn mebibytes<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    deserializer.deserialize_u64(Whole("a whole number of MiB"))
}

pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    deserializer.deserialize_u64(Whole("a whole number"))
}

pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    deserializer.deserialize_u64(Whole("a whole number of seconds"))
}

/// As [`mebibytes`], of the command line.
pub(super) fn written_mebibytes(text: &str) -> Result<u64, NoMebibytes> {
    text.parse().map_err(|_| NoMebibytes)
}

/// The text is no number of them.
#[derive(Debug, Error)]
#[error("write a whole number of MiB, like 512")]
pub(super) struct NoMebibytes;

/// Reads a number that is no less than zero, and says of what else is there that it is none.
struct Whole(&'static str);

impl Visitor<'_> for Whole {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        let signed = |_| E::invalid_value(Unexpected::Signed(number), &self);
        u64::try_from(number).map(Some).map_err(signed)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number))
    }
}

/// What the flag of that name reads.
pub(super) fn text<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: fmt::Display>,
{
    String::deserialize(deserializer)?.parse().map(Some).map_err(de::Error::custom)
}

/// One of the values that the flag of that name takes.
pub(super) fn choice<'de, D: Deserializer<'de>, T: ValueEnum>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let values = || T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    T::from_str(&text, false).map(Some).map_err(|_| {
        let known: Vec<_> = values().map(|value| value.get_name().to_owned()).collect();
        de::Error::custom(format!("'{text}' is none of: {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Arguments, Settings};

    #[test]
    fn what_is_no_number_is_told_what_it_should_be() {
        for (text, words) in [
            ("memory = \"x\"", "expected a whole number of MiB"),
            ("user-memory = -1", "expected a whole number of MiB"),
            ("user-slots = 1.5", "expected a whole number"),
            ("drain = true", "expected a whole number of seconds"),
        ] {
            let error = toml::from_str::<Settings>(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        for flag in ["--memory", "--user-memory"] {
            for value in ["abc", "512M", "-1"] {
                let flag = format!("{flag}={value}");
                let error = Arguments::try_parse_from(["resized", &flag]).unwrap_err().to_string();
                assert!(error.contains(": write a whole number of MiB, like 512"), "{error}");
            }
        }
    }
}
