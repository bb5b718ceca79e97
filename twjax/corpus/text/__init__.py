"""The form of a text: characters, lines, boards, parts."""
