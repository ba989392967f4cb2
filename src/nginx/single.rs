// SPDX-License-Identifier: GPL-2.0-or-later
//! Reads the lines that can be read in one way only, which most can, without weighing readings.
//!
//! A value ends where the text behind it begins. Where that text begins in one place only among
//! the bytes that the value may hold, every reading has the value end there. So once a pattern has
//! told that a line has a reading, none has to be looked for.

use memchr::memchr;
use memchr::memmem::Finder;

use super::log_format::{Escape, Part, Values, Variable};

/// A format with a text between any two of its variables.
#[derive(Clone, Debug)]
pub(super) struct SingleReading {
    escape: Escape,
    /// Bytes before the first variable.
    lead: usize,
    steps: Vec<Step>,
}

/// A variable, and the text behind it.
#[derive(Clone, Debug)]
struct Step {
    /// The variable, if it is of use.
    variable: Option<Variable>,
    /// Whether its values may hold a byte, by that byte.
    holds: [bool; 256],
    /// Finds the text behind it; of the last variable, that is all that is left.
    text: Finder<'static>,
    is_last: bool,
}

impl SingleReading {
    /// The readings by these parts; `None` if two variables touch.
    pub fn of(parts: &[Part], escape: Escape) -> Option<SingleReading> {
        let (lead, rest) = match parts {
            [Part::Literal(text), rest @ ..] => (text.len(), rest),
            rest => (0, rest),
        };
        let mut steps = Vec::new();
        for pair in rest.chunks(2) {
            let (part, text) = match pair {
                [part, Part::Literal(text)] => (part, text.as_slice()),
                [part] => (part, &b""[..]),
                _ => return None,
            };
            steps.push(Step {
                variable: part.variable(),
                holds: part.holds(escape)?,
                text: Finder::new(text).into_owned(),
                is_last: steps.len() * 2 + pair.len() == rest.len(),
            });
        }
        Some(SingleReading { escape, lead, steps })
    }

    /// The values of a line that has a reading; `None` if it may have another one.
    pub fn read<'l>(&self, line: &'l [u8]) -> Option<Values<'l>> {
        // An escaped quotation mark is held by values that else end at one.
        if self.escape == Escape::Json && memchr(b'\\', line).is_some() {
            return None;
        }
        let mut values = [None; Variable::COUNT];
        let mut rest = line.get(self.lead..)?;
        for step in &self.steps {
            let (value, behind) = rest.split_at_checked(step.end(rest)?)?;
            if let Some(known) = step.variable.and_then(|it| values.get_mut(it as usize)) {
                *known = known.or(Some(value));
            }
            rest = behind.get(step.text.needle().len()..)?;
        }
        Some(values)
    }
}

impl Step {
    /// Where the value that the rest of a line begins with ends in every reading.
    fn end(&self, rest: &[u8]) -> Option<usize> {
        let len = self.text.needle().len();
        if self.is_last {
            return rest.len().checked_sub(len);
        }
        let held = rest.iter().position(|&byte| !self.holds[usize::from(byte)]);
        let reach = held.and_then(|held| rest.get(..held + len)).unwrap_or(rest);
        let end = self.text.find(reach)?;
        let again = self.text.find(reach.get(end + 1..)?);
        again.is_none().then_some(end)
    }
}
