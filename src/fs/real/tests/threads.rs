//! Many threads at once.

use super::*;

const THREADS: usize = 4;
const ROUNDS: usize = 150;

/// One thread's share: entries of its own, names that all fight for, and the stage's coming and going.
fn work(on: &RealFs, metas: &[Metadata; 3], thread: usize) {
    let [file_meta, dir_meta, link_meta] = metas;
    let root = on.root().unwrap();
    let shared = on.open_dir(&root, &name("shared")).unwrap();
    for round in 0..ROUNDS {
        let content = format!("{thread:03}{round:05}");
        let put = |dir: &RealDir, called: &str| {
            let mut stage = on.stage(&root, 0o600).unwrap();
            on.write_at(&stage, 0, content.as_bytes()).unwrap();
            on.publish(&mut stage, dir, &name(called), file_meta)
                .unwrap();
        };
        put(&shared, "one");
        on.publish_special(&shared, &name("link"), link_meta, b"target")
            .unwrap();
        let tree = name(format!("tree{thread}"));
        on.make_dir(&root, &tree, dir_meta).unwrap();
        let dir = on.open_dir(&root, &tree).unwrap();
        put(&dir, "a");
        put(&dir, "b");
        on.make_dir(&dir, &name("below"), dir_meta).unwrap();
        on.remove_tree(&root, &tree).unwrap();
        on.tidy().unwrap();
        let (file, _) = on.open(&shared, &name("one")).unwrap();
        let mut whole = [0; 16];
        assert_eq!(on.read_at(&file, 0, &mut whole).unwrap(), 8, "never torn");
        assert_eq!(
            on.stat_file(&file).unwrap().metadata(Xattrs::new()),
            *file_meta
        );
    }
}

#[test]
fn threads_do_not_disturb_each_other() {
    for on in [on_disk(), on_tmpfs(), with_named_stages()] {
        let root = on.fs.root().unwrap();
        on.mkdir(&root, "shared");
        let metas = [
            Metadata {
                size: 8,
                ..on.meta(Kind::File)
            },
            Metadata {
                mode: 0o755,
                ..on.meta(Kind::Dir)
            },
            Metadata {
                size: 6,
                ..on.meta(Kind::Symlink)
            },
        ];
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (fs, metas) = (&on.fs, &metas);
                scope.spawn(move || work(fs, metas, thread));
            }
        });
        on.fs.tidy().unwrap();
        let base = on.keep.downcast_ref::<tempfile::TempDir>().unwrap().path();
        let left: Vec<_> = std::fs::read_dir(base)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["shared"]);
        assert_eq!(on.names(&on.at("shared")).len(), 2);
    }
}
