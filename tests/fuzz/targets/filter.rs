//! Any text as a file of rules, and any bytes as paths: rules or an error, the same rules when they are
//! written down, and a verdict in bounded time.

use osync::tree::{Filter, RelPath, Rule};
use serde_bytes::ByteBuf;

/// Everything up to the first NUL is rules, the rest are paths, with NULs between them.
pub fn run(data: &[u8]) {
    let mut parts = data.split(|&byte| byte == 0);
    let text = parts.next().unwrap_or_default();
    let parsed = Rule::parse_lines(text);
    if let Err((line, why)) = &parsed {
        let lines = text.split(|&byte| byte == b'\n').count();
        assert!((1..=lines).contains(line), "line {line} of {lines}: {why}");
        return;
    }
    let Ok(filter) = Filter::new(parsed.unwrap_or_default()) else {
        return;
    };
    let written = Vec::<ByteBuf>::from(filter.clone());
    assert_eq!(Filter::try_from(written).as_ref(), Ok(&filter));
    for path in parts {
        if let Ok(path) = RelPath::new(path) {
            judge(&filter, &path);
        }
    }
}

fn judge(filter: &Filter, path: &RelPath) {
    for is_dir in [false, true] {
        let why = filter.why(path, is_dir);
        assert_eq!(filter.excludes(path, is_dir), why.is_some());
        assert!(why.is_none_or(|rule| rule.to_string().starts_with('-')));
        if path.is_root() {
            assert!(why.is_none(), "the root is excluded");
        }
        // What lies in an excluded directory is excluded with it.
        if let Some((above, _)) = path.split()
            && filter.excludes(&above, true)
        {
            assert!(why.is_some(), "{path} is included in an excluded directory");
        }
        // An entry that its directory does not exclude is judged by itself.
        let above = path
            .split()
            .is_some_and(|(above, _)| filter.excludes(&above, true));
        if !above {
            assert_eq!(filter.excludes_entry(path, is_dir), why.is_some());
        }
    }
}
