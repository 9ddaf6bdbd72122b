use std::fs;

use xtask::workspace;

/// Page of the documentation, whose code blocks are tested.
pub struct Guide(String);

impl Guide {
    /// Reads the page at `path`, which is relative to the repository's root.
    pub fn read(path: &str) -> Self {
        let path = workspace::root().expect("the repository").join(path);
        Self(fs::read_to_string(path).expect("the guide"))
    }

    /// Returns the blocks of code in a language, in order.
    pub fn blocks(&self, language: &str) -> Vec<String> {
        let mut blocks = Vec::new();
        let mut lines = self.0.lines();
        while let Some(line) = lines.next() {
            if line.trim() == format!("```{language}") {
                let block: Vec<_> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
                blocks.push(block.join("\n"));
            }
        }
        blocks
    }

    /// Returns the only block that contains this line.
    pub fn block_with(&self, language: &str, line: &str) -> String {
        let mut blocks = self.blocks(language);
        blocks.retain(|block| block.lines().any(|of_block| of_block.trim() == line));
        assert_eq!(blocks.len(), 1, "blocks of {language} with {line:?}: {blocks:?}");
        blocks.remove(0)
    }
}
