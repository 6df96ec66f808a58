//! `shunt` with the layout of the feature `next-layout`.

#[path = "main.rs"]
mod shunt;

fn main() -> std::process::ExitCode {
    shunt::main()
}
