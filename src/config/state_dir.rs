//! Where state lies when nobody says where.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The state directory of a process: what its service manager gives (`STATE_DIRECTORY`, the first of
/// several), else `/var/lib/osync` for root, else `$XDG_STATE_HOME/osync`, which is
/// `~/.local/state/osync` where it is not set. `None` if the environment names no home either.
pub fn default_state_dir(is_root: bool, env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| {
        let value = env(name)?.into_vec();
        let first = value.split(|&byte| byte == b':').next().unwrap_or_default();
        let path = Path::new(std::ffi::OsStr::from_bytes(first));
        path.is_absolute().then(|| path.to_owned())
    };
    if let Some(given) = absolute("STATE_DIRECTORY") {
        return Some(given);
    }
    if is_root {
        return Some(PathBuf::from("/var/lib/osync"));
    }
    let state_home =
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state_home.join("osync"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_order_of_the_rules() {
        let dir = |is_root, vars: &[(&str, &str)]| {
            default_state_dir(is_root, |name| {
                vars.iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| value.into())
            })
            .map(|path| path.to_string_lossy().into_owned())
        };
        let home = ("HOME", "/home/u");
        let all = [
            ("STATE_DIRECTORY", "/run/s:/run/t"),
            ("XDG_STATE_HOME", "/x"),
            home,
        ];
        assert_eq!(dir(true, &all).as_deref(), Some("/run/s"));
        assert_eq!(dir(true, &all[1..]).as_deref(), Some("/var/lib/osync"));
        assert_eq!(dir(false, &all[1..]).as_deref(), Some("/x/osync"));
        assert_eq!(
            dir(false, &[home]).as_deref(),
            Some("/home/u/.local/state/osync")
        );
        let relative = [("XDG_STATE_HOME", "x"), home];
        assert_eq!(
            dir(false, &relative).as_deref(),
            Some("/home/u/.local/state/osync")
        );
        assert_eq!(dir(false, &[]), None);
    }
}
