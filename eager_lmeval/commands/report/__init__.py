"""`eager-lmeval report`: what runs did, as one page that opens from disk, or as Markdown.

`content` reads runs into figures and documents, `trees` one document's tree, `prompts` finds its question, `packing`
packs it, `plots` draws, `page` and `markdown` write, `command` is the command. The scripts fetch nothing: each
document lies compressed in the page and is unpacked when it is looked at. All that a model wrote reaches the page as
text nodes.
"""
