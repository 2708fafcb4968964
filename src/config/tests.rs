#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;

/// The settings from this file and these assignments, or what is said about them.
fn settings(file: &str, set: &[&str]) -> Result<Settings, (u8, String)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("osync.toml");
    fs::write(&path, file).unwrap();
    let given: Vec<_> = set
        .iter()
        .map(|text| Given::assignment(text).unwrap())
        .collect();
    load(Some(&path), &given).map_err(|error| {
        let text = error
            .to_string()
            .replace(&format!("{}/", dir.path().display()), "");
        (error.exit_code(), text)
    })
}

#[test]
fn defaults_are_valid_and_an_empty_file_changes_nothing() {
    assert_eq!(settings("", &[]).unwrap(), Settings::default());
    assert_eq!(load(None, &[]).unwrap(), Settings::default());
}

#[test]
fn the_command_line_wins() {
    let file = "window_bytes = '2MiB'\nwindow_messages = 100\nwatch = 'notify'\n";
    let set = [
        "window_messages=200",
        "log_format=json",
        "data = tcp://[::1]:0",
    ];
    let settings = settings(file, &set).unwrap();
    assert_eq!(settings.window_bytes, 2 * MIB);
    assert_eq!(settings.window_messages, 200);
    assert_eq!(settings.watch, WatchBackend::Notify);
    assert_eq!(settings.log_format, LogFormat::Json);
    assert_eq!(settings.data.to_string(), "tcp://[::1]:0");
}

#[test]
fn rules_stand_in_their_order() {
    let rules = |file: &str| {
        let settings = settings(file, &[]).unwrap();
        let rules = settings.filter.rules().iter();
        rules.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(rules("filter = ['+ */', '- *.tmp']\n"), ["+ */", "- *.tmp"]);
    let (code, text) = settings("\nfilter = ['- a', 'b']\n", &[]).unwrap_err();
    assert_eq!(code, 78);
    assert!(
        text.starts_with("osync.toml:2: filter: 'b': a rule is"),
        "{text}"
    );
}

#[test]
fn the_file_is_blamed_by_line_and_key() {
    let said = |file: &str| settings(file, &[]).unwrap_err();
    let messages = [
        "watch = 'inotify'\nwindow_byte = 1\n",
        "\n\nwindow_bytes = '1KiB'\n",
        "window_bytes = 'much'\n",
        "data_connections = 17\n",
        "data_connections = -1\n",
        "appliers = 'two'\n",
        "watch = 'fanotify'\n",
        "command = 'tcp://127.0.0.1:65536'\n",
        "brake_share = 0\n",
        "brake_share = 1.5\n",
        "events_warning = 0.9\n",
        "events_critical = nan\n",
        "heartbeat_ms = 10000\n",
        "hold_off_ms_max = 100\n",
        "no toml\n",
        "[section]\n",
    ]
    .map(|file| {
        let (code, text) = said(file);
        assert_eq!(code, 78, "{text}");
        text
    });
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn the_command_line_is_blamed_by_flag_and_key() {
    let messages = [
        "colour=red",
        "window_messages=1025",
        "events_warning=0.95",
        "read_lease=maybe",
    ]
    .map(|set| {
        let (code, text) = settings("", &[set]).unwrap_err();
        assert_eq!(code, 64, "{text}");
        text
    });
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn every_limit_includes_its_ends() {
    for (key, min, max) in [
        ("queue_entries_max", 1024, 16_777_216),
        ("in_flight_entries_max", 1024, 16_777_216),
        ("problems_max", 16, 1_000_000),
        ("links_max", 1024, 16_777_216),
        ("path_bytes_max", MIB, 16 * GIB),
        ("rescans_max", 1, 1_000_000),
        ("walk_dirs_max", 1, 16_777_216),
        ("renames_max", 1, 1_000_000),
        ("hot_files_max", 1, 1_000_000),
        ("never_settling_max", 1, 1_000_000),
        ("unwatched_max", 1, 1_000_000),
        ("streams_max", 1, 32),
        ("page_names_max", 1, 512),
        ("listing_cache_bytes", 64 * KIB, GIB),
        ("stages_max", 64, 1024),
        ("readers", 1, 64),
        ("appliers", 1, 64),
        ("data_connections", 1, 16),
        ("window_bytes", MIB, GIB),
        ("window_bytes_max", MIB, GIB),
        ("window_messages", 16, 1024),
        ("sync_interval_ms", 10, 60_000),
    ] {
        let is_valid = |value: u64| settings(&format!("{key} = {value}\n"), &[]).is_ok();
        assert!(is_valid(min) && is_valid(max), "{key}");
        assert!(!is_valid(min - 1) && !is_valid(max + 1), "{key}");
    }
}

#[test]
fn compression_is_a_word_or_a_level() {
    for (given, how) in [
        ("'auto'", Compression::Auto),
        ("'off'", Compression::Off),
        ("1", Compression::Level(1)),
        ("'19'", Compression::Level(19)),
    ] {
        let settings = settings(&format!("compression = {given}\n"), &[]).unwrap();
        assert_eq!(settings.compression, how, "{given}");
    }
    for given in ["0", "20", "-1", "257", "'on'", "''", "true", "1.5"] {
        let error = settings(&format!("compression = {given}\n"), &[]).unwrap_err();
        assert!(error.1.contains("a level from 1 to 19"), "{error:?}");
    }
}

#[test]
fn listening_for_other_hosts_must_be_asked_for() {
    let open = settings("command = 'tcp://0.0.0.0:7440'\n", &[]).unwrap();
    let error = open.check_listening().unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains("--insecure-bind"), "{error}");
    let allowed = Settings {
        insecure_bind: true,
        ..open
    };
    assert!(allowed.check_listening().is_ok());
}

#[test]
fn unusual_ports_draw_a_warning() {
    let unusual = settings("data = 'tcp://127.0.0.1:80'\n", &[]).unwrap();
    let warnings: Vec<_> = unusual.warnings().collect();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("data: port 80 is outside 1024 to 49151"),
        "{warnings:?}"
    );
}
