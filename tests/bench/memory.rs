// SPDX-License-Identifier: GPL-2.0-or-later
//! What a session takes of memory, by counting what is allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use rstdiag::session::{Session, When};

use crate::traffic::Traffic;

/// Bytes beside the streams that each frame may take (DESIGN.md).
const FRAME: f64 = 4.0;

/// Counts the bytes that are in use, of each thread for itself: tests run at the same time.
struct Counting;

thread_local! {
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    /// The most that was in use at a time.
    static MOST: Cell<isize> = const { Cell::new(0) };
}

impl Counting {
    fn add(bytes: isize) {
        // A thread that ends frees what it has when its counters may be gone.
        let _ = IN_USE.try_with(|in_use| {
            in_use.set(in_use.get() + bytes);
            let _ = MOST.try_with(|most| most.set(most.get().max(in_use.get())));
        });
    }
}

// SAFETY: hands everything to the system's allocator, as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::add(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Counting::add(-(layout.size() as isize));
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
    let [kept, _] = taken(|| {
        let mut session: Session = traffic.replay();
        let _ = session.verdict_of(0, When::Final);
        session
    });
    kept as f64
}

/// Bytes that are in use for what is made, and the most that were on the way there.
pub fn taken<T>(make: impl FnOnce() -> T) -> [usize; 2] {
    let before = IN_USE.get();
    MOST.set(before);
    let made = make();
    let taken = [IN_USE.get(), MOST.get()].map(|bytes| (bytes - before).max(0) as usize);
    drop(made);
    taken
}
