//! Pictures as files, for what cannot be shown.

use std::collections::HashMap;
use std::env;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use trunkline_kernel::layout::Picture;

/// So many files, for one console.
const MOST_FILES: usize = 1000;
/// The longest line that stands for a picture, in characters.
const LONGEST: usize = 200;

/// Files for pictures that cannot be shown.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    /// The file of each name that a picture can replace.
    named: HashMap<String, PathBuf>,
    count: usize,
}

impl Files {
    pub(crate) fn new(directory: Option<PathBuf>) -> Self {
        Self { directory: directory.unwrap_or_else(env::temp_dir), named: HashMap::new(), count: 0 }
    }

    /// Saves a picture. Returns the line that stands for it; `None` if one stands there already, since the
    /// picture replaces another, and its file has been written anew.
    pub(crate) fn save(&mut self, picture: &Picture) -> Option<String> {
        let text: String = picture.text.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
        let text = if text.is_empty() { format!("<{}>", safe(&picture.mime)) } else { text };
        let id = picture.id.as_ref().filter(|_| picture.replaces);
        if let Some(file) = id.and_then(|id| self.named.get(id)) {
            return match overwrite(file, &picture.body) {
                Ok(()) => None,
                Err(error) => Some(format!("{text} [not saved: {error}]")),
            };
        }
        if self.count >= MOST_FILES {
            return Some(format!("{text} [not saved: there are {MOST_FILES} files already]"));
        }
        match self.create(picture) {
            Ok(file) => {
                let line = format!("{text} [{}]", file.display());
                self.count += 1;
                if let Some(id) = &picture.id {
                    self.named.insert(id.clone(), file);
                }
                Some(line)
            }
            Err(error) => Some(format!("{text} [not saved in {}: {error}]", self.directory.display())),
        }
    }

    /// Only the user can read it.
    fn create(&self, picture: &Picture) -> io::Result<PathBuf> {
        let suffix = format!(".{}", extension(&picture.mime));
        let mut file =
            tempfile::Builder::new().prefix("picture-").suffix(&suffix).tempfile_in(&self.directory)?;
        file.write_all(&picture.body)?;
        let (_, path) = file.keep().map_err(|error| error.error)?;
        Ok(path)
    }
}

/// Writes a file anew, so that a viewer sees the old picture or the new one.
fn overwrite(file: &Path, body: &[u8]) -> io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(directory)?;
    new.write_all(body)?;
    new.persist(file).map_err(|error| error.error)?;
    Ok(())
}

fn extension(mime: &str) -> &'static str {
    match mime {
        "image/png" => "png",
        "image/jpeg" => "jpg",
        "image/gif" => "gif",
        "image/svg+xml" => "svg",
        "text/html" => "html",
        "application/pdf" => "pdf",
        _ => "bin",
    }
}

fn safe(mime: &str) -> String {
    mime.chars().filter(|c| c.is_ascii_graphic()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_that_replaces_another_has_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::new(Some(directory.path().to_owned()));
        let picture =
            |body: &'static [u8]| Picture::new("image/png", body).text("<a\x1b[2Jb>").replacing("one");
        let line = files.save(&picture(b"old")).unwrap();
        let (text, file) = line.split_once(" [").unwrap();
        let file = Path::new(file.strip_suffix(']').unwrap());
        assert_eq!((text, std::fs::read(file).unwrap().as_slice()), ("<a[2Jb>", &b"old"[..]));
        assert_eq!(files.save(&picture(b"new")), None);
        assert_eq!(std::fs::read(file).unwrap(), b"new");
    }

    #[test]
    fn files_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::new(Some(directory.path().to_owned()));
        let picture = Picture::new("image/png", "x");
        for _ in 0..MOST_FILES {
            files.save(&picture).unwrap();
        }
        assert!(files.save(&picture).unwrap().contains("not saved"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), MOST_FILES);
    }
}
