//! How much work the programs are for the kernel's verifier: what grows unseen is refused one day, on somebody's node.

use lab::packet::Kernel;

/// The kernel's own limit is a million.
const LIMIT: u32 = 600_000;

#[test]
fn the_verifiers_work_stays_far_below_its_limit() {
    let kernel = Kernel::load().unwrap_or_else(|error| panic!("{error:?}"));
    for (name, instructions) in kernel.verified() {
        println!("{name}: {instructions} instructions verified");
        assert!(instructions < LIMIT, "{name}: {instructions}");
    }
}
