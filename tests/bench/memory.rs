// SPDX-License-Identifier: GPL-2.0-or-later
//! What a session takes of memory, by counting what is allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use rstdiag::session::{Session, When};

use crate::traffic::Traffic;

/// Bytes beside the streams that each frame may take (DESIGN.md).
const FRAME: f64 = 4.0;

/// Counts the bytes that are in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything to the system's allocator, as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that each stream takes, and each kept entry.
pub fn of(traffic: &Traffic) -> [f64; 2] {
    let with_log = used(traffic);
    let without_log = used(&Traffic { with_log: false, ..traffic.clone() });
    let streams = without_log - FRAME * traffic.packets() as f64;
    [
        streams / f64::from(traffic.connections),
        (with_log - without_log) / traffic.entries() as f64,
    ]
}

/// Bytes that a session takes when its entries are matched.
fn used(traffic: &Traffic) -> f64 {
    let before = IN_USE.load(Ordering::Relaxed);
    let mut session: Session = traffic.replay();
    let _ = session.verdict_of(0, When::Final);
    (IN_USE.load(Ordering::Relaxed) - before) as f64
}
