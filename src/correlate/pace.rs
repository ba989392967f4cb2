// SPDX-License-Identifier: GPL-2.0-or-later
//! When to look at everything again.
//!
//! What concerns all streams is worked out when somebody asks. If more segments come after
//! that, as in a live capture, it is out of date with each of them; it is worked out again only
//! when the segments and questions since then have paid for it, so that all of it together
//! stays linear.

/// The state of something that is worked out from everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    done: bool,
    stale: bool,
    credit: usize,
    cost: usize,
}

impl Pace {
    /// Something changed that it depends on.
    pub fn changed(&mut self) {
        self.stale = true;
        self.credit += 1;
    }

    /// It has to be worked out anew, whatever that costs.
    pub fn forget(&mut self) {
        *self = Pace::default();
    }

    /// Somebody asks for what costs as much: if it is out of date, it is to be worked out now.
    pub fn insist(&mut self) {
        self.done &= !self.stale;
    }

    /// Somebody asks: whether it is to be worked out now.
    pub fn is_due(&mut self) -> bool {
        self.credit += 1;
        !self.done || self.stale && self.credit > self.cost
    }

    /// It was worked out, at this cost.
    pub fn worked_out(&mut self, cost: usize) {
        *self = Pace { done: true, stale: false, credit: 0, cost };
    }

    /// Whether it takes account of everything.
    pub fn is_current(&self) -> bool {
        self.done && !self.stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn working_out_is_paid_for_by_what_came_since() {
        let mut pace = Pace::default();
        assert!(pace.is_due());
        pace.worked_out(3);
        assert!(!pace.is_due() && pace.is_current());
        pace.changed();
        assert!(!pace.is_current());
        let asked = (0..10).take_while(|_| !pace.is_due()).count();
        assert_eq!(asked, 1, "one change and the questions before have paid for the rest");
        pace.worked_out(3);
        pace.insist();
        assert!(!pace.is_due(), "nothing has changed");
        pace.changed();
        pace.insist();
        assert!(pace.is_due());
    }
}
