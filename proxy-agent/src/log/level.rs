//! kube-proxy's `-v` as levels.

use tracing_subscriber::EnvFilter;

use super::VARIABLE;

/// Libraries whose lines say what the agent says itself, or what nobody asked for.
const QUIET: &str =
    "hyper=info,hyper_util=info,h2=info,rustls=info,tower=info,kube_client=off,kube_runtime=off";

/// What is logged: by the environment, else by the number.
pub(super) fn filter(verbosity: u32) -> EnvFilter {
    EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(directives(verbosity)))
}

/// 0 to 3 are for operators, 4 and 5 for those who look for a fault, the rest for developers.
fn directives(verbosity: u32) -> String {
    let level = match verbosity {
        0..=3 => "info",
        4..=5 => "debug",
        _ => "trace",
    };
    format!("{level},{QUIET}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_levels() {
        for (verbosity, level) in [
            (0, "info"),
            (3, "info"),
            (4, "debug"),
            (5, "debug"),
            (6, "trace"),
            (10, "trace"),
        ] {
            assert!(
                directives(verbosity).starts_with(&format!("{level},")),
                "{verbosity}"
            );
            let filter = EnvFilter::try_new(directives(verbosity)).unwrap();
            assert_eq!(filter.max_level_hint().unwrap().to_string(), level);
        }
    }
}
