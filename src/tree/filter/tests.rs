#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

fn filter(rules: &str) -> Filter {
    Filter::new(Rule::parse_lines(rules.as_bytes()).unwrap()).unwrap()
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

#[test]
fn the_first_rule_that_matches_decides() {
    let some = filter("# sources alone\n\n; of these\n+ */\n+ *.c\r\n- *\n");
    assert!(!some.excludes(&path("a/b"), true) && !some.excludes(&path("a/b.c"), false));
    assert!(some.excludes(&path("a/b"), false) && some.excludes(&path("a/b.h"), false));
    assert!(!some.excludes_all(&path("a/b")) && !some.excludes(&RelPath::root(), true));
    let tops = filter("- /a/\n");
    assert!(tops.excludes_all(&path("a/b/c")) && !tops.excludes(&path("b/a"), true));
    assert_eq!(tops.why(&path("a/b"), false).unwrap().to_string(), "- /a/");
    assert!(!Filter::default().excludes(&path("a"), false));
}

#[test]
fn what_is_no_rule_is_refused_with_its_line() {
    for (rules, line, why) in [
        ("- a\nmerge b", 2, InvalidRule::Kind),
        (". file", 1, InvalidRule::Kind),
        ("-! a", 1, InvalidRule::Kind),
        ("H a", 1, InvalidRule::Kind),
        ("!", 1, InvalidRule::Kind),
        (" - a", 1, InvalidRule::Kind),
        ("# a\n- ", 2, InvalidRule::Empty),
        ("- a\0", 1, InvalidRule::Nul),
    ] {
        assert_eq!(
            Rule::parse_lines(rules.as_bytes()),
            Err((line, why)),
            "{rules}"
        );
    }
    let long = vec![b'x'; PATTERN_BYTES_MAX + 1];
    assert_eq!(Rule::exclude(&long), Err(InvalidRule::TooLong));
    assert_eq!(Rule::exclude(b"- a"), Err(InvalidRule::Signed));
    assert_eq!(Rule::include(b"!"), Err(InvalidRule::Signed));
}

#[test]
fn rules_are_limited_in_number_and_bytes() {
    let rule = Rule::exclude(b"a").unwrap();
    assert!(Filter::new(vec![rule.clone(); RULES_MAX]).is_ok());
    let many = Filter::new(vec![rule; RULES_MAX + 1]);
    assert_eq!(many, Err(InvalidRule::TooMany));
    let long = Rule::exclude(&[b'x'; 1000]).unwrap();
    let large = Filter::new(vec![long; RULES_BYTES_MAX / 1000 + 1]);
    assert_eq!(large, Err(InvalidRule::TooMany));
}

#[test]
fn travels_as_its_rules() {
    let some = filter("+ a*\n-_/b\n");
    let wire = rmp_serde::to_vec(&some).unwrap();
    assert_eq!(
        rmp_serde::from_slice::<Filter>(&wire).unwrap(),
        filter("+ a*\n- /b")
    );
    let none = rmp_serde::to_vec(&[ByteBuf::from(b"x".to_vec())]).unwrap();
    assert!(rmp_serde::from_slice::<Filter>(&none).is_err());
}

/// Time must not grow with the ways in which a pattern could match.
#[test]
fn hostile_patterns_cost_no_more_than_their_length() {
    let pattern = "**a*".repeat(250);
    let some = filter(&format!("- {pattern}b\n"));
    let text = "a/".repeat(2000) + "a";
    assert!(!some.excludes_entry(&path(&text), false));
}

// ---- against rsync ---------------------------------------------------------------------------------

/// A small generator (xorshift64*), so that a seed gives the same case everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn name(&mut self) -> String {
        let length = 1 + self.below(3);
        (0..length)
            .map(|_| self.one(&["a", "b", "c", "A", "-", "]", "*", "\\", "!", "1"]))
            .collect()
    }

    fn pattern(&mut self) -> String {
        let pieces = 1 + self.below(5);
        let mut pattern: String = (0..pieces)
            .map(|_| {
                self.one(&[
                    "a",
                    "b",
                    "c",
                    "ab",
                    "/",
                    "/",
                    "*",
                    "*",
                    "**",
                    "***",
                    "?",
                    "[ab]",
                    "[!a]",
                    "[^b]",
                    "[a-c]",
                    "[]a]",
                    "[a-]",
                    "[\\]b]",
                    "[[:alpha:]]",
                    "[[:digit:]-a]",
                    "[[:x:]]",
                    "[a",
                    "\\",
                    "\\*",
                    "-",
                    "[c-a]",
                    "[[:a]",
                    "1",
                    "A",
                    "[a-\\c]",
                    "!",
                ])
            })
            .collect();
        if self.below(4) == 0 {
            pattern.insert(0, '/');
        }
        pattern += self.one(&["", "", "", "/", "/***", "/**"]);
        pattern
    }

    fn rules(&mut self) -> String {
        let count = 1 + self.below(4);
        (0..count)
            .map(|_| format!("{} {}\n", self.one(&["+", "-", "-"]), self.pattern()))
            .collect()
    }
}

