//! Packets to a Service and back, through the programs.

use lab::packet::{Kernel, wire};

#[test]
fn all_programs_verify() {
    wire::enter().unwrap();
    let start = std::time::Instant::now();
    let mut kernel = Kernel::load().unwrap();
    println!("load {:?}", start.elapsed());
    kernel.reset();
    println!("reset {:?}", start.elapsed());
}
