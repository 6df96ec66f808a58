use std::fs;
use std::time::Duration;

use super::*;
use crate::source::{Change, Object, ObjectKey};

struct Bench {
    path: PathBuf,
    receiver: mpsc::Receiver<Batch>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).ok();
    }
}

fn new_folder(test: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("shunt-folder-{}-{test}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    path
}

fn watch(path: PathBuf) -> Bench {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(Folder::watch(&path).unwrap().run(sender));
    Bench { path, receiver }
}

impl Bench {
    async fn batch(&mut self) -> Batch {
        tokio::time::timeout(Duration::from_secs(10), self.receiver.recv())
            .await
            .unwrap()
            .unwrap()
    }

    /// All changes until this file has been read.
    async fn changes_until(&mut self, file: &str) -> Vec<Change> {
        let mut changes = Vec::new();
        loop {
            let batch = self.batch().await;
            changes.extend(batch.changes);
            if batch.files.iter().any(|name| name == file) {
                return changes;
            }
        }
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path.join(file), text).unwrap();
    }

    /// Writes beside the folder and moves in, so that the file arrives in one event.
    fn move_in(&self, file: &str, text: &str) {
        let beside = self.path.with_extension("new");
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, self.path.join(file)).unwrap();
    }
}

fn node(name: &str) -> String {
    format!("{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}}}\n")
}

fn upserted(changes: &[Change]) -> Vec<String> {
    let name = |change: &Change| match change {
        Change::Upsert(Object::Node(node)) => node.metadata.name.to_string(),
        other => panic!("{other:?}"),
    };
    changes.iter().map(name).collect()
}

#[tokio::test]
async fn the_first_batch_is_the_whole_folder() {
    let path = new_folder("first");
    for (file, name) in [
        ("b.yml", "b"),
        ("a.yaml", "a"),
        ("c.json", "c"),
        (".a.yaml", "hidden"),
        ("d.yaml~", "old"),
    ] {
        fs::write(path.join(file), node(name)).unwrap();
    }
    let mut bench = watch(path);
    let batch = bench.batch().await;
    assert_eq!(batch.files, ["a.yaml", "b.yml", "c.json"]);
    assert_eq!(upserted(&batch.changes), ["a", "b", "c"]);
}

#[tokio::test]
async fn files_come_change_and_go() {
    let mut bench = watch(new_folder("life"));
    assert!(bench.batch().await.files.is_empty());
    bench.write("a.yaml", &node("a"));
    assert_eq!(upserted(&bench.changes_until("a.yaml").await), ["a"]);
    bench.move_in("a.yaml", &(node("a") + "---\n" + &node("b")));
    assert_eq!(upserted(&bench.changes_until("a.yaml").await), ["b"]);
    fs::rename(bench.path.join("a.yaml"), bench.path.join("a.off")).unwrap();
    let keys = |changes: Vec<Change>| changes.iter().map(Change::key).collect::<Vec<_>>();
    let gone = [ObjectKey::Node("a".into()), ObjectKey::Node("b".into())];
    assert_eq!(keys(bench.changes_until("a.yaml").await), gone);
    std::os::unix::fs::symlink("a.off", bench.path.join("z.yaml")).unwrap();
    assert_eq!(upserted(&bench.changes_until("z.yaml").await), ["a", "b"]);
    fs::remove_file(bench.path.join("z.yaml")).unwrap();
    assert_eq!(keys(bench.changes_until("z.yaml").await), gone);
}

#[tokio::test]
async fn a_broken_file_leaves_its_last_good_objects() {
    let mut bench = watch(new_folder("broken"));
    bench.batch().await;
    bench.move_in("a.yaml", &node("a"));
    bench.changes_until("a.yaml").await;
    bench.move_in("a.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: [a]}\n");
    let batch = bench.batch().await;
    assert!(batch.changes.is_empty() && batch.files.is_empty(), "{batch:?}");
    assert!(
        batch.refusals[0]
            .to_string()
            .starts_with("a.yaml:3:18: metadata.name: "),
        "{batch:?}"
    );
    bench.move_in("a.yaml", &(node("a") + "---\n" + &node("b")));
    assert_eq!(upserted(&bench.changes_until("a.yaml").await), ["b"]);
}

