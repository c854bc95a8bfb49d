//! The allocator of Ambit's guests: an arena inside the component's initial memory.
//!
//! A call runs in a fresh instance. A general allocator starts such an instance by asking for more memory, and every
//! `memory.grow` costs the host system calls that also keep its threads waiting for each other; together they are about
//! half of what a small call costs. Here the first 256 KiB come from a zeroed `static`, which is part of the
//! memory the instance is born with, and `memory.grow` is called only when they are used up.
//!
//! Blocks are cut from the front of the arena. Sizes are rounded up to classes (powers of two and the halves between
//! them, so at most a third of a block is lost); a freed block is kept in its class's list for the next allocation of
//! that class, or given back at once if it was the last one cut, which also lets a growing `Vec` or `String` at the end
//! grow in place. Blocks are never joined: an instance lives for one call.

use core::alloc::Layout;
use core::ptr;

/// Alignment of every block, and the smallest size: room for a list's link on any target.
const GRAIN: usize = 16;

/// Two classes for each power of two from `GRAIN` (2^4) up; enough for every size a 32-bit address can have.
const CLASSES: usize = 2 * (usize::BITS as usize - 4);

/// Where more memory comes from when the arena is used up.
trait Source {
    /// At least `bytes` fresh bytes aligned to [`GRAIN`], as start address and length; the length is a multiple of
    /// `GRAIN`. `None` if there are none.
    fn more(&mut self, bytes: usize) -> Option<(usize, usize)>;
}

/// The classes' lists and the part of the current region that was never handed out: `next..end`.
struct Heap {
    next: usize,
    end: usize,
    free: [usize; CLASSES],
}

impl Heap {
    const fn new() -> Self {
        Self {
            next: 0,
            end: 0,
            free: [0; CLASSES],
        }
    }

    /// A block for `layout`, or null.
    ///
    /// # Safety
    /// Every region that `source` returned must be writable and used by this heap alone.
    unsafe fn allocate(&mut self, layout: Layout, source: &mut impl Source) -> *mut u8 {
        let Some((class, size)) = class_of(layout.size()) else {
            return ptr::null_mut();
        };
        if layout.align() <= GRAIN
            && let Some(head) = self.free.get_mut(class)
            && *head != 0
        {
            let block = *head as *mut u8;
            // SAFETY: blocks in a list are free, at least GRAIN long, and hold the next one's address.
            *head = unsafe { block.cast::<usize>().read() };
            return block;
        }
        if self.cut(layout, size).is_none() {
            // SAFETY: as promised by the caller.
            unsafe { self.refill(size, layout.align(), source) };
        }
        let Some(start) = self.cut(layout, size) else {
            return ptr::null_mut();
        };
        self.next = start + size;
        start as *mut u8
    }

    /// Where a block of `size` would start in the current region, if it fits.
    fn cut(&self, layout: Layout, size: usize) -> Option<usize> {
        let start = self.next.checked_next_multiple_of(layout.align())?;
        (self.next != 0 && start.checked_add(size)? <= self.end).then_some(start)
    }

    /// Makes a new region current, if the source has one. What is left of the old one goes to the lists.
    ///
    /// # Safety
    /// As [`Heap::allocate`].
    unsafe fn refill(&mut self, size: usize, align: usize, source: &mut impl Source) {
        let Some(wanted) = size.checked_add(align) else {
            return;
        };
        let Some((start, length)) = source.more(wanted) else {
            return;
        };
        if start == self.end {
            // The new region continues the old one.
            self.end = start + length;
            return;
        }
        while self.end - self.next >= GRAIN {
            let (class, size) = class_within(self.end - self.next);
            // SAFETY: `next..next + size` is inside the old region and was never handed out.
            unsafe { self.keep(self.next, class) };
            self.next += size;
        }
        (self.next, self.end) = (start, start + length);
    }

    /// # Safety
    /// `block` came from [`Heap::allocate`] with this `layout` and is not used any more.
    unsafe fn free(&mut self, block: usize, layout: Layout) {
        let Some((class, size)) = class_of(layout.size()) else {
            return;
        };
        if block + size == self.next {
            self.next = block;
        } else {
            // SAFETY: the block is as long as its class says, and nobody else's any more.
            unsafe { self.keep(block, class) };
        }
    }

    /// # Safety
    /// `block` is free, aligned to `GRAIN`, and as long as its class says.
    unsafe fn keep(&mut self, block: usize, class: usize) {
        if let Some(head) = self.free.get_mut(class) {
            // SAFETY: as promised by the caller; a class is at least GRAIN bytes.
            unsafe { (block as *mut usize).write(*head) };
            *head = block;
        }
    }

