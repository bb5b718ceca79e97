"""Other ways to change weights than plain training: merging."""