#[tokio::test]
async fn what_arrives_together_is_one_batch() {
    let mut bench = watch(new_folder("together"));
    bench.batch().await;
    // The watcher runs on this thread, so it can't see any of the files before all are there.
    for name in ["a", "b", "c"] {
        bench.move_in(&format!("{name}.yaml"), &node(name));
    }
    let batch = bench.batch().await;
    assert_eq!(batch.files, ["a.yaml", "b.yaml", "c.yaml"]);
    assert_eq!(upserted(&batch.changes), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_config_map_volume_changes_all_at_once() {
    let path = new_folder("volume");
    let version = |name: &str, node_name: &str| {
        fs::create_dir(path.join(name)).unwrap();
        fs::write(path.join(name).join("a.yaml"), node(node_name)).unwrap();
    };
    version("..1", "one");
    std::os::unix::fs::symlink("..1", path.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/a.yaml", path.join("a.yaml")).unwrap();
    let mut bench = watch(path.clone());
    assert_eq!(upserted(&bench.batch().await.changes), ["one"]);
    version("..2", "two");
    std::os::unix::fs::symlink("..2", path.join("..data_tmp")).unwrap();
    fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
    let changes = bench.changes_until("a.yaml").await;
    assert_eq!(changes[0], Change::Delete(ObjectKey::Node("one".into())));
    assert_eq!(upserted(&changes[1..]), ["two"]);
}

#[tokio::test]
async fn a_lost_event_means_to_read_all_anew() {
    let mut wanted = Wanted::default();
    wanted.note(Path::new("/"), EventMask::Q_OVERFLOW, None);
    assert!(wanted.rescan);
    let path = new_folder("overflow");
    fs::write(path.join("a.yaml"), node("a")).unwrap();
    let mut folder = Folder::watch(&path).unwrap();
    folder.files.rescan().unwrap();
    fs::write(path.join("b.yaml"), node("b")).unwrap();
    fs::remove_file(path.join("a.yaml")).unwrap();
    let batch = folder.files.rescan().unwrap();
    fs::remove_dir_all(&path).unwrap();
    assert_eq!(batch.changes[0], Change::Delete(ObjectKey::Node("a".into())));
    assert_eq!(upserted(&batch.changes[1..]), ["b"]);
}

#[tokio::test]
async fn a_folder_that_is_missing_or_goes_is_named() {
    let path = new_folder("gone");
    let error = Folder::watch(&path.join("no")).err().unwrap().to_string();
    assert!(error.contains("/no: No such file"), "{error}");
    let (sender, mut receiver) = mpsc::channel(1);
    let run = tokio::spawn(Folder::watch(&path).unwrap().run(sender));
    receiver.recv().await.unwrap();
    fs::remove_dir_all(&path).unwrap();
    let error = run.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("is gone: put it back"), "{error}");
}

#[tokio::test]
async fn files_that_were_never_read_are_told_of_until_they_are_good_or_gone() {
    let path = new_folder("unread");
    fs::write(path.join("good.yaml"), node("good")).unwrap();
    fs::write(path.join("bad.yaml"), "[").unwrap();
    fs::write(path.join("worse.yaml"), "[").unwrap();
    let mut bench = watch(path);
    assert!(bench.batch().await.has_unread_files);
    bench.move_in("bad.yaml", &node("bad"));
    assert!(bench.batch().await.has_unread_files);
    fs::remove_file(bench.path.join("worse.yaml")).unwrap();
    assert!(!bench.batch().await.has_unread_files);
    // A file that was good once is known by its last good state.
    bench.move_in("bad.yaml", "[");
    let batch = bench.batch().await;
    assert!(!batch.has_unread_files && !batch.refusals.is_empty(), "{batch:?}");
}
