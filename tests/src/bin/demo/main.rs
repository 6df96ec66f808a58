//! `cargo xtask demo`: a two-node cluster of network namespaces serves a Kubernetes Service through Shunt.

mod report;
mod story;

use std::process::ExitCode;

use report::Report;

fn main() -> ExitCode {
    let mut report = Report::default();
    let told = story::tell(&mut report);
    report.summary();
    match told {
        Ok(()) if report.is_right() => {
            println!("\nEvery count is right.");
            ExitCode::SUCCESS
        }
        Ok(()) => {
            eprintln!("\nSome counts are wrong: see above.");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
