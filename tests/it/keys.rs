//! Key files.

use std::thread;

use trunkline::*;

/// Servers that start together agree on the key.
#[test]
fn all_that_ask_for_a_key_file_or_a_new_one_get_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let path = folder.path().join(round.to_string());
        let keys: Vec<String> = thread::scope(|scope| {
            let all: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| Key::from_file_or_new(&path).unwrap().expose_hex().to_string()))
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(*Key::from_file(&path).unwrap().expose_hex(), keys[0]);
    }
    // What is there and is no key is not overwritten.
    let path = folder.path().join("text");
    std::fs::write(&path, "not a key").unwrap();
    assert!(Key::from_file_or_new(&path).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "not a key");
}

/// A name may be as long as the file system allows, and nothing is left beside the file.
#[test]
fn a_key_file_may_have_the_longest_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k".repeat(255));
    let key = Key::generate();
    key.write_new_file(&path).unwrap();
    assert_eq!(*Key::from_file(&path).unwrap().expose_hex(), *key.expose_hex());
    assert!(key.write_new_file(&path).is_err(), "it is there");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
