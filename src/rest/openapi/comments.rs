//! The comments of the contract, which the descriptors carry.

use prost_reflect::{DescriptorPool, FileDescriptor};
use std::collections::HashMap;

/// All comments, by file and place.
#[derive(Debug, Default)]
pub(super) struct Comments(HashMap<(String, Vec<i32>), String>);

impl Comments {
    /// The comments of all files.
    pub(super) fn of(pool: Option<&DescriptorPool>) -> Self {
        let mut comments = HashMap::new();
        for file in pool.into_iter().flat_map(DescriptorPool::files) {
            let info = file.file_descriptor_proto().source_code_info.as_ref();
            for location in info.into_iter().flat_map(|info| &info.location) {
                if let Some(comment) = &location.leading_comments {
                    comments.insert((file.name().to_owned(), location.path.clone()), text(comment));
                }
            }
        }
        Self(comments)
    }

    /// What stands at a place; empty when nothing does.
    pub(super) fn at(&self, file: &FileDescriptor, path: &[i32]) -> String {
        let place = (file.name().to_owned(), path.to_vec());
        self.0.get(&place).cloned().unwrap_or_default()
    }
}

/// A comment as paragraphs, each in one line.
fn text(comment: &str) -> String {
    let lines: Vec<&str> = comment.lines().map(str::trim).collect();
    let paragraphs = lines.split(|line| line.is_empty()).filter(|lines| !lines.is_empty());
    paragraphs.map(|lines| lines.join(" ")).collect::<Vec<_>>().join("\n\n")
}

/// The first sentence of a text.
pub(super) fn first_sentence(text: &str) -> String {
    match text.split_once(". ") {
        Some((first, _)) => format!("{first}."),
        None => text.lines().next().unwrap_or_default().to_owned(),
    }
}