    /// Changes a block's size without moving it, where that is possible.
    fn resize(&mut self, block: usize, layout: Layout, new_size: usize) -> bool {
        let (Some((_, old)), Some((_, new))) = (class_of(layout.size()), class_of(new_size)) else {
            return false;
        };
        let last = block + old == self.next;
        if last && block.checked_add(new).is_some_and(|end| end <= self.end) {
            self.next = block + new;
            return true;
        }
        // A shrunk block is freed into its new class; what it had beyond that is lost until the instance ends.
        new <= old
    }
}

/// The class that holds `size` bytes, and how long its blocks are: 16, 32, 48, 64, 96, 128, 192, … bytes. Class 2k is
/// 2^(k+4) and class 2k+1 is 3·2^(k+3), except that 24, which is no multiple of [`GRAIN`], is left out.
fn class_of(size: usize) -> Option<(usize, usize)> {
    let size = size.max(GRAIN);
    let power = size.checked_next_power_of_two()?;
    let exponent = power.trailing_zeros() as usize;
    let between = power / 4 * 3;
    if between >= size && between.is_multiple_of(GRAIN) {
        Some((2 * (exponent - 5) + 1, between))
    } else {
        Some((2 * (exponent - 4), power))
    }
}

/// The largest class whose blocks fit into `room`, which is at least `GRAIN`.
fn class_within(room: usize) -> (usize, usize) {
    let exponent = room.ilog2() as usize;
    let power = 1 << exponent;
    let between = power / 2 * 3;
    if between <= room && between.is_multiple_of(GRAIN) {
        (2 * (exponent - 4) + 1, between)
    } else {
        (2 * (exponent - 4), power)
    }
}

#[cfg(target_arch = "wasm32")]
pub(crate) use linear::Arena;

/// The heap as the instance's global allocator, over the instance's own memory.
#[cfg(target_arch = "wasm32")]
mod linear {
    use super::{Heap, Source};
    use core::alloc::{GlobalAlloc, Layout};
    use core::cell::UnsafeCell;
    use core::ptr;

    /// Bytes available without `memory.grow`.
    const ARENA_BYTES: usize = 256 * 1024;

    /// The global allocator. Installed by this crate on WebAssembly; a tool has nothing to do.
    pub(crate) struct Arena {
        heap: UnsafeCell<Heap>,
    }

    // SAFETY: guests are single-threaded: the target has no `atomics`, which the check below keeps so.
    unsafe impl Sync for Arena {}

    #[cfg(target_feature = "atomics")]
    compile_error!("the arena allocator is for guests without threads");

    impl Arena {
        /// An arena that hands out nothing yet.
        pub(crate) const fn new() -> Self {
            Self {
                heap: UnsafeCell::new(Heap::new()),
            }
        }
    }

    /// The memory of the instance: first the arena, then what `memory.grow` adds.
    struct Linear;

    impl Source for Linear {
        fn more(&mut self, bytes: usize) -> Option<(usize, usize)> {
            #[repr(align(16))]
            struct Region(UnsafeCell<[u8; ARENA_BYTES]>);
            // SAFETY: single-threaded, see `Arena`.
            unsafe impl Sync for Region {}
            static REGION: Region = Region(UnsafeCell::new([0; ARENA_BYTES]));
            static TAKEN: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);
            const PAGE: usize = 64 * 1024;

