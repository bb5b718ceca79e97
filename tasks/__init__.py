"""SeqIO registries: declarations only; the functions that they name live in `twjax.data`.

A configuration chooses them with a line such as `import tasks.taiwan`; nothing in `twjax` imports
them. Tasks are declared without a vocabulary and importing them reads nothing: a run's
configuration binds its vocabulary when rows are cached.

Names begin with what the text is: `tw_` Taiwan's Traditional Chinese, `cn_` Simplified Chinese,
`en_` English. Folders made by `twjax corpus build` need no declaration here: `Data.corpora` names
them. `twjax.data.sources.add_corpus` declares one with other preprocessors.
"""
