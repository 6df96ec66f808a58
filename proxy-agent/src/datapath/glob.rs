//! Shell globs over whole interface names: `*`, `?`, `[a-c]`, `[!x]`.

/// Whether a name matches. Names are short: trying every place for a `*` costs nothing.
pub(super) fn matches(glob: &str, name: &str) -> bool {
    let (glob, name): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
    matches_from(&glob, &name)
}

fn matches_from(glob: &[char], name: &[char]) -> bool {
    let Some((symbol, rest)) = glob.split_first() else {
        return name.is_empty();
    };
    if *symbol == '*' {
        return (0..=name.len()).any(|taken| matches_from(rest, name.get(taken..).unwrap_or_default()));
    }
    let Some((letter, after)) = name.split_first() else {
        return false;
    };
    match (symbol, class(rest)) {
        ('[', Some((class, rest))) => holds(class, *letter) && matches_from(rest, after),
        ('?', _) => matches_from(rest, after),
        _ => symbol == letter && matches_from(rest, after),
    }
}

/// A class after its `[`: what is inside, and what follows the `]`. A `]` that comes first is a member.
fn class(glob: &[char]) -> Option<(&[char], &[char])> {
    let first = if glob.first() == Some(&'!') { 2 } else { 1 };
    let length = glob.iter().skip(first).position(|symbol| *symbol == ']')? + first;
    Some((glob.get(..length)?, glob.get(length + 1..)?))
}

fn holds(class: &[char], letter: char) -> bool {
    let (negated, mut members) = match class.split_first() {
        Some(('!', members)) => (true, members),
        _ => (false, class),
    };
    let mut found = false;
    while let Some((first, rest)) = members.split_first() {
        members = match rest {
            ['-', last, rest @ ..] => {
                found |= (*first..=*last).contains(&letter);
                rest
            }
            rest => {
                found |= *first == letter;
                rest
            }
        };
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        for (glob, name, expected) in [
            ("pod*", "pod1", true),
            ("pod*", "pod", true),
            ("pod*", "apod", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("veth?", "veth1", true),
            ("veth?", "veth", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("**a", "bba", true),
            ("veth[0-9]", "veth7", true),
            ("veth[0-9]", "vethx", false),
            ("veth[!0-9]*", "vethx1", true),
            ("veth[!0-9]*", "veth1", false),
            ("[]x]", "]", true),
            ("[abc-]", "-", true),
            ("[abc", "[abc", true),
            ("lxc[ab]*", "lxcb99", true),
        ] {
            assert_eq!(matches(glob, name), expected, "{glob} {name}");
        }
    }
}