            if bytes <= ARENA_BYTES && !TAKEN.swap(true, core::sync::atomic::Ordering::Relaxed) {
                return Some((REGION.0.get() as usize, ARENA_BYTES));
            }
            // Growing by a quarter of what is there keeps the number of calls logarithmic.
            let pages = bytes.div_ceil(PAGE);
            let generous = pages.max(core::arch::wasm32::memory_size(0) / 4);
            let grow = |pages| match core::arch::wasm32::memory_grow(0, pages) {
                usize::MAX => None,
                before => Some((before * PAGE, pages * PAGE)),
            };
            grow(generous).or_else(|| grow(pages))
        }
    }

    // SAFETY: blocks are disjoint, as long and as aligned as asked for, and not handed out again before they are freed.
    unsafe impl GlobalAlloc for Arena {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: single-threaded and never re-entered; the regions of `Linear` are ours.
            unsafe { (*self.heap.get()).allocate(layout, &mut Linear) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: as above; the caller gives back what it got.
            unsafe { (*self.heap.get()).free(block as usize, layout) }
        }

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            // SAFETY: as above.
            if unsafe { (*self.heap.get()).resize(block as usize, layout, new_size) } {
                return block;
            }
            // SAFETY: alignment is the old one's; sizes come from the caller, who keeps them below `isize::MAX`.
            unsafe {
                let moved = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
                if !moved.is_null() {
                    ptr::copy_nonoverlapping(block, moved, layout.size().min(new_size));
                    self.dealloc(block, layout);
                }
                moved
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::{alloc_zeroed, dealloc};

    /// Hands out regions of the test's own memory, and counts.
    struct Regions {
        first: usize,
        taken: Vec<(usize, Layout)>,
    }

    impl Regions {
        fn of(first: usize) -> Self {
            Self {
                first,
                taken: Vec::new(),
            }
        }
    }

    impl Source for Regions {
        fn more(&mut self, bytes: usize) -> Option<(usize, usize)> {
            let length = bytes.max(self.first).next_multiple_of(GRAIN);
            let layout = Layout::from_size_align(length, GRAIN).ok()?;
            // SAFETY: the layout is not empty.
            let start = unsafe { alloc_zeroed(layout) } as usize;
            self.taken.push((start, layout));
            Some((start, length))
        }
    }

    impl Drop for Regions {
        fn drop(&mut self) {
            for (start, layout) in &self.taken {
                // SAFETY: from `alloc_zeroed` with this layout.
                unsafe { dealloc(*start as *mut u8, *layout) }
            }
        }
    }

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("a valid layout")
    }

    #[test]
    fn a_class_is_large_enough_and_loses_at_most_a_third() {
        for size in 1..100_000 {
            let (class, block) = class_of(size).expect("a class");
            assert!(
                block >= size && block.is_multiple_of(GRAIN) && class < CLASSES,
                "{size}"
            );
            assert!(
                size <= 32 || 3 * block <= 4 * size + 3 * GRAIN || 2 * block <= 3 * size,
                "{size} takes {block}"
            );
            assert_eq!(class_of(block), Some((class, block)), "{size}");
            if size >= GRAIN {
                let (within, block) = class_within(size);
                assert!(block <= size, "{size}");
                assert_eq!(class_of(block), Some((within, block)), "{size}");
            }
        }
    }

    #[test]
    fn the_last_block_is_given_back_and_grows_in_place() {
        let (mut heap, mut regions) = (Heap::new(), Regions::of(4096));
        // SAFETY: blocks are used and freed as they were allocated.
        unsafe {
            let first = heap.allocate(layout(40, 8), &mut regions);
            let second = heap.allocate(layout(100, 8), &mut regions);
            assert!(heap.resize(second as usize, layout(100, 8), 1000));
            assert!(!heap.resize(first as usize, layout(40, 8), 1000));
            heap.free(second as usize, layout(1000, 8));
            assert_eq!(heap.allocate(layout(10, 1), &mut regions), second);
        }
        assert_eq!(regions.taken.len(), 1);
    }

    #[test]
    fn a_freed_block_serves_the_next_of_its_class() {
        let (mut heap, mut regions) = (Heap::new(), Regions::of(4096));
        // SAFETY: as above.
        unsafe {
            let first = heap.allocate(layout(33, 8), &mut regions);
            let _second = heap.allocate(layout(33, 8), &mut regions);
            heap.free(first as usize, layout(33, 8));
            assert_eq!(heap.allocate(layout(48, 8), &mut regions), first);
        }
    }

    #[test]
    fn what_is_left_of_a_used_up_region_is_still_handed_out() {
        let (mut heap, mut regions) = (Heap::new(), Regions::of(1024));
        // SAFETY: as above.
        unsafe {
            assert!(!heap.allocate(layout(512, 8), &mut regions).is_null());
            assert!(!heap.allocate(layout(4000, 8), &mut regions).is_null());
            let (first, _) = regions.taken[0];
            let rest = heap.allocate(layout(512, 8), &mut regions) as usize;
            assert!((first..first + 1024).contains(&rest));
        }
        assert_eq!(regions.taken.len(), 2);
    }

    /// Random allocations, frees and resizes: blocks keep their contents and alignment, so none overlap.
    #[test]
    fn blocks_never_overlap() {
        let (mut heap, mut regions) = (Heap::new(), Regions::of(64 * 1024));
        let mut live: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let mut state = 1u64;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for step in 0..20_000 {
            let mark = step as u8;
            // SAFETY: every block in `live` is `layout.size()` bytes long and ours.
            unsafe {
                match random(5) {
                    0 | 1 if live.len() < 200 => {
                        let layout = layout(1 + random(3000), 1 << random(7));
                        let block = heap.allocate(layout, &mut regions);
                        assert!(!block.is_null() && (block as usize).is_multiple_of(layout.align()));
                        block.write_bytes(mark, layout.size());
                        live.push((block, layout, mark));
                    }
                    2 if !live.is_empty() => {
                        let at = random(live.len());
                        let (block, old, mark) = live[at];
                        let new = layout(1 + random(3000), old.align());
                        if heap.resize(block as usize, old, new.size()) {
                            block.write_bytes(mark, new.size());
                            live[at].1 = new;
                        }
                    }
                    _ if !live.is_empty() => {
                        let (block, layout, mark) = live.swap_remove(random(live.len()));
                        let contents = std::slice::from_raw_parts(block, layout.size());
                        assert!(contents.iter().all(|&byte| byte == mark));
                        heap.free(block as usize, layout);
                    }
                    _ => {}
                }
            }
        }
    }
}
