//! What fuzzing found before, and the seeds it began with, through every target again.

use std::{collections::BTreeSet, fs, path::Path};

use bty_fuzz::TARGETS;

#[test]
fn the_corpora_do_no_harm() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in TARGETS {
        let folder = corpus.join(target.name);
        let mut count = 0;
        for entry in fs::read_dir(&folder)
            .unwrap_or_else(|problem| panic!("{}: {problem}", folder.display()))
        {
            let path = entry.expect("an entry").path();
            println!("{}", path.display());
            (target.run)(&fs::read(&path).expect("a readable file"));
            count += 1;
        }
        assert!(count > 0, "{} has no corpus", target.name);
    }
}

#[test]
fn every_corpus_has_a_target() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(corpus).expect("the corpora") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(names.contains(&name), "{name} is no target");
    }
}
