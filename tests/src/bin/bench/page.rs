//! docs/performance.md: what stands between the marks of a part of the bench is written by that part.

use std::path::Path;

use anyhow::{Context, Result};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.md");

/// The lines around a part.
fn marks(part: &str) -> [String; 2] {
    ["begin", "end"].map(|end| format!("<!-- cargo xtask bench {part}: {end} -->\n"))
}

/// Puts a section between the page's marks.
pub(crate) fn write(part: &str, section: &str) -> Result<()> {
    let page = Path::new(PAGE);
    let text = std::fs::read_to_string(page).with_context(|| format!("reading {}", page.display()))?;
    let [begin, end] = marks(part);
    let text = replaced(&text, part, section).with_context(|| {
        format!(
            "{} has no lines {} and {}",
            page.display(),
            begin.trim(),
            end.trim()
        )
    })?;
    std::fs::write(page, text).with_context(|| format!("writing {}", page.display()))?;
    println!("bench: wrote docs/performance.md");
    Ok(())
}

fn replaced(page: &str, part: &str, section: &str) -> Option<String> {
    let [begin, end] = marks(part);
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{section}{end}{after}"))
}

/// A number of 0 and more, its whole part in groups of three digits: 12345.6 as 12,346.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_of_the_part_changes() {
        let page = |section: &str| {
            let [[a, b], [c, d]] = [marks("one"), marks("other")];
            format!("before\n{a}{section}{b}between\n{c}old\n{d}after\n")
        };
        assert_eq!(replaced(&page("old\n"), "one", "new\n").unwrap(), page("new\n"));
        assert_eq!(replaced("no marks", "one", "new\n"), None);
        assert_eq!(replaced(&page(""), "third", "new\n"), None);
    }

    #[test]
    fn the_page_has_the_marks_of_all_parts() {
        let text = std::fs::read_to_string(PAGE).unwrap();
        for part in ["packets", "live", "connect", "flood", "scale"] {
            assert!(replaced(&text, part, "").is_some(), "{part}");
        }
    }

    #[test]
    fn numbers_are_grouped_by_three_digits() {
        assert_eq!(
            [7.0, 1000.0, 12_345.4, 1_234_567.0].map(grouped),
            ["7", "1,000", "12,345", "1,234,567"]
        );
    }
}