fn grow(random: &mut Random, dir: &Path, depth: usize) {
    for _ in 0..3 + random.below(3) {
        let at = dir.join(random.name());
        if depth > 0 && random.below(2) == 0 {
            if fs::create_dir(&at).is_ok() {
                grow(random, &at, depth - 1);
            }
        } else if !at.exists() {
            fs::write(&at, "").unwrap();
        }
    }
}

fn included(filter: &Filter, top: &Path, at: &RelPath, found: &mut BTreeSet<String>) {
    let dir = top.join(std::str::from_utf8(at.as_bytes()).unwrap());
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = at.join(&crate::tree::Name::new(name.as_bytes()).unwrap());
        let is_dir = entry.file_type().unwrap().is_dir();
        let excluded = filter.excludes_entry(&path, is_dir);
        assert_eq!(excluded, filter.excludes(&path, is_dir), "{path}");
        if !excluded {
            let text = std::str::from_utf8(path.as_bytes()).unwrap();
            found.insert(format!("{text}{}", if is_dir { "/" } else { "" }));
            if is_dir {
                included(filter, top, &path, found);
            }
        }
    }
}

fn included_by_rsync(rules: &Path, top: &Path, empty: &Path) -> BTreeSet<String> {
    let mut source = top.as_os_str().to_owned();
    source.push("/");
    let output = Command::new("rsync")
        .args(["-rn", "-8", "--out-format=%n"])
        .arg(format!("--filter=. {}", rules.display()))
        .args([source.as_os_str(), empty.as_os_str()])
        .output()
        .expect("rsync is installed; scripts/test installs it");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let names = lines.lines().filter(|line| *line != "./");
    names.map(str::to_owned).collect()
}

/// Random trees and random rules: what we include is what rsync would copy. `OSYNC_FILTER_SEED`
/// replays one seed, `OSYNC_FILTER_CASES` sets their number.
#[test]
fn includes_what_rsync_includes() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let one: Option<u64> = number("OSYNC_FILTER_SEED");
    let first = one.unwrap_or(since.as_nanos() as u64);
    let cases = if one.is_some() {
        1
    } else {
        number("OSYNC_FILTER_CASES").unwrap_or(50)
    };
    let place = tempfile::tempdir().unwrap();
    let empty = place.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let rules_file = place.path().join("rules");
    for seed in first..first + cases {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let top = place.path().join("tree");
        fs::create_dir(&top).unwrap();
        grow(&mut random, &top, 3);
        for _ in 0..4 {
            let rules = random.rules();
            fs::write(&rules_file, &rules).unwrap();
            let mut ours = BTreeSet::new();
            included(&filter(&rules), &top, &RelPath::root(), &mut ours);
            let theirs = included_by_rsync(&rules_file, &top, &empty);
            let differ: Vec<_> = ours.symmetric_difference(&theirs).collect();
            assert!(
                differ.is_empty(),
                "OSYNC_FILTER_SEED={seed}: with these rules\n{rules}one of us includes {differ:?}, \
                 of which rsync {:?}",
                differ
                    .iter()
                    .filter(|name| theirs.contains(**name))
                    .collect::<Vec<_>>()
            );
        }
        fs::remove_dir_all(&top).unwrap();
    }
}
